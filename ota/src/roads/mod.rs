//! The roads by which chunks come into the idle slot, the cheapest first. Each takes what it can;
//! what it leaves is for the next. docs/updates.md, "The cheapest road".

mod blocks;
mod delta_road;
mod held;
mod payload;
pub mod plan;
mod tree;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use formats::block_index;
use formats::manifest::Manifest;
use formats::payload::ChunkTable;

use crate::account::{Account, Road};
use crate::kept::Kept;
use crate::slot_reader::SlotReader;
use crate::slot_writer::AlignedBuffer;
use crate::source::Source;
use crate::writer::IdleSlot;
use crate::{Error, Result};

/// A file that lies beside an update: a delta or an index.
#[derive(Clone, Debug)]
pub struct Helper {
    /// Where its bytes are.
    pub source: Source,
    /// How many there are.
    pub length: u64,
    /// SHA-256 of all of it, in hex.
    pub sha256: String,
}

/// Helpers by their target's name.
pub type Helpers = BTreeMap<String, Helper>;

/// An install, seen from a road.
pub(crate) struct Work<'a> {
    /// The idle slot.
    pub(crate) idle: &'a dyn IdleSlot,
    /// What it is to hold.
    pub manifest: &'a Manifest,
    /// Its chunks.
    pub table: &'a ChunkTable,
    /// The running slot, when it can be read.
    pub old: Option<&'a SlotReader>,
    /// Where heads and indexes are kept.
    pub kept: &'a Kept,
    /// Who counts.
    pub account: &'a Account,
    /// Called at least once a chunk.
    pub beat: &'a dyn Fn(),
    /// Chunks that the idle slot lacks.
    missing: RefCell<BTreeSet<usize>>,
    /// What the chunk in which the verity tree begins has before the tree, when a road made it.
    tail: RefCell<Option<Vec<u8>>>,
}

impl<'a> Work<'a> {
    /// An install that lacks these chunks.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        idle: &'a dyn IdleSlot,
        manifest: &'a Manifest,
        table: &'a ChunkTable,
        old: Option<&'a SlotReader>,
        kept: &'a Kept,
        account: &'a Account,
        beat: &'a dyn Fn(),
        missing: Vec<usize>,
    ) -> Work<'a> {
        let missing = RefCell::new(missing.into_iter().collect());
        let tail = RefCell::new(None);
        Work { idle, manifest, table, old, kept, account, beat, missing, tail }
    }

    /// Brings everything that is missing, out of `payload` and what lies beside it.
    pub fn bring_all(
        &self,
        payload: &Source,
        delta: Option<plan::Delta<'_>>,
        index: Option<&Helper>,
    ) -> Result<()> {
        held::bring(self)?;
        if let (Some(old), Some(delta)) = (self.old, delta) {
            let kept = self.kept.length(delta.head_sha256);
            if plan::takes_delta(self.table, &self.missing(), &delta, kept) {
                self.or_next("delta", delta_road::bring(self, old, &delta, payload))?;
            }
        }
        if let (Some(old), Some(index)) = (self.old, index) {
            let lacks = self.lacks_before_tree();
            let left = index.length.saturating_sub(self.kept.length(&index.sha256));
            if plan::takes_index(self.table, &lacks, left) {
                self.or_next("blocks", blocks::bring(self, old, index))?;
            }
        }
        payload::bring(self, &self.lacks_before_tree(), payload)?;
        tree::bring(self)?;
        payload::bring(self, &self.missing(), payload)
    }

    /// What is wrong with one road sends the rest down the next; a medium that fails does not.
    fn or_next(&self, road: &str, result: std::result::Result<(), Left>) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(Left::Road(reason)) => {
                self.account.left(road, &reason);
                Ok(())
            }
            Err(Left::Install(error)) => Err(error),
        }
    }

    /// The chunks still missing, in order.
    fn missing(&self) -> Vec<usize> {
        self.missing.borrow().iter().copied().collect()
    }

    fn is_missing(&self, chunk: usize) -> bool {
        self.missing.borrow().contains(&chunk)
    }

    /// Bytes of the stream before the verity tree.
    fn covered(&self) -> u64 {
        block_index::covered(self.manifest)
    }

    /// Missing chunks that hold anything before the tree, which needs all of that; the one in which
    /// it begins only when no road made its part.
    fn lacks_before_tree(&self) -> Vec<usize> {
        let tail = self.tail.borrow().is_some();
        let lacks = |chunk: &usize| {
            let range = self.table.stream_range(*chunk);
            range.start < self.covered() && !(tail && range.end > self.covered())
        };
        self.missing().into_iter().filter(lacks).collect()
    }

    /// The chunks that a range of the stream touches.
    fn chunks_of(&self, range: Range<u64>) -> Range<usize> {
        let size = self.manifest.chunk_size;
        (range.start / size) as usize..range.end.div_ceil(size) as usize
    }

    /// A buffer for one chunk.
    fn buffer(&self) -> AlignedBuffer {
        AlignedBuffer::new(self.chunk_length(0))
    }

    fn chunk_length(&self, chunk: usize) -> usize {
        let range = self.table.stream_range(chunk);
        (range.end - range.start) as usize
    }

    /// Writes a chunk, if the first bytes of `buffer` are what its signed hash says. True when they
    /// are.
    fn put(&self, chunk: usize, buffer: &AlignedBuffer, road: Road) -> Result<bool> {
        (self.beat)();
        let right = self.idle.put(chunk, buffer)?;
        if right {
            self.came(chunk, road);
        }
        Ok(right)
    }

    fn came(&self, chunk: usize, road: Road) {
        self.missing.borrow_mut().remove(&chunk);
        self.account.brought(road);
    }
}

/// Why a road ended before its time.
enum Left {
    /// Another one may do.
    Road(String),
    /// None will: the medium fails.
    Install(Error),
}

impl Left {
    fn road(reason: impl std::fmt::Display) -> Left {
        Left::Road(reason.to_string())
    }
}

impl From<Error> for Left {
    fn from(error: Error) -> Left {
        Left::Install(error)
    }
}
