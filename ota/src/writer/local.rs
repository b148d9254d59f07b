//! The idle slot in this process: what writes it, and the last to look at each byte before it does.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use formats::Slot;
use formats::boot_request::BootRequest;
use formats::payload::ChunkTable;
use sha2::{Digest, Sha256};

use super::idle_slot::{Accepted, IdleSlot};
use crate::context::Context;
use crate::device::Device;
use crate::init::boot;
use crate::slot::slot_writer::{AlignedBuffer, SlotWriter};
use crate::{Error, Result};

/// The idle slot, opened for an update that passed [`super::admission`].
#[derive(Debug)]
pub struct LocalSlot<'a> {
    device: &'a Device,
    slot: Slot,
    writer: SlotWriter,
    update: &'a Accepted,
    /// Chunks that the medium lacks; `None` until the slot is prepared.
    missing: Mutex<Option<BTreeSet<usize>>>,
}

impl<'a> LocalSlot<'a> {
    /// Opens the partitions. Writes nothing.
    pub fn open(context: &'a Context, update: &'a Accepted) -> Result<LocalSlot<'a>> {
        let Context { device, running, .. } = context;
        let slot = running.slot.other();
        let writer = SlotWriter::open(device, slot)?;
        Ok(LocalSlot { device, slot, writer, update, missing: Mutex::new(None) })
    }

    fn missing(&self) -> MutexGuard<'_, Option<BTreeSet<usize>>> {
        // Whoever panicked held a set of numbers that is whole.
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleSlot for LocalSlot<'_> {
    fn prepare(&self, beat: &dyn Fn()) -> Result<Vec<usize>> {
        if self.missing().is_some() {
            return Err(Error::failed("the slot is prepared already"));
        }
        boot::ask(self.device, BootRequest::BeginInstall)?;
        self.writer.clear_header(beat)?;
        let found = differing(&self.writer, self.update, Unreadable::IsMissing, beat)?;
        *self.missing() = Some(found.iter().copied().collect());
        Ok(found)
    }

    fn put(&self, chunk: usize, buffer: &AlignedBuffer) -> Result<bool> {
        let table = &self.update.table;
        let Some(signed) = table.chunks().get(chunk) else {
            return Err(Error::failed(format!("the update has no chunk {chunk}")));
        };
        let range = table.stream_range(chunk);
        let bytes = &buffer.bytes()[..(range.end - range.start) as usize];
        if Sha256::digest(bytes)[..] != signed.sha256 {
            return Ok(false);
        }
        let lacked = match &*self.missing() {
            None => return Err(Error::failed("a chunk came before the slot was prepared")),
            Some(missing) => missing.contains(&chunk),
        };
        // What is there is not written again, however often it comes: flash wears out.
        if lacked {
            self.writer.write(&self.update.manifest, range, bytes)?;
            if let Some(missing) = &mut *self.missing() {
                missing.remove(&chunk);
            }
        }
        Ok(true)
    }

    fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        self.writer.read_unaligned(&self.update.manifest, start, buffer)
    }

    fn flush(&self, beat: &dyn Fn()) -> Result<()> {
        self.writer.flush(beat)
    }

    fn finish(&self, tries: u8, beat: &dyn Fn()) -> Result<()> {
        match self.missing().as_ref().map(BTreeSet::len) {
            None => return Err(Error::failed("the slot was not prepared; nothing was armed")),
            Some(0) => {}
            Some(n) => {
                return Err(Error::failed(format!("{n} chunks are missing; nothing was armed")));
            }
        }
        // What counts is what the medium gives back.
        self.writer.flush(beat)?;
        if !differing(&self.writer, self.update, Unreadable::IsFatal, beat)?.is_empty() {
            return Err(self.writer.bad_medium());
        }
        // Whole: say so, and try it at the next boot.
        self.writer.write_header(&self.update.header, beat)?;
        boot::ask(self.device, BootRequest::Arm { slot: self.slot, tries })?;
        Ok(())
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether `bytes` are chunk `index`. A blank medium is told apart without hashing it.
fn is_chunk(table: &ChunkTable, index: usize, bytes: &[u8]) -> bool {
    let chunk = &table.chunks()[index];
    if chunk.compressed != 0 && is_zero(bytes) {
        return false;
    }
    Sha256::digest(bytes)[..] == chunk.sha256
}

/// What a chunk is that the medium does not give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unreadable {
    /// Missing, as any other that is not there: writing it lets a disk put a good sector in the
    /// place of the bad one.
    IsMissing,
    /// An error: it was written.
    IsFatal,
}

/// The chunks that the medium does not hold, in order. Two threads read and hash: while one waits
/// for the medium, the other one computes.
fn differing(
    writer: &SlotWriter,
    update: &Accepted,
    unreadable: Unreadable,
    beat: &dyn Fn(),
) -> Result<Vec<usize>> {
    let (manifest, table) = (&update.manifest, &update.table);
    let next = AtomicUsize::new(0);
    let work = |beat: &dyn Fn()| -> Result<Vec<usize>> {
        let first = table.stream_range(0);
        let mut buffer = AlignedBuffer::new((first.end - first.start) as usize);
        let mut found = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= table.chunks().len() {
                return Ok(found);
            }
            beat();
            let range = table.stream_range(index);
            let bytes = &mut buffer.bytes_mut()[..(range.end - range.start) as usize];
            let holds = match (writer.read(manifest, range, bytes), unreadable) {
                (Ok(()), _) => is_chunk(table, index, bytes),
                (Err(_), Unreadable::IsMissing) => false,
                (Err(error), Unreadable::IsFatal) => return Err(error),
            };
            if !holds {
                found.push(index);
            }
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| work(&|| ()));
        let mut found = work(beat)?;
        found.extend(other.join().map_err(|_| Error::failed("a reading thread died"))??);
        found.sort_unstable();
        Ok(found)
    })
}
