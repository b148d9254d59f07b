//! Which roads an install took, what each of them fetched, and what that saved: the file
//! `progress.json` in `ota`'s own folder.
//!
//! It is never flushed to the medium: a power cut costs a memory, not the update.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::bounded_file::{create_own, open_own, put_in_place};
use crate::paths::Paths;
use crate::source::Meter;

/// No such file is longer, in bytes.
const MAX_FILE: u64 = 16 << 10;
/// Reasons for leaving a road that are kept; later ones are dropped.
const MAX_NOTES: usize = 8;

/// What is known of the last install, or of the one under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The version for people.
    pub version: String,
    /// Names it for certain.
    pub header_sha256: String,
    /// Bytes of the whole payload: what the dearest road would have fetched.
    pub payload_bytes: u64,
    /// Bytes that each road fetched, over all attempts.
    pub fetched: Fetched,
    /// Chunks that each road brought in the last attempt.
    pub chunks: Chunks,
    /// Chunks of the whole.
    pub chunks_in_all: u64,
    /// Why a road was left before its end.
    pub notes: Vec<String>,
    /// It is installed.
    pub done: bool,
}

/// Bytes by road.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fetched {
    /// Slot header and chunk table, whatever the road.
    pub head: u64,
    /// The delta.
    pub delta: u64,
    /// The block index.
    pub index: u64,
    /// Chunks of the payload.
    pub payload: u64,
}

/// Chunks by road.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chunks {
    /// The idle slot held them.
    pub there: u64,
    /// Zeros, or the running slot holds them at the same place.
    pub held: u64,
    /// Made by the delta.
    pub delta: u64,
    /// Put together from blocks of the running slot.
    pub blocks: u64,
    /// Computed: the verity tree.
    pub tree: u64,
    /// From the payload.
    pub payload: u64,
}

impl Report {
    /// The report of the last install, if there is one that can be read.
    pub fn load(paths: &Paths) -> Option<Report> {
        let mut bytes = Vec::new();
        open_own(&file(paths)).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
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
        let Chunks { there, held, delta, blocks, tree, payload } = &self.chunks;
        let place = [there, held, delta, blocks, tree, payload];
        let place = place.into_iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        (place.saturating_mul(100) / self.chunks_in_all.max(1)).min(99)
    }

    /// For people, in one line.
    pub fn to_text(&self) -> String {
        let megabytes = |bytes: u64| format!("{:.2} MB", bytes as f64 / 1e6);
        let Fetched { delta, index, payload, .. } = self.fetched;
        let roads: Vec<String> = [("delta", delta), ("index", index), ("payload", payload)]
            .into_iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(road, bytes)| format!("{road} {}", megabytes(bytes)))
            .collect();
        let roads =
            if roads.is_empty() { String::new() } else { format!(" ({})", roads.join(", ")) };
        format!(
            "{} {}: fetched {}{roads}, saved {} of {}",
            if self.done { "installed" } else { "installing" },
            self.version,
            megabytes(self.fetched_in_all()),
            megabytes(self.saved()),
            megabytes(self.payload_bytes),
        )
    }
}

/// The road that brought a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// Zeros, or the running slot's chunk at the same place.
    Held,
    /// The delta.
    Delta,
    /// Blocks of the running slot.
    Blocks,
    /// The computed verity tree.
    Tree,
    /// The payload.
    Payload,
}

/// Keeps the report of the install under way.
#[derive(Debug)]
pub struct Account {
    file: PathBuf,
    report: RefCell<Report>,
    before: Fetched,
    told: Cell<u64>,
    /// Header and table.
    pub head: Meter,
    /// The delta.
    pub delta: Meter,
    /// The block index.
    pub index: Meter,
    /// Chunks of the payload.
    pub payload: Meter,
}

fn file(paths: &Paths) -> PathBuf {
    paths.data().join("progress.json")
}

