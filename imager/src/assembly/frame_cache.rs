//! zstd frames remembered between builds, so that only what changed is compressed again.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Remembers compressed bytes by the hash of what was compressed.
pub trait FrameCache: Sync {
    /// The frame kept under this key, if it is still there.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Keeps a frame; failing to is not an error.
    fn put(&self, key: &str, frame: &[u8]);
}

/// `bytes`, whose SHA-256 is given, as one zstd frame of this level.
pub fn frame(bytes: &[u8], sha256: &[u8; 32], level: i32, cache: &impl FrameCache) -> Result<Vec<u8>> {
    let key = format!("zstd{level}-{}", slot::hex::encode(sha256));
    if let Some(frame) = cache.get(&key).filter(|frame| holds(frame, bytes.len(), sha256)) {
        return Ok(frame);
    }
    let frame = zstd::bulk::compress(bytes, level).context("zstd could not compress")?;
    cache.put(&key, &frame);
    Ok(frame)
}

/// Whether a kept frame still unpacks to what it was made of: a cache is not trusted.
fn holds(frame: &[u8], length: usize, sha256: &[u8; 32]) -> bool {
    zstd::bulk::decompress(frame, length).is_ok_and(|bytes| Sha256::digest(&bytes)[..] == *sha256)
}

#[cfg(test)]
pub mod memory {
    //! A cache for tests.

    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    /// Keeps frames in memory.
    #[derive(Default)]
    pub struct Memory(pub Mutex<BTreeMap<String, Vec<u8>>>);

    impl super::FrameCache for Memory {
        fn get(&self, key: &str) -> Option<Vec<u8>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
        }
        fn put(&self, key: &str, frame: &[u8]) {
            let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            map.insert(key.to_owned(), frame.to_vec());
        }
    }
}
