//! Which chunk sources an install used, what each of them fetched, and what that saved: the file
//! `progress.json` in `ota`'s own folder.
//!
//! It is never flushed to the medium: a power cut costs a memory, not the update.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::bounded_file::{create_own, open_own, put_in_place};
use crate::device::Device;
use crate::fetch::resource::ByteCounter;

/// No such file is longer, in bytes.
const MAX_FILE: u64 = 16 << 10;
/// Reasons of sources that gave up that are kept; later ones are dropped.
const MAX_NOTES: usize = 8;

/// What is known of the last install, or of the one under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstallProgress {
    /// The version for people.
    pub version: String,
    /// Names it for certain.
    pub header_sha256: String,
    /// Bytes of the whole payload: what the dearest source would have fetched.
    pub payload_bytes: u64,
    /// Bytes that each source fetched, over all attempts.
    pub fetched: Fetched,
    /// Chunks that each source brought in the last attempt.
    pub chunks: Chunks,
    /// Chunks of the whole.
    pub chunks_in_all: u64,
    /// Why a source gave up before its end.
    pub notes: Vec<String>,
    /// It is installed.
    pub done: bool,
}

/// Bytes by source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fetched {
    /// Slot header and chunk table, whatever the source.
    pub head: u64,
    /// The delta.
    pub delta: u64,
    /// The block index.
    pub index: u64,
    /// Chunks of the payload.
    pub payload: u64,
}

/// Chunks by source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chunks {
    /// The idle slot held them.
    pub there: u64,
    /// Zeros, or the running slot holds them at the same place.
    #[serde(rename = "held")]
    pub local_copy: u64,
    /// Made by the delta.
    pub delta: u64,
    /// Put together from blocks of the running slot.
    pub blocks: u64,
    /// Computed: the verity tree.
    pub tree: u64,
    /// From the payload.
    pub payload: u64,
}

impl InstallProgress {
    /// The progress of the last install, if there is one that can be read.
    pub fn load(device: &Device) -> Option<InstallProgress> {
        let mut bytes = Vec::new();
        open_own(&file(device)).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// All bytes fetched.
    pub fn fetched_in_all(&self) -> u64 {
        let Fetched { head, delta, index, payload } = &self.fetched;
        [head, delta, index, payload].into_iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Bytes saved against fetching the whole payload.
    pub fn saved(&self) -> u64 {
        self.payload_bytes.saturating_sub(self.fetched_in_all())
    }

    /// How much of it is in place, 0 to 100.
    pub fn percent(&self) -> u64 {
        if self.done {
            return 100;
        }
        let Chunks { there, local_copy, delta, blocks, tree, payload } = &self.chunks;
        let place = [there, local_copy, delta, blocks, tree, payload];
        let place = place.into_iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        (place.saturating_mul(100) / self.chunks_in_all.max(1)).min(99)
    }

    /// For people, in one line that begins with what became of it.
    pub fn to_text(&self, outcome: &str) -> String {
        let megabytes = |bytes: u64| format!("{:.2} MB", bytes as f64 / 1e6);
        let Fetched { delta, index, payload, .. } = self.fetched;
        let sources: Vec<String> = [("delta", delta), ("index", index), ("payload", payload)]
            .into_iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(source, bytes)| format!("{source} {}", megabytes(bytes)))
            .collect();
        let sources =
            if sources.is_empty() { String::new() } else { format!(" ({})", sources.join(", ")) };
        format!(
            "{outcome} {}: fetched {}{sources}, saved {} of {}",
            self.version,
            megabytes(self.fetched_in_all()),
            megabytes(self.saved()),
            megabytes(self.payload_bytes),
        )
    }
}

/// The source that brought a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Zeros, or the running slot's chunk at the same place.
    LocalCopy,
    /// The delta.
    Delta,
    /// Blocks of the running slot.
    Blocks,
    /// The computed verity tree.
    Tree,
    /// The payload.
    Payload,
}

/// Keeps the progress of the install under way.
#[derive(Debug)]
pub struct ProgressRecorder {
    file: PathBuf,
    progress: RefCell<InstallProgress>,
    before: Fetched,
    told: Cell<u64>,
    /// Header and table.
    pub head: ByteCounter,
    /// The delta.
    pub delta: ByteCounter,
    /// The block index.
    pub index: ByteCounter,
    /// Chunks of the payload.
    pub payload: ByteCounter,
}

fn file(device: &Device) -> PathBuf {
    device.data().join("progress.json")
}

