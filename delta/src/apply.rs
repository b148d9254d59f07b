//! The device's side: old image + delta → new image, in order, in bounded memory.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::coder::Decoder;
use crate::group::{parts, Part, PIECE};
use crate::header::Header;
use crate::mix::Tables;
use crate::model::Model;
use crate::segments::{self, Segment, Shifts};
use crate::{Error, Result};

/// Random reads of the old image: a slot's partition, a file, bytes in memory.
pub trait ReadAt {
    /// Fills `buffer` from `offset`, or fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(buffer.len()));
        let bytes = start.zip(end).and_then(|(start, end)| self.get(start..end));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A delta whose header and control part were read; its groups are next.
pub struct Apply {
    header: Header,
    segments: Vec<Segment>,
    shifts: Shifts,
    model: Model,
}

impl Apply {
    /// Reads a delta's head. `delta` then stands at the first group's frame.
    ///
    /// The caller compares [`Header::old_sha256`] and [`Header::new_sha256`] with the manifests it
    /// trusts before it goes on. Fails on anything that is no sound delta.
    pub fn open(mut delta: impl Read) -> Result<Apply> {
        let header = Header::read(&mut delta)?;
        let mut decoder = Decoder::new(&mut delta, u64::from(header.control));
        let segments = segments::code(
            &mut decoder,
            &Tables::new(),
            std::iter::empty(),
            header.segments,
            header.old_size,
            header.new_size,
        )?;
        decoder.finish().map_err(|error| Error::io("delta: control part", &error))?;
        let shifts = Shifts::new(&segments);
        Ok(Apply { header, segments, shifts, model: Model::new() })
    }

    /// What the delta says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Makes the whole new image: all groups in order, then its hash.
    pub fn run(
        &mut self,
        mut delta: impl Read,
        old: &(impl ReadAt + ?Sized),
        mut new: impl Write,
    ) -> Result<()> {
        let mut whole = Hashing { writer: &mut new, hash: Sha256::new() };
        for index in 0..self.header.groups.len() {
            self.group(index, &mut delta, old, &mut whole)?;
        }
        if whole.hash.finalize()[..] != self.header.new_sha256 {
            return Err(Error::new("delta: what it made is not the new image it names"));
        }
        Ok(())
    }

    /// Makes one group's bytes ([`Header::range`]) from its frame, where `delta` has to stand
    /// ([`Header::frame_offset`]). Groups need nothing of one another.
    ///
    /// Bytes are written before the group's hash was checked; an error says not to use them.
    pub fn group(
        &mut self,
        index: usize,
        delta: impl Read,
        old: &(impl ReadAt + ?Sized),
        new: impl Write,
    ) -> Result<()> {
        let Some(group) = self.header.groups.get(index).copied() else {
            return Err(Error::new(format!("delta: it has no group {index}")));
        };
        let mut decoder = Decoder::new(delta, u64::from(group.length));
        let mut out = Hashing { writer: new, hash: Sha256::new() };
        let mut old_piece = vec![0u8; PIECE as usize];
        let mut new_piece = vec![0u8; PIECE as usize];
        self.model.reset();
        for part in parts(&self.segments, self.header.range(index)) {
            let made = match part {
                Part::Copy { old: at, new, length } => {
                    let old_bytes = &mut old_piece[..length as usize];
                    let made = &mut new_piece[..length as usize];
                    old.read_exact_at(old_bytes, u64::from(at))
                        .map_err(|error| Error::io("delta: the old image", &error))?;
                    self.model.copy(&mut decoder, &self.shifts, (at, old_bytes), (new, made));
                    made
                }
                Part::Literals { new, length } => {
                    let made = &mut new_piece[..length as usize];
                    self.model.literals(&mut decoder, new, made);
                    made
                }
            };
            out.write_all(made).map_err(|error| Error::io("delta: the new image", &error))?;
        }
        decoder.finish().map_err(|error| Error::io("delta: group", &error))?;
        if out.hash.finalize()[..] != group.sha256 {
            return Err(Error::new(format!(
                "delta: group {index} is damaged, or the old image is not the one it was made from"
            )));
        }
        Ok(())
    }
}

/// Hashes what it passes on.
struct Hashing<W> {
    writer: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
