//! An install as its chunk sources see it: what is missing, and where a chunk goes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use formats::block_index;
use formats::manifest::Manifest;
use formats::payload::ChunkTable;

use crate::fetch::download_cache::DownloadCache;
use crate::install::progress::{ProgressRecorder, Source};
use crate::slot::slot_reader::SlotReader;
use crate::slot::slot_writer::AlignedBuffer;
use crate::writer::idle_slot::IdleSlot;
use crate::{Error, Result};

/// An install, as a chunk source sees it.
pub(crate) struct Work<'a> {
    /// The idle slot.
    pub idle: &'a dyn IdleSlot,
    /// What it is to hold.
    pub manifest: &'a Manifest,
    /// Its chunks.
    pub table: &'a ChunkTable,
    /// The running slot, when it can be read.
    pub old: Option<&'a SlotReader>,
    /// Where heads and indexes are kept.
    pub cache: &'a DownloadCache,
    /// Who counts.
    pub progress: &'a ProgressRecorder,
    /// Called at least once a chunk.
    pub beat: &'a dyn Fn(),
    /// Chunks that the idle slot lacks.
    pub(super) missing: RefCell<BTreeSet<usize>>,
    /// What the chunk in which the verity tree begins has before the tree, when a source made it.
    pub(super) tail: RefCell<Option<Vec<u8>>>,
}

impl<'a> Work<'a> {
    /// An install that lacks these chunks.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        idle: &'a dyn IdleSlot,
        manifest: &'a Manifest,
        table: &'a ChunkTable,
        old: Option<&'a SlotReader>,
        cache: &'a DownloadCache,
        progress: &'a ProgressRecorder,
        beat: &'a dyn Fn(),
        missing: Vec<usize>,
    ) -> Work<'a> {
        let missing = RefCell::new(missing.into_iter().collect());
        let tail = RefCell::new(None);
        Work { idle, manifest, table, old, cache, progress, beat, missing, tail }
    }

    /// The chunks still missing, in order.
    pub(super) fn missing(&self) -> Vec<usize> {
        self.missing.borrow().iter().copied().collect()
    }

    pub(super) fn is_missing(&self, chunk: usize) -> bool {
        self.missing.borrow().contains(&chunk)
    }

    /// Bytes of the stream before the verity tree.
    pub(super) fn covered(&self) -> u64 {
        block_index::covered(self.manifest)
    }

    /// Missing chunks that hold anything before the tree, which needs all of that; the one in which
    /// it begins only when no source made its part.
    pub(super) fn lacks_before_tree(&self) -> Vec<usize> {
        let tail = self.tail.borrow().is_some();
        let lacks = |chunk: &usize| {
            let range = self.table.stream_range(*chunk);
            range.start < self.covered() && !(tail && range.end > self.covered())
        };
        self.missing().into_iter().filter(lacks).collect()
    }

    /// The chunks that a range of the stream touches.
    pub(super) fn chunks_of(&self, range: Range<u64>) -> Range<usize> {
        let size = self.manifest.chunk_size;
        (range.start / size) as usize..range.end.div_ceil(size) as usize
    }

    /// A buffer for one chunk.
    pub(super) fn buffer(&self) -> AlignedBuffer {
        AlignedBuffer::new(self.chunk_length(0))
    }

    pub(super) fn chunk_length(&self, chunk: usize) -> usize {
        let range = self.table.stream_range(chunk);
        (range.end - range.start) as usize
    }

    /// Writes a chunk, if the first bytes of `buffer` are what its signed hash says. True when they
    /// are.
    pub(super) fn put(&self, chunk: usize, buffer: &AlignedBuffer, source: Source) -> Result<bool> {
        (self.beat)();
        let right = self.idle.put(chunk, buffer)?;
        if right {
            self.came(chunk, source);
        }
        Ok(right)
    }

    pub(super) fn came(&self, chunk: usize, source: Source) {
        self.missing.borrow_mut().remove(&chunk);
        self.progress.brought(source);
    }
}

/// Why a source gave up.
pub(super) enum Abort {
    /// The next source may do better.
    NextSource(String),
    /// None will: the medium fails, or the writer is gone.
    Fatal(Error),
}

impl Abort {
    pub(super) fn next_source(reason: impl std::fmt::Display) -> Abort {
        Abort::NextSource(reason.to_string())
    }
}

impl From<Error> for Abort {
    fn from(error: Error) -> Abort {
        Abort::Fatal(error)
    }
}
