//! zstd frames remembered between builds, so that only what changed is compressed again.

use std::fs;

use anyhow::{Context, Result};

use debian::cache::Cache;

/// `bytes`, whose SHA-256 is given, as one zstd frame of this level.
pub fn frame(bytes: &[u8], sha256: &[u8; 32], level: i32, cache: &Cache) -> Result<Vec<u8>> {
    // Another release of zstd may pack the same bytes otherwise.
    let zstd = zstd::zstd_safe::version_number();
    let key = format!("zstd {zstd} {level} {}", formats::hex::encode(sha256));
    let path = cache.derived(&key, |out| {
        let frame = zstd::bulk::compress(bytes, level).context("zstd could not compress")?;
        out.write_all(&frame).context("cannot write into the cache")
    })?;
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
