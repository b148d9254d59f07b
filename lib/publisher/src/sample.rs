//! Small real updates to try a repository with, in tests and examples: real ones come from `imager
//! build`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use ed25519_dalek::{Signer, SigningKey};
use formats::manifest::{Manifest, encode_header, key_id};
use formats::payload::{Chunk, ChunkTable};
use sha2::{Digest, Sha256};

use crate::keys;

const CHUNK: u64 = 65536;

/// A real update of a few chunks, one of them all zeros.
pub fn update(
    dir: &Path,
    keys: &Path,
    board: &str,
    version: &str,
    sequence: u64,
) -> Result<PathBuf> {
    let byte = |i| if i / CHUNK == 1 { 0 } else { (i * i % 251) as u8 ^ sequence as u8 };
    let stream: Vec<u8> = (0..5 * CHUNK / 2).map(byte).collect();
    update_of(&stream, dir, keys, board, version, sequence)
}

/// A real update with this slot stream, whose last block stands for the verity tree.
pub fn update_of(
    stream: &[u8],
    dir: &Path,
    keys: &Path,
    board: &str,
    version: &str,
    sequence: u64,
) -> Result<PathBuf> {
    let (mut chunks, mut frames) = (Vec::new(), Vec::new());
    for plain in stream.chunks(CHUNK as usize) {
        let zeros = plain.iter().all(|b| *b == 0);
        let frame = if zeros { Vec::new() } else { zstd::bulk::compress(plain, 3)? };
        chunks.push(Chunk { compressed: frame.len() as u32, sha256: Sha256::digest(plain).into() });
        frames.extend(frame);
    }
    let table =
        ChunkTable::new(chunks, CHUNK, stream.len() as u64).map_err(|e| anyhow!(e))?.to_bytes();
    let manifest = Manifest {
        board: board.into(),
        name: "demo".into(),
        version: version.into(),
        sequence,
        rollback_floor: 0,
        root_size: 65536,
        root_hash_size: 4096,
        root_verity_hash: [1; 32],
        root_verity_salt: [2; 32],
        boot_size: stream.len() as u64 - 65536 - 4096,
        chunk_size: CHUNK,
        chunk_table_sha256: Sha256::digest(&table).into(),
        boot_files: vec![],
        models: vec![],
    }
    .to_text();
    let key: SigningKey = keys::load_signing(&keys::private_path(keys, keys::IMAGE))?;
    let id = key_id(key.verifying_key().as_bytes());
    let header = encode_header(&manifest, &[(id, key.sign(manifest.as_bytes()).to_bytes())]);
    let path = dir.join(format!("{board}-{version}-{sequence}.update"));
    let header = header.map_err(|e| anyhow!(e))?;
    fs::write(&path, [header, table, frames].concat())
        .with_context(|| path.display().to_string())?;
    Ok(path)
}
