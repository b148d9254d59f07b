//! Reading an `.update` file on the host and checking all of it.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use formats::block_index;
use formats::manifest::{HEADER_SIZE, Header, Manifest, TrustedKeys};
use formats::payload::{self, ChunkTable};
use sha2::{Digest, Sha256};

/// An `.update` file of which every byte was checked.
#[derive(Debug, Clone)]
pub struct VerifiedUpdate {
    /// What it installs.
    pub manifest: Manifest,
    /// SHA-256 of its slot header, in hex.
    pub header_sha256: String,
    /// SHA-256 of the whole file, in hex.
    pub sha256: String,
    /// Bytes of the whole file.
    pub length: u64,
}

/// An update of which every byte was checked, with what it writes.
#[derive(Debug)]
pub struct Unpacked {
    /// SHA-256 of its slot header, in hex.
    pub header_sha256: String,
    /// Its chunks.
    pub table: ChunkTable,
    /// Boot image and root, as they lie in the slot stream; the verity tree is left out.
    pub stream: Vec<u8>,
}

/// Checks the signature, the chunk table, every chunk, and that nothing follows.
pub fn verify(path: &Path, keys: &TrustedKeys) -> Result<VerifiedUpdate> {
    check_file(path, keys, |_| ()).map(|(update, _)| update)
}

/// As [`verify`], and keeps what the chunks hold.
pub fn unpack(path: &Path, keys: &TrustedKeys) -> Result<Unpacked> {
    let mut stream = Vec::new();
    let (update, table) = check_file(path, keys, |chunk| stream.extend_from_slice(chunk))?;
    stream.truncate(block_index::covered(&update.manifest) as usize);
    Ok(Unpacked { header_sha256: update.header_sha256, table, stream })
}

fn check_file(
    path: &Path,
    keys: &TrustedKeys,
    keep: impl FnMut(&[u8]),
) -> Result<(VerifiedUpdate, ChunkTable)> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    check_stream(&mut BufReader::with_capacity(1 << 20, file), keys, keep)
        .with_context(|| format!("{} is not a valid update", path.display()))
}

/// Checks that a header's bytes that belong to no part of it are zeros, as the format has them.
/// No signature covers them.
pub fn check_rest_of_header(bytes: &[u8]) -> Result<()> {
    let header = Header::new(bytes).map_err(|e| anyhow!(e))?;
    let manifest = Header::verified_before(&header).map_err(|e| anyhow!(e))?;
    let signatures: Vec<_> = header.signatures().collect();
    let expected = formats::manifest::encode_header(&manifest.to_text(), &signatures);
    if expected.map_err(|e| anyhow!(e))? != bytes {
        bail!("the slot header has bytes that belong to no part of it");
    }
    Ok(())
}

/// `keep` is given each chunk that is the one its table names, in order.
fn check_stream(
    input: &mut impl Read,
    keys: &TrustedKeys,
    mut keep: impl FnMut(&[u8]),
) -> Result<(VerifiedUpdate, ChunkTable)> {
    let mut hash = Sha256::new();
    let mut take = |length: usize, what: &str| -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        input.read_exact(&mut bytes).with_context(|| format!("it ends within its {what}"))?;
        hash.update(&bytes);
        Ok(bytes)
    };
    let header = take(HEADER_SIZE, "slot header")?;
    let manifest = Header::new(&header).and_then(|h| h.verify(keys)).map_err(|e| anyhow!(e))?;
    check_rest_of_header(&header)?;
    let table_size = payload::table_size(&manifest).map_err(|e| anyhow!(e))?;
    let table =
        ChunkTable::parse(&take(table_size, "chunk table")?, &manifest).map_err(|e| anyhow!(e))?;
    let mut decompressor = zstd::bulk::Decompressor::new().context("cannot start zstd")?;
    for (index, chunk) in table.chunks().iter().enumerate() {
        let range = table.stream_range(index);
        let length = (range.end - range.start) as usize;
        let plain = match chunk.compressed {
            0 => vec![0; length],
            compressed => {
                let frame = take(compressed as usize, "chunks")?;
                decompressor
                    .decompress(&frame, length)
                    .with_context(|| format!("chunk {index} is not a zstd frame of its size"))?
            }
        };
        if plain.len() != length || Sha256::digest(&plain)[..] != chunk.sha256 {
            bail!("chunk {index} is not the one its table names");
        }
        keep(&plain);
    }
    if input.read(&mut [0]).context("cannot read its end")? != 0 {
        bail!("something follows its last chunk");
    }
    let update = VerifiedUpdate {
        header_sha256: formats::hex::encode(&Sha256::digest(&header)),
        sha256: formats::hex::encode(&hash.finalize()),
        length: table.file_size(),
        manifest,
    };
    Ok((update, table))
}
