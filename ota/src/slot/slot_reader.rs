//! Reading the slot that runs: what an update need not fetch. Never through dm-verity, which would
//! reset the board over a block that decayed; what is read is only used where a signed hash holds.

use std::io;
use std::ops::Range;

use formats::Slot;
use formats::manifest::Manifest;
use formats::medium::{Access, Medium};
use formats::payload;

use crate::device::Device;

/// The running slot's two partitions, opened for reading.
#[derive(Debug)]
pub struct SlotReader {
    slot: Slot,
    manifest: Manifest,
    header_sha256: String,
    boot: Box<dyn Medium>,
    root: Box<dyn Medium>,
}

impl SlotReader {
    /// Opens the slot, whose verified manifest and header's hash these are.
    pub fn open(
        device: &Device,
        slot: Slot,
        manifest: Manifest,
        header_sha256: String,
    ) -> io::Result<SlotReader> {
        let open = |label| device.partitions().open(label, Access::Read);
        let (boot, root) = (open(slot.boot_label())?, open(slot.root_label())?);
        Ok(SlotReader { slot, manifest, header_sha256, boot, root })
    }

    /// What names its version.
    pub fn header_sha256(&self) -> &str {
        &self.header_sha256
    }

    /// Bytes of its stream without the verity tree.
    pub fn covered(&self) -> u64 {
        formats::block_index::covered(&self.manifest)
    }

    /// Reads its own slot stream.
    pub fn read(&self, range: Range<u64>, buffer: &mut [u8]) -> io::Result<()> {
        self.read_as(&self.manifest, range, buffer)
    }

    /// Reads the places where a slot with another manifest would have this range of its stream.
    pub fn read_as(
        &self,
        manifest: &Manifest,
        range: Range<u64>,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let mut rest = buffer;
        for piece in payload::pieces(manifest, self.slot, range) {
            let partition = match piece.label == self.slot.boot_label() {
                true => &self.boot,
                false => &self.root,
            };
            let (part, tail) = rest.split_at_mut(piece.length as usize);
            partition.read_at(piece.offset, part)?;
            rest = tail;
        }
        Ok(())
    }
}

impl delta::ReadAt for SlotReader {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.covered());
        self.read(offset..end.ok_or(io::ErrorKind::UnexpectedEof)?, buffer)
    }
}