impl ProgressRecorder {
    /// Nothing fetched yet.
    pub fn open(device: &Device) -> ProgressRecorder {
        ProgressRecorder {
            file: file(device),
            progress: RefCell::default(),
            before: Fetched::default(),
            told: Cell::new(u64::MAX),
            head: ByteCounter::new(0),
            delta: ByteCounter::new(0),
            index: ByteCounter::new(0),
            payload: ByteCounter::new(0),
        }
    }

    /// From now on it is known what is installed. What earlier attempts at it fetched counts too.
    pub fn begin(&mut self, device: &Device, progress: InstallProgress) {
        self.before = InstallProgress::load(device)
            .filter(|last| last.header_sha256 == progress.header_sha256 && !last.done)
            .map_or_else(Fetched::default, |last| last.fetched);
        *self.progress.borrow_mut() = progress;
        self.write();
    }

    /// So many chunks were there before.
    pub fn there(&self, chunks: u64) {
        self.progress.borrow_mut().chunks.there = chunks;
        self.write();
    }

    /// A chunk is in place. Writes the file when a percent is full.
    pub fn brought(&self, source: Source) {
        {
            let chunks = &mut self.progress.borrow_mut().chunks;
            let count = match source {
                Source::LocalCopy => &mut chunks.local_copy,
                Source::Delta => &mut chunks.delta,
                Source::Blocks => &mut chunks.blocks,
                Source::Tree => &mut chunks.tree,
                Source::Payload => &mut chunks.payload,
            };
            // It goes on from a file that nothing verifies.
            *count = count.saturating_add(1);
        }
        self.tell();
    }

    /// Writes the file when a percent is full.
    fn tell(&self) {
        if self.progress.try_borrow().is_ok_and(|r| r.percent() != self.told.get()) {
            self.write();
        }
    }

    /// Remembers why a source gave up.
    pub fn gave_up(&self, source: &str, reason: &str) {
        let notes = &mut self.progress.borrow_mut().notes;
        if notes.len() < MAX_NOTES {
            notes.push(format!("{source}: {reason}").chars().take(300).collect());
        }
    }

    /// All is in place.
    pub fn done(&self) {
        self.progress.borrow_mut().done = true;
        self.write();
    }

    /// Writes the file; that it cannot be written harms nothing.
    pub fn write(&self) {
        let Ok(mut progress) = self.progress.try_borrow_mut() else { return };
        let sum = |before: u64, counter: &ByteCounter| {
            before.saturating_add(counter.load(Ordering::Relaxed))
        };
        progress.fetched = Fetched {
            head: sum(self.before.head, &self.head),
            delta: sum(self.before.delta, &self.delta),
            index: sum(self.before.index, &self.index),
            payload: sum(self.before.payload, &self.payload),
        };
        self.told.set(progress.percent());
        let temporary = self.file.with_extension("new");
        if let Ok(text) = serde_json::to_vec(&*progress) {
            let _ = create_own(&temporary)
                .and_then(|mut file| file.write_all(&text))
                .and_then(|()| put_in_place(&temporary, &self.file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn says_what_was_fetched_and_saved() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::below(dir.path());
        fs::create_dir_all(device.data()).unwrap();
        let progress = InstallProgress {
            version: "1.0.1".into(),
            header_sha256: "ab".into(),
            payload_bytes: 30_000_000,
            chunks_in_all: 4,
            ..InstallProgress::default()
        };
        let mut recorder = ProgressRecorder::open(&device);
        recorder.begin(&device, progress.clone());
        recorder.there(1);
        recorder.delta.fetch_add(700_000, Ordering::Relaxed);
        recorder.brought(Source::Delta);
        assert_eq!(InstallProgress::load(&device).unwrap().percent(), 50);
        let mut again = ProgressRecorder::open(&device);
        again.begin(&device, progress);
        again.payload.fetch_add(300_000, Ordering::Relaxed);
        again.done();
        let last = InstallProgress::load(&device).unwrap();
        assert_eq!((last.percent(), last.saved()), (100, 29_000_000));
        assert_eq!(
            last.to_text("installed"),
            "installed 1.0.1: fetched 1.00 MB (delta 0.70 MB, payload 0.30 MB), saved 29.00 MB of 30.00 MB"
        );
    }

    #[test]
    fn notes_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = ProgressRecorder::open(&Device::below(dir.path()));
        (0..100).for_each(|_| recorder.gave_up("delta", &"x".repeat(10_000)));
        let progress = recorder.progress.borrow();
        assert_eq!(progress.notes.len(), MAX_NOTES);
        assert!(serde_json::to_vec(&*progress).unwrap().len() < MAX_FILE as usize / 2);
    }
}
