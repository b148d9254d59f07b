//! Writing a slot's partitions, and reading back what really is on the medium.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use formats::Slot;
use formats::manifest::{HEADER_SIZE, Manifest};
use formats::medium::{Access, Medium};
use formats::payload::{self, Piece};

use crate::blocking::while_beating;
use crate::device::Device;
use crate::{Error, Result};

/// Direct I/O wants memory and offsets aligned to the device's blocks; none has larger ones.
const ALIGNMENT: usize = 4096;

/// Bytes read at once for somebody whose memory is not aligned.
const BOUNCE: usize = 128 << 10;

/// A buffer that direct I/O takes.
#[derive(Debug)]
pub struct AlignedBuffer {
    storage: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// `length` zeros.
    pub fn new(length: usize) -> AlignedBuffer {
        let storage = vec![0; length + ALIGNMENT];
        let start = storage.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        AlignedBuffer { storage, start, length }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.length]
    }

    /// The bytes, to fill.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.length]
    }
}

/// A partition, past the page cache where its medium allows that.
#[derive(Debug)]
struct Partition {
    path: PathBuf,
    medium: Box<dyn Medium>,
}

impl Partition {
    fn open(device: &Device, label: &str, access: Access) -> Result<Partition> {
        let path = device.device(label);
        let medium = device.partitions().open(label, access);
        Ok(Partition { medium: medium.map_err(|e| Error::at(&path, e))?, path })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.medium.write_at(offset, bytes).map_err(|e| Error::at(&self.path, e))
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.medium.read_at(offset, bytes).map_err(|e| Error::at(&self.path, e))
    }

    /// Returns when all that was written is on the medium, and nothing of it is cached.
    fn flush(&self) -> Result<()> {
        self.medium
            .flush()
            .and_then(|()| self.medium.forget_cached())
            .map_err(|e| Error::at(&self.path, e))
    }
}

/// The idle slot, opened to be written, or to look at what an install wrote.
#[derive(Debug)]
pub struct SlotWriter {
    slot: Slot,
    boot: Partition,
    root: Partition,
}

impl SlotWriter {
    /// Opens the slot's two partitions. Writes nothing.
    pub fn open(device: &Device, slot: Slot) -> Result<SlotWriter> {
        SlotWriter::open_with(device, slot, Access::Direct)
    }

    /// Opens them without the right to write, which the half that fetches does not have: every
    /// write fails. What is read is what the medium gives.
    pub fn open_to_read(device: &Device, slot: Slot) -> Result<SlotWriter> {
        SlotWriter::open_with(device, slot, Access::ReadDirect)
    }

    fn open_with(device: &Device, slot: Slot, access: Access) -> Result<SlotWriter> {
        Ok(SlotWriter {
            slot,
            boot: Partition::open(device, slot.boot_label(), access)?,
            root: Partition::open(device, slot.root_label(), access)?,
        })
    }

    /// Sizes of the boot and the root partition, in bytes.
    pub fn sizes(&self) -> (u64, u64) {
        (self.boot.medium.size(), self.root.medium.size())
    }

    fn pieces(&self, manifest: &Manifest, range: std::ops::Range<u64>) -> Vec<(&Partition, Piece)> {
        let partition = |piece: Piece| match piece.label == self.slot.boot_label() {
            true => (&self.boot, piece),
            false => (&self.root, piece),
        };
        payload::pieces(manifest, self.slot, range).into_iter().map(partition).collect()
    }

    /// Reads a range of the slot stream. `buffer` is as long as the range.
    pub fn read(
        &self,
        manifest: &Manifest,
        range: std::ops::Range<u64>,
        buffer: &mut [u8],
    ) -> Result<()> {
        let mut rest = buffer;
        for (partition, piece) in self.pieces(manifest, range) {
            let (part, tail) = rest.split_at_mut(piece.length as usize);
            partition.read(piece.offset, part)?;
            rest = tail;
        }
        Ok(())
    }

    /// Fills `buffer`, wherever it lies in memory, from any byte of the slot stream on.
    pub fn read_unaligned(&self, manifest: &Manifest, start: u64, buffer: &mut [u8]) -> Result<()> {
        let align = ALIGNMENT as u64;
        let mut bounce = AlignedBuffer::new(BOUNCE.min(buffer.len().next_multiple_of(ALIGNMENT)));
        let mut at = start;
        let mut rest = buffer;
        while !rest.is_empty() {
            let first = at / align * align;
            let skip = (at - first) as usize;
            let want = (skip + rest.len()).next_multiple_of(ALIGNMENT).min(bounce.bytes().len());
            let (taken, tail) = rest.split_at_mut(rest.len().min(want - skip));
            let piece = &mut bounce.bytes_mut()[..want];
            self.read(manifest, first..first + want as u64, piece)?;
            taken.copy_from_slice(&piece[skip..skip + taken.len()]);
            at += taken.len() as u64;
            rest = tail;
        }
        Ok(())
    }