impl Account {
    /// Nothing fetched yet.
    pub fn open(paths: &Paths) -> Account {
        Account {
            file: file(paths),
            report: RefCell::default(),
            before: Fetched::default(),
            told: Cell::new(u64::MAX),
            head: Meter::new(0),
            delta: Meter::new(0),
            index: Meter::new(0),
            payload: Meter::new(0),
        }
    }

    /// From now on it is known what is installed. What earlier attempts at it fetched counts too.
    pub fn begin(&mut self, paths: &Paths, report: Report) {
        self.before = Report::load(paths)
            .filter(|last| last.header_sha256 == report.header_sha256 && !last.done)
            .map_or_else(Fetched::default, |last| last.fetched);
        *self.report.borrow_mut() = report;
        self.write();
    }

    /// So many chunks were there before.
    pub fn there(&self, chunks: u64) {
        self.report.borrow_mut().chunks.there = chunks;
        self.write();
    }

    /// A chunk is in place. Writes the file when a percent is full.
    pub fn brought(&self, road: Road) {
        {
            let chunks = &mut self.report.borrow_mut().chunks;
            let count = match road {
                Road::Held => &mut chunks.held,
                Road::Delta => &mut chunks.delta,
                Road::Blocks => &mut chunks.blocks,
                Road::Tree => &mut chunks.tree,
                Road::Payload => &mut chunks.payload,
            };
            // It goes on from a file that nothing verifies.
            *count = count.saturating_add(1);
        }
        self.tell();
    }

    /// Writes the file when a percent is full.
    fn tell(&self) {
        if self.report.try_borrow().is_ok_and(|r| r.percent() != self.told.get()) {
            self.write();
        }
    }

    /// Remembers why a road was left.
    pub fn left(&self, road: &str, reason: &str) {
        let notes = &mut self.report.borrow_mut().notes;
        if notes.len() < MAX_NOTES {
            notes.push(format!("{road}: {reason}").chars().take(300).collect());
        }
    }

    /// All is in place.
    pub fn done(&self) {
        self.report.borrow_mut().done = true;
        self.write();
    }

    /// Writes the file; that it cannot be written harms nothing.
    pub fn write(&self) {
        let Ok(mut report) = self.report.try_borrow_mut() else { return };
        let sum = |before: u64, meter: &Meter| before.saturating_add(meter.load(Ordering::Relaxed));
        report.fetched = Fetched {
            head: sum(self.before.head, &self.head),
            delta: sum(self.before.delta, &self.delta),
            index: sum(self.before.index, &self.index),
            payload: sum(self.before.payload, &self.payload),
        };
        self.told.set(report.percent());
        let temporary = self.file.with_extension("new");
        if let Ok(text) = serde_json::to_vec(&*report) {
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
        let paths = Paths::below(dir.path());
        fs::create_dir_all(paths.data()).unwrap();
        let report = Report {
            version: "1.0.1".into(),
            header_sha256: "ab".into(),
            payload_bytes: 30_000_000,
            chunks_in_all: 4,
            ..Report::default()
        };
        let mut account = Account::open(&paths);
        account.begin(&paths, report.clone());
        account.there(1);
        account.delta.fetch_add(700_000, Ordering::Relaxed);
        account.brought(Road::Delta);
        assert_eq!(Report::load(&paths).unwrap().percent(), 50);
        let mut again = Account::open(&paths);
        again.begin(&paths, report);
        again.payload.fetch_add(300_000, Ordering::Relaxed);
        again.done();
        let last = Report::load(&paths).unwrap();
        assert_eq!((last.percent(), last.saved()), (100, 29_000_000));
        assert_eq!(
            last.to_text(),
            "installed 1.0.1: fetched 1.00 MB (delta 0.70 MB, payload 0.30 MB), saved 29.00 MB of 30.00 MB"
        );
    }

    #[test]
    fn notes_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let account = Account::open(&Paths::below(dir.path()));
        (0..100).for_each(|_| account.left("delta", &"x".repeat(10_000)));
        let report = account.report.borrow();
        assert_eq!(report.notes.len(), MAX_NOTES);
        assert!(serde_json::to_vec(&*report).unwrap().len() < MAX_FILE as usize / 2);
    }
}
