//! The ways to bring a new version that ours is compared with, and our own other roads.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::known::{self, Known};
use super::ours::Origin;
use super::roads::SlotStream;
use super::{Pair, casync};
use crate::workshop::{length, output};

/// A way to bring a new version to a device that has an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// bsdiff 4: matches with small differences, bzip2 inside.
    Bsdiff,
    /// xdelta3's copies, then zstd.
    Xdelta,
    /// zstd with the old image as its dictionary.
    ZstdPatch,
    /// RAUC's adaptive way: blocks by hash.
    Blocks,
    /// Chunks cut by their content.
    Casync,
    /// Our block index.
    Index,
    /// All of our payload.
    Payload,
}

impl Way {
    /// In the order of the table.
    pub const ALL: [Way; 7] = [
        Way::Bsdiff,
        Way::Xdelta,
        Way::ZstdPatch,
        Way::Blocks,
        Way::Casync,
        Way::Index,
        Way::Payload,
    ];

    /// What its row is called.
    pub fn title(self) -> &'static str {
        match self {
            Way::Bsdiff => "bsdiff",
            Way::Xdelta => "xdelta3 -9, then zstd -19",
            Way::ZstdPatch => "zstd -19 --patch-from",
            Way::Blocks => "4 KiB blocks by hash, missing ones zstd -19, with the index",
            Way::Casync => "casync chunks",
            Way::Index => "our block index",
            Way::Payload => "our payload, whole",
        }
    }

    /// Whether it copies exact runs: what our delta may be 1.02 times as large as at most.
    pub fn copies(self) -> bool {
        matches!(self, Way::Xdelta | Way::ZstdPatch | Way::Blocks | Way::Casync)
    }

    /// The program it needs, which is also its package.
    fn program(self) -> Option<&'static str> {
        match self {
            Way::Bsdiff => Some("bsdiff"),
            Way::Xdelta => Some("xdelta3"),
            Way::Casync => Some("casync"),
            Way::ZstdPatch | Way::Blocks => Some("zstd"),
            Way::Index | Way::Payload => None,
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
    let missing = Way::ALL.into_iter().filter(|way| !way.is_there());
    missing
        .map(|way| {
            let program = way.program().unwrap_or_default();
            format!("{}: not measured, {program} is not installed (package {program})", way.title())
        })
        .collect()
}

/// Bytes on the wire by each way whose program is there.
pub fn measure(
    folder: &Path,
    pair: &Pair,
    files: &known::Pair,
    known: &mut Known,
) -> Result<Vec<(Way, Option<u64>)>> {
    let mut figures = Vec::new();
    for way in Way::ALL {
        let figure = match way.is_there() {
            true => Some(known.or(way.title(), files, || bytes(way, folder, pair))?),
            false => None,
        };
        figures.push((way, figure));
    }
    Ok(figures)
}

fn bytes(way: Way, folder: &Path, pair: &Pair) -> Result<u64> {
    eprintln!("bench: deltas: {}: {}", pair.title, way.title());
    let scratch = tempfile::tempdir_in(folder).context("a folder for what is made")?;
    let made = scratch.path().join("made");
    let (old, new) = (&pair.old, &pair.new);
    match way {
        Way::Bsdiff => {
            output(Command::new("bsdiff").args([old, new, &made]))?;
            length(&made)
        }
        Way::Xdelta => {
            // As much of the old image as there is; zstd does what its own compression would.
            let window = length(old)?.next_power_of_two().to_string();
            let mut command = Command::new("xdelta3");
            command.args(["-9", "-S", "none", "-B", &window, "-e", "-s"]);
            output(command.args([old, new, &made]))?;
            zstd(&[], &made, &scratch.path().join("packed"))
        }
        Way::ZstdPatch => {
            // The window has to reach from the new image's end to the old one's start.
            let bits = (length(old)? + length(new)?).next_power_of_two().trailing_zeros();
            let long = format!("--long={}", bits.clamp(27, 31));
            let from = format!("--patch-from={}", old.display());
            zstd(&["--ultra", &long, &from], new, &made)
        }
        Way::Blocks => blocks(old, new, scratch.path()),
        Way::Casync => casync::fetched(old, new, scratch.path()),
        Way::Index | Way::Payload => {
            let stream = match &pair.origin {
                Origin::Updates { new, .. } => SlotStream::read(new)?,
                Origin::Files => SlotStream::of(read(new)?)?,
            };
            match way {
                Way::Index => stream.by_index(&read(old)?),
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
        let copying: Vec<_> = Way::ALL.into_iter().filter(|way| way.copies()).collect();
        assert_eq!(copying, [Way::Xdelta, Way::ZstdPatch, Way::Blocks, Way::Casync]);
    }
}
