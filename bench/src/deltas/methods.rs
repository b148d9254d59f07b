//! The methods to bring a new version that Ferrite's delta is compared with, and Ferrite's own other ones.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::ferrite::Origin;
use super::result_cache::{self, ResultCache};
use super::slot_stream::SlotStream;
use super::{Pair, casync};
use crate::workspace::{length, output};

/// A method to bring a new version to a device that has an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// bsdiff 4: matches with small differences, bzip2 inside.
    Bsdiff,
    /// xdelta3's copies, then zstd.
    Xdelta,
    /// zstd with the old image as its dictionary.
    ZstdPatch,
    /// RAUC's adaptive update: blocks by hash.
    Blocks,
    /// Chunks cut by their content.
    Casync,
    /// Our block index.
    Index,
    /// All of our payload.
    Payload,
}

impl Method {
    /// In the order of the table.
    pub const ALL: [Method; 7] = [
        Method::Bsdiff,
        Method::Xdelta,
        Method::ZstdPatch,
        Method::Blocks,
        Method::Casync,
        Method::Index,
        Method::Payload,
    ];

    /// What its row is called.
    pub fn title(self) -> &'static str {
        match self {
            Method::Bsdiff => "bsdiff",
            Method::Xdelta => "xdelta3 -9, then zstd -19",
            Method::ZstdPatch => "zstd -19 --patch-from",
            Method::Blocks => "4 KiB blocks by hash, missing ones zstd -19, with the index",
            Method::Casync => "casync chunks",
            Method::Index => "our block index",
            Method::Payload => "our payload, whole",
        }
    }

    /// Whether it copies exact runs: what our delta may be 1.02 times as large as at most.
    pub fn copies(self) -> bool {
        matches!(self, Method::Xdelta | Method::ZstdPatch | Method::Blocks | Method::Casync)
    }

    /// The program it needs, which is also its package.
    fn program(self) -> Option<&'static str> {
        match self {
            Method::Bsdiff => Some("bsdiff"),
            Method::Xdelta => Some("xdelta3"),
            Method::Casync => Some("casync"),
            Method::ZstdPatch | Method::Blocks => Some("zstd"),
            Method::Index | Method::Payload => None,
        }
    }

    fn is_there(self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        self.program().is_none_or(|name| {
            std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
        })
    }
}

/// A line for each program that is not there.
pub fn missing() -> Vec<String> {
    let missing = Method::ALL.into_iter().filter(|method| !method.is_there());
    missing
        .map(|method| {
            let program = method.program().unwrap_or_default();
            format!(
                "{}: not measured, {program} is not installed (package {program})",
                method.title()
            )
        })
        .collect()
}

/// Bytes on the wire by each method whose program is there.
pub fn measure(
    folder: &Path,
    pair: &Pair,
    files: &result_cache::Pair,
    cache: &mut ResultCache,
) -> Result<Vec<(Method, Option<u64>)>> {
    let mut figures = Vec::new();
    for method in Method::ALL {
        let figure = match method.is_there() {
            true => Some(cache.or(method.title(), files, || bytes(method, folder, pair))?),
            false => None,
        };
        figures.push((method, figure));
    }
    Ok(figures)
}

fn bytes(method: Method, folder: &Path, pair: &Pair) -> Result<u64> {
    eprintln!("bench: deltas: {}: {}", pair.title, method.title());
    let scratch = tempfile::tempdir_in(folder).context("a folder for what is made")?;
    let made = scratch.path().join("made");
    let (old, new) = (&pair.old, &pair.new);
    match method {
        Method::Bsdiff => {
            output(Command::new("bsdiff").args([old, new, &made]))?;
            length(&made)
        }
        Method::Xdelta => {
            // As much of the old image as there is; zstd does what its own compression would.
            let window = length(old)?.next_power_of_two().to_string();
            let mut command = Command::new("xdelta3");
            command.args(["-9", "-S", "none", "-B", &window, "-e", "-s"]);
            output(command.args([old, new, &made]))?;
            zstd(&[], &made, &scratch.path().join("packed"))
        }
        Method::ZstdPatch => {
            // The window has to reach from the new image's end to the old one's start.
            let bits = (length(old)? + length(new)?).next_power_of_two().trailing_zeros();
            let long = format!("--long={}", bits.clamp(27, 31));
            let from = format!("--patch-from={}", old.display());
            zstd(&["--ultra", &long, &from], new, &made)
        }
        Method::Blocks => blocks(old, new, scratch.path()),
        Method::Casync => casync::fetched(old, new, scratch.path()),
        Method::Index | Method::Payload => {
            let stream = match &pair.origin {
                Origin::Updates { new, .. } => SlotStream::read(new)?,
                Origin::Files => SlotStream::of(read(new)?)?,
            };
            match method {
                Method::Index => stream.by_index(&read(old)?),
                _ => Ok(stream.payload()),
            }
        }
    }
}

/// Bytes of a block, and of its SHA-256 in the index.
const BLOCK: usize = 4096;
const HASH: usize = 32;

fn blocks(old: &Path, new: &Path, scratch: &Path) -> Result<u64> {
    let (old, new) = (read(old)?, read(new)?);
    let missing = scratch.join("missing");
    let mut file = File::create(&missing).with_context(|| missing.display().to_string())?;
    for block in missing_blocks(&old, &new) {
        file.write_all(block).with_context(|| missing.display().to_string())?;
    }
    let index = new.len().div_ceil(BLOCK) * HASH;
    Ok(index as u64 + zstd(&[], &missing, &scratch.join("packed"))?)
}

/// The blocks of `new` that neither `old` nor a block before them has.
fn missing_blocks<'a>(old: &[u8], new: &'a [u8]) -> Vec<&'a [u8]> {
    let mut there: HashSet<_> = old.chunks(BLOCK).map(Sha256::digest).collect();
    new.chunks(BLOCK).filter(|block| there.insert(Sha256::digest(block))).collect()
}

/// The size of `file`, packed.
fn zstd(options: &[&str], file: &Path, packed: &Path) -> Result<u64> {
    let mut command = Command::new("zstd");
    command.args(["--quiet", "-19"]).args(options).arg(file).arg("-o").arg(packed);
    output(&mut command)?;
    length(packed)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_missing_once() {
        let block = |byte: u8| vec![byte; BLOCK];
        let old = [block(1), block(2)].concat();
        let new = [block(2), block(3), block(3), block(1), vec![4; 5]].concat();
        let missing = missing_blocks(&old, &new);
        assert_eq!(missing, [&block(3)[..], &[4; 5]]);
    }

    #[test]
    fn the_bar_of_copying_ways_is_that_of_the_issue() {
        let copying: Vec<_> = Method::ALL.into_iter().filter(|method| method.copies()).collect();
        assert_eq!(copying, [Method::Xdelta, Method::ZstdPatch, Method::Blocks, Method::Casync]);
    }
}
