//! The device's side: old image + delta → new image, group by group, in bounded memory.

use std::io;

use sha2::{Digest as _, Sha256};

use crate::coder::Decoder;
use crate::group::{PIECE, Part, literal_bytes, parts};
use crate::header::Header;
use crate::literals;
use crate::mix::Tables;
use crate::model::Model;
use crate::segments::{self, Segment, Shifts};
use crate::{Error, Result};

/// Random reads of an image: a slot's partition, a file, bytes in memory.
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

/// A delta whose head was read; its groups are next.
pub struct Apply {
    header: Header,
    segments: Vec<Segment>,
    shifts: Shifts,
    model: Model,
    old_piece: Vec<u8>,
}

impl Apply {
    /// Reads a delta's head, which is exactly `head` ([`Header::head_length`]).
    ///
    /// The caller has compared its SHA-256 with a signed one. Fails on anything that is no sound
    /// head all the same.
    pub fn open(head: &[u8]) -> Result<Apply> {
        let header = Header::parse(head)?;
        if head.len() as u64 != header.head_length() {
            return Err(Error::new(format!(
                "delta: its head is {} bytes, not {}",
                header.head_length(),
                head.len()
            )));
        }
        let control = &head[head.len() - header.control as usize..];
        let segments = segments::code(
            &mut Decoder::new(control),
            &Tables::new(),
            std::iter::empty(),
            header.segments,
            header.old_size,
            header.new_size,
        )?;
        let shifts = Shifts::new(&segments);
        let old_piece = vec![0u8; PIECE as usize];
        Ok(Apply { header, segments, shifts, model: Model::new(), old_piece })
    }

    /// What the delta says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Makes one group's bytes ([`Header::range`]) from its frame ([`Header::frame_offset`]).
    ///
    /// The frame is compared with its SHA-256 before anything of it is read. `made` is the new
    /// image so far: of it only [`Header::needs`] is read. `out` has the group's length; after an
    /// error it holds rubbish. Groups otherwise need nothing of one another and may come in any
    /// order.
    ///
    /// `Ok` says that the frame was the right one, not that `old` and `made` were: the caller
    /// compares what was made with its own signed hashes.
    pub fn group(
        &mut self,
        index: usize,
        frame: &[u8],
        old: &(impl ReadAt + ?Sized),
        made: &(impl ReadAt + ?Sized),
        out: &mut [u8],
    ) -> Result<()> {
        let Some(group) = self.header.groups.get(index) else {
            return Err(Error::new(format!("delta: it has no group {index}")));
        };
        let range = self.header.range(index);
        if group.length == 0 {
            return Err(Error::new(format!("delta: group {index} is not in it")));
        }
        if frame.len() != group.length as usize || out.len() != range.len() {
            return Err(Error::new(format!(
                "delta: group {index} makes {} bytes of {}, not {} of {}",
                range.len(),
                group.length,
                out.len(),
                frame.len()
            )));
        }
        if Sha256::digest(frame)[..] != group.sha256 {
            return Err(Error::new(format!("delta: the frame of group {index} is damaged")));
        }
        let unknown = || Error::new(format!("delta: group {index} is of an unknown kind"));
        let (code, packed) = match frame.split_first() {
            Some((&LITERALS_MODELLED, code)) => (code, None),
            Some((&LITERALS_PACKED, rest)) => {
                let (length, rest) = rest.split_first_chunk().ok_or_else(unknown)?;
                let length = u32::from_le_bytes(*length) as usize;
                let (packed, code) = rest.split_at_checked(length).ok_or_else(unknown)?;
                (code, Some(packed))
            }
            _ => return Err(unknown()),
        };
        let mut unpacked = Vec::new();
        if let Some(packed) = packed {
            let needs = self.header.needs(index);
            let mut before = vec![0u8; needs.len()];
            made.read_exact_at(&mut before, u64::from(needs.start))
                .map_err(|error| Error::io("delta: the new image", &error))?;
            unpacked = vec![0u8; literal_bytes(&self.segments, range.clone())];
            literals::unpack(packed, &before, &mut unpacked)?;
        }
        let mut unpacked = unpacked.as_slice();
        let mut decoder = Decoder::new(code);
        self.model.reset();
        for part in parts(&self.segments, range.clone()) {
            let place = |new: u32, length: u32| {
                let start = (new - range.start) as usize;
                start..start + length as usize
            };
            match part {
                Part::Copy { old: at, new, length } => {
                    let old_bytes = &mut self.old_piece[..length as usize];
                    old.read_exact_at(old_bytes, u64::from(at))
                        .map_err(|error| Error::io("delta: the old image", &error))?;
                    let made = &mut out[place(new, length)];
                    self.model.copy(&mut decoder, &self.shifts, (at, old_bytes), (new, made));
                }
                Part::Literals { new, length } if packed.is_some() => {
                    // As many as the parts have: the sum was taken over the same ones.
                    let (these, rest) = unpacked.split_at(length as usize);
                    out[place(new, length)].copy_from_slice(these);
                    unpacked = rest;
                }
                Part::Literals { new, length } => {
                    self.model.literals(&mut decoder, new, &mut out[place(new, length)]);
                }
            }
        }
        Ok(())
    }
}

/// First byte of a frame whose literals are coded like its copies.
pub const LITERALS_MODELLED: u8 = 0;
/// First byte of a frame whose literals are one zstd frame: its length as a u32 and itself follow,
/// then the code of the copies.
pub const LITERALS_PACKED: u8 = 1;