    /// Writes a range of the slot stream.
    pub fn write(
        &self,
        manifest: &Manifest,
        range: std::ops::Range<u64>,
        bytes: &[u8],
    ) -> Result<()> {
        let mut rest = bytes;
        for (partition, piece) in self.pieces(manifest, range) {
            let (part, tail) = rest.split_at(piece.length as usize);
            partition.write(piece.offset, part)?;
            rest = tail;
        }
        Ok(())
    }

    /// Returns when all that was written is on the medium, and nothing of it is cached. However long
    /// the medium takes, `beat` is called each second.
    pub fn flush(&self, beat: &dyn Fn()) -> Result<()> {
        while_beating(beat, || [&self.boot, &self.root].into_iter().try_for_each(Partition::flush))
    }

    /// Writes the slot header (or zeros in its place), flushes it, and reads it back. `beat` as in
    /// [`SlotWriter::flush`].
    pub fn write_header(&self, header: &[u8], beat: &dyn Fn()) -> Result<()> {
        let offset = payload::header_offset(self.root.medium.size())?;
        let mut buffer = AlignedBuffer::new(HEADER_SIZE);
        buffer.bytes_mut().copy_from_slice(header);
        self.root.write(offset, buffer.bytes())?;
        while_beating(beat, || self.root.flush())?;
        let mut back = AlignedBuffer::new(HEADER_SIZE);
        self.root.read(offset, back.bytes_mut())?;
        if back.bytes() != header {
            return Err(not_what_was_written(&self.root.path));
        }
        Ok(())
    }

    /// Overwrites the slot header with zeros: from then on nothing takes this slot for whole.
    pub fn clear_header(&self, beat: &dyn Fn()) -> Result<()> {
        self.write_header(&[0; HEADER_SIZE], beat)
    }

    /// The error for a medium that gives back other bytes than it was given.
    pub fn bad_medium(&self) -> Error {
        not_what_was_written(&self.root.path)
    }
}

fn not_what_was_written(path: &Path) -> Error {
    Error::at(
        path,
        "reads back other bytes than were written; the medium is failing and should be replaced",
    )
}

/// Fills `buffer` from a zstd frame; false when the frame is not one of exactly that length.
pub fn decompress(
    decompressor: &mut zstd::bulk::Decompressor,
    frame: &[u8],
    buffer: &mut [u8],
) -> bool {
    decompressor.decompress_to_buffer(frame, buffer).is_ok_and(|length| length == buffer.len())
}

/// Reads a frame of `length` bytes into `frame`, which keeps its capacity.
pub fn read_frame(stream: &mut dyn Read, frame: &mut Vec<u8>, length: usize) -> io::Result<()> {
    frame.clear();
    if stream.take(length as u64).read_to_end(frame)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8878: frames without a size, several of them, and some to be skipped. `imager` writes the
    /// simplest form; another publisher's are as good, since the hash of what comes out is signed.
    #[test]
    fn a_chunk_in_any_form_that_zstd_has_is_unpacked() {
        let chunk: Vec<u8> = (0..100_000u32).map(|n| (n / 7) as u8).collect();
        let (front, back) = chunk.split_at(30_000);
        let skippable = b"\x5f\x2a\x4d\x18\x02\0\0\0..";
        let stream = |part| zstd::encode_all(part, 3).unwrap();
        let two = [&skippable[..], &stream(front), skippable, &stream(back)].concat();
        let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
        let mut buffer = vec![0; chunk.len()];
        for frame in [zstd::bulk::compress(&chunk, 3).unwrap(), stream(&chunk), two.clone()] {
            buffer.fill(1);
            assert!(decompress(&mut decompressor, &frame, &mut buffer) && buffer == chunk);
        }
        assert!(!decompress(&mut decompressor, &two[..two.len() - 1], &mut buffer));
        assert!(!decompress(&mut decompressor, &two, &mut buffer[1..]));
        assert!(!decompress(&mut decompressor, &stream(front), &mut buffer));
    }

    #[test]
    fn buffers_are_aligned() {
        for length in [0, 1, 4096, 1 << 20] {
            let buffer = AlignedBuffer::new(length);
            assert_eq!(buffer.bytes().len(), length);
            assert_eq!(buffer.bytes().as_ptr() as usize % ALIGNMENT, 0);
        }
    }
}
