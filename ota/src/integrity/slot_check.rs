//! Whether a slot is on the medium as it was signed: boot partition, root and hash tree.
//!
//! A slot is looked at in steps, so that it can be done slowly and gone on with. The root's come
//! from its hash tree. The boot partition's are the chunks of the table that the manifest signs,
//! when that was kept at the install; else, as in a slot that came with the device, the files that
//! the manifest lists, found as the board's loader finds them. What cannot be read is not whole.

use std::cell::RefCell;
use std::io;

use formats::manifest::{FileHash, Manifest};
use formats::payload::ChunkTable;
use formats::{Slot, verity};
use sha2::{Digest, Sha256};

use crate::Result;
use crate::device::Device;
use crate::fetch::download_cache::DownloadCache;
use crate::integrity::fat::Volume;
use crate::slot::slot_writer::SlotWriter;

/// Bytes of a boot file that are read between two beats.
const PIECE: usize = 256 << 10;
/// Bytes that are read at once where a few are asked for.
const WINDOW: u64 = 128 << 10;

/// A slot that is looked at.
#[derive(Debug)]
pub struct SlotCheck {
    medium: SlotWriter,
    manifest: Manifest,
    /// The chunks, when their table is at hand.
    table: Option<ChunkTable>,
}

impl SlotCheck {
    /// Opens the slot that this manifest, whose signature holds, is about. Writes nothing.
    pub fn open(device: &Device, slot: Slot, manifest: &Manifest) -> Result<SlotCheck> {
        Ok(SlotCheck {
            medium: SlotWriter::open_to_read(device, slot)?,
            manifest: manifest.clone(),
            table: DownloadCache::of(device).table(manifest),
        })
    }

    /// In how many steps all of it is looked at.
    pub fn steps(&self) -> u64 {
        self.boot_steps() + verity::parts(self.manifest.root_size)
    }

    fn boot_steps(&self) -> u64 {
        match &self.table {
            Some(_) => self.manifest.boot_size.div_ceil(self.manifest.chunk_size),
            None => self.manifest.boot_files.len() as u64,
        }
    }

    /// About how many bytes a step reads.
    pub fn cost(&self, step: u64) -> u64 {
        match (step.checked_sub(self.boot_steps()), &self.table) {
            (Some(_), _) => 512 << 10,
            (None, Some(_)) => self.manifest.chunk_size,
            (None, None) => self.manifest.boot_files.get(step as usize).map_or(0, |file| file.size),
        }
    }

    /// Whether what this step looks at is whole. `beat` is called every few hundred KiB.
    pub fn step(&self, step: u64, beat: &dyn Fn()) -> bool {
        beat();
        let whole = match (step.checked_sub(self.boot_steps()), &self.table) {
            (Some(part), _) => self.root_part(part),
            (None, Some(table)) => self.chunk(table, step as usize),
            (None, None) => match self.manifest.boot_files.get(step as usize) {
                Some(file) => self.boot_file(file, beat),
                None => Ok(true),
            },
        };
        whole.unwrap_or(false)
    }

    /// Whether all of it is whole.
    pub fn all(&self, beat: &dyn Fn()) -> bool {
        (0..self.steps()).all(|step| self.step(step, beat))
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.medium.read_unaligned(&self.manifest, at, buffer).map_err(io::Error::other)
    }

    fn root_part(&self, part: u64) -> io::Result<bool> {
        let manifest = &self.manifest;
        let sized = verity::tree_size(manifest.root_size) == manifest.root_hash_size;
        let (salt, hash) = (&manifest.root_verity_salt, &manifest.root_verity_hash);
        let read = |at: u64, buffer: &mut [u8]| self.read(manifest.boot_size + at, buffer);
        Ok(sized && verity::part_is_whole(manifest.root_size, salt, hash, part, read)?)
    }

    fn chunk(&self, table: &ChunkTable, index: usize) -> io::Result<bool> {
        let range = table.stream_range(index);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.read(range.start, &mut bytes)?;
        Ok(Sha256::digest(&bytes)[..] == table.chunks()[index].sha256)
    }

    fn boot_file(&self, wanted: &FileHash, beat: &dyn Fn()) -> io::Result<bool> {
        let windows = RefCell::new(Windows::default());
        let read = |at: u64, buffer: &mut [u8]| {
            let fill = |at: u64, window: &mut [u8]| self.read(at, window);
            windows.borrow_mut().read(self.manifest.boot_size, at, buffer, &fill)
        };
        let volume = Volume::open(self.manifest.boot_size, &read)?;
        let Some(file) = volume.find(&wanted.name)?.filter(|file| file.size == wanted.size) else {
            return Ok(false);
        };
        let (mut hash, mut since) = (Sha256::new(), 0);
        volume.read(file, &mut |bytes| {
            hash.update(bytes);
            since += bytes.len();
            if since >= PIECE {
                since = 0;
                beat();
            }
        })?;
        Ok(hash.finalize()[..] == wanted.sha256)
    }
}

/// The last parts of a partition that were read: a file's clusters and their entries in the file
/// allocation table are asked for in turn, a few bytes each.
#[derive(Default)]
struct Windows(Vec<(u64, Vec<u8>)>);

impl Windows {
    /// Fills `buffer` from byte `at` of `size`, a window at a time by `fill`.
    fn read(
        &mut self,
        size: u64,
        mut at: u64,
        buffer: &mut [u8],
        fill: &dyn Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut rest = buffer;
        while !rest.is_empty() {
            if at >= size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let start = at / WINDOW * WINDOW;
            let index = match self.0.iter().position(|(known, _)| *known == start) {
                Some(index) => index,
                None => {
                    let mut bytes = vec![0; (size - start).min(WINDOW) as usize];
                    fill(start, &mut bytes)?;
                    self.0.truncate(1);
                    self.0.push((start, bytes));
                    self.0.len() - 1
                }
            };
            // The one that was used last comes first.
            self.0.swap(0, index);
            let window = &self.0[0].1[(at - start) as usize..];
            let length = window.len().min(rest.len());
            rest[..length].copy_from_slice(&window[..length]);
            rest = &mut rest[length..];
            at += length as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_is_read_in_turn_is_read_once() {
        let size = 5 * WINDOW / 2;
        let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let fills = Cell::new(0);
        let fill = |at: u64, window: &mut [u8]| {
            fills.set(fills.get() + 1);
            window.copy_from_slice(&bytes[at as usize..at as usize + window.len()]);
            Ok(())
        };
        let mut windows = Windows::default();
        for n in 0..100 {
            for at in [n * 2, WINDOW * 2 + n * 500] {
                let mut buffer = [0; 500];
                windows.read(size, at, &mut buffer, &fill).unwrap();
                assert_eq!(buffer, bytes[at as usize..at as usize + 500]);
            }
        }
        assert_eq!(fills.get(), 2);
        let mut all = vec![0; size as usize - 1];
        windows.read(size, 1, &mut all, &fill).unwrap();
        assert!(all == bytes[1..]);
        assert!(windows.read(size, 2, &mut all, &fill).is_err(), "past the end");
    }
}
