//! What is signed of a version, read from its update.

use anyhow::{Context, Result};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use formats::manifest::{HEADER_SIZE, Header, Manifest, TrustedKeys};
use formats::payload::{self, ChunkTable};
use qemu_tests::fixture::{self, Built};

/// Its header, what that says, and the hash of each chunk.
pub fn head(built: &Built) -> Result<(Vec<u8>, Manifest, ChunkTable)> {
    let update = std::fs::read(&built.update).with_context(|| built.version.clone())?;
    let (header, rest) = update.split_at_checked(HEADER_SIZE).context("the update is cut off")?;
    let pem = std::fs::read_to_string(fixture::image_key()?).context("the images' key")?;
    let key = VerifyingKey::from_public_key_pem(&pem).context("the images' key")?;
    let mut keys = TrustedKeys::default();
    keys.add_hex(&formats::hex::encode(key.as_bytes()))?;
    let manifest = Header::new(header)?.verify(&keys)?;
    let table = rest.get(..payload::table_size(&manifest)?).context("the update is cut off")?;
    let table = ChunkTable::parse(table, &manifest)?;
    Ok((header.to_vec(), manifest, table))
}

/// Where the chunks lie in the file of its update.
pub fn chunks(built: &Built) -> Result<std::ops::Range<u64>> {
    let (_, _, table) = head(built)?;
    Ok(table.file_range(0).start..table.file_size())
}
