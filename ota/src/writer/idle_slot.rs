//! The idle slot, whether it is in this process or behind the writer's socket, and an update that may
//! be written into it.

use formats::manifest::Manifest;
use formats::payload::ChunkTable;

use crate::Result;
use crate::slot::slot_writer::AlignedBuffer;

/// An update that passed every check that can be made before a slot is touched.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The slot header, [`formats::manifest::HEADER_SIZE`] bytes.
    pub header: Vec<u8>,
    /// What it says; its signature holds.
    pub manifest: Manifest,
    /// The chunk table that the manifest names.
    pub table: ChunkTable,
}

/// The idle slot, as an install sees it. Nothing goes into it that is not signed.
pub trait IdleSlot: Sync {
    /// From now on nothing takes the slot for whole, and nothing boots it. Gives the chunks that the
    /// medium does not hold, in order. `beat` is called at least once a chunk, or once a second.
    fn prepare(&self, beat: &dyn Fn()) -> Result<Vec<usize>>;

    /// Writes a chunk, if the first bytes of `buffer` are what its signed hash says. True when they
    /// are.
    fn put(&self, chunk: usize, buffer: &AlignedBuffer) -> Result<bool>;

    /// Fills `buffer` from any byte of the slot stream on.
    fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()>;

    /// Returns when all that was written is on the medium. `beat` is called each second until then.
    fn flush(&self, beat: &dyn Fn()) -> Result<()>;

    /// Compares what the medium gives back with the chunk table, writes the header, and has the
    /// slot's trial of `tries` boots armed.
    fn finish(&self, tries: u8, beat: &dyn Fn()) -> Result<()>;
}
