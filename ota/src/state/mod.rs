//! What was tried and how it ended: `state.json` in `ota`'s own folder on the data partition.

pub mod retrial;
pub mod scrub_progress;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

pub use formats::report::Outcome;
use serde::{Deserialize, Serialize};

use crate::bounded_file::{create_own, open_own};
use crate::clock;
use crate::device::{Device, STATE};
use crate::state::retrial::Retrial;
use crate::state::scrub_progress::ScrubProgress;
use crate::{Error, Result};

/// No state is longer, in bytes.
const MAX_STATE: u64 = 256 << 10;
/// Versions remembered as failed; the oldest is forgotten first.
const MAX_FAILED: usize = 64;
/// Why a version that was committed came to be left, when nobody knows more.
pub const STRUCK_OUT: &str = "it was reset again and again, and left no reason";
/// Room that has to be free before an install begins, in bytes: the state and the repository's
/// metadata, each in two copies while one replaces the other.
const ROOM: usize = 64 << 10;

/// All of it. Everything has a default: a state that is lost costs a memory, not an update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Installed and armed, not known yet to be good or bad.
    pub pending: Option<VersionId>,
    /// Never to be tried again.
    pub failed: Vec<Failed>,
    /// When the repository last answered, in seconds since 1970.
    pub last_check: Option<u64>,
    /// Why the last check or install did not work.
    pub last_error: Option<String>,
    /// What keeps the version on trial from being committed, beside its health.
    pub commit_waits: Option<String>,
    /// The highest floor of all versions that were committed here.
    #[serde(rename = "floor")]
    pub rollback_floor: u64,
    /// When the metadata that is trusted now was signed, in seconds since 1970: so late it is.
    pub signed_at: Option<u64>,
    /// When the first of that metadata expires, in seconds since 1970.
    pub metadata_expires: Option<u64>,
    /// How the last update ended, when this image tells its owner.
    pub report: Option<PendingReport>,
    /// The newest version that is offered and not this device's to take yet.
    pub waiting: Option<Waiting>,
    /// What waits for another trial.
    pub retrial: Option<Retrial>,
    /// Failures that their publisher had forgotten.
    pub retried: Vec<Retried>,
    /// How far the idle slot has been looked through.
    pub scrub: Option<ScrubProgress>,
}

/// A failure that was forgotten because the version's publisher said so in signed metadata. It is
/// forgotten once for each level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Names the version for certain.
    pub header_sha256: String,
    /// The level of `retry` that was acted on.
    pub level: u32,
}

/// A version whose rollout has not come to this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Orders versions.
    pub sequence: u64,
    /// For people.
    pub version: String,
    /// When its turn comes, or why it does not.
    pub turn: String,
}

/// A version whose trial is armed or running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionId {
    /// `a` or `b`.
    pub slot: String,
    /// Orders versions.
    pub sequence: u64,
    /// For people.
    pub version: String,
    /// Names it for certain.
    pub header_sha256: String,
    /// When it was armed, by the device's clock, in seconds since 1970. An `ota` of 0.1 did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub armed_at: Option<u64>,
    /// Somebody brought it here, on a stick or as a file, or said to go back to it: it need not
    /// reach a server to be kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub brought: bool,
}

impl VersionId {
    /// The same, armed now.
    #[must_use]
    pub fn armed(self, brought: bool) -> VersionId {
        VersionId { armed_at: Some(clock::now()), brought, ..self }
    }

    /// The memory of its failure.
    pub fn failed(&self, reason: &str) -> Failed {
        Failed {
            sequence: self.sequence,
            version: self.version.clone(),
            header_sha256: self.header_sha256.clone(),
            reason: reason.into(),
            retry: 0,
        }
    }
}

/// A version that failed its trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Orders versions.
    pub sequence: u64,
    /// For people.
    pub version: String,
    /// Names it for certain.
    pub header_sha256: String,
    /// Why it failed.
    pub reason: String,
    /// The level of its publisher's `retry` at which it failed.
    #[serde(default)]
    pub retry: u32,
}

/// A report that waits to be sent, or was: what `formats::report` makes one of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingReport {
    /// How it ended.
    pub outcome: Outcome,
    /// Of which version.
    pub version: String,
    /// Why, when it did not end well.
    pub reason: String,
    /// When, by the device's time, in seconds since 1970.
    pub time: u64,
    /// How often sending it has failed.
    #[serde(default)]
    pub attempts: u32,
    /// Not to be sent before, in seconds since 1970.
    #[serde(default)]
    pub not_before: u64,
    /// It was taken, or given up.
    #[serde(default)]
    pub done: bool,
}

impl State {
    /// Reads the state. A file that is missing or damaged is an empty state: the device must go on.
    pub fn load(device: &Device) -> State {
        let bytes = device.data_folder().read(STATE, MAX_STATE);
        let state = bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut state: State = state.unwrap_or_default();
        // `ota` 0.1 remembered a version that had been committed and was reset too often as one
        // that failed its trial, with these words and for no other reason.
        state.failed.retain(|failed| failed.reason != STRUCK_OUT);
        state
    }

    /// Reads the state, changes it, and writes it if it changed; as one step for other processes.
    pub fn change(device: &Device, change: impl FnOnce(&mut State)) -> Result<State> {
        fs::create_dir_all(device.data()).map_err(|e| Error::at(device.data(), e))?;
        let path = device.data().join("state.lock");
        let lock = open_lock(&path).map_err(|e| explain(&path, &e))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|e| Error::at(&path, e))?;
        let mut state = State::load(device);
        let before = state.clone();
        change(&mut state);
        if state != before {
            state.save(device)?;
        }
        Ok(state)
    }

    fn save(&self, device: &Device) -> Result<()> {
        let path = device.state();
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::at(&path, e))?;
        device.data_folder().replace(STATE, &text).map_err(|e| explain(&path, &e))
    }

    /// Remembers a failed version, once.
    pub fn remember_failed(&mut self, mut failed: Failed) {
        let acted_on = self.retried.iter().find(|r| r.header_sha256 == failed.header_sha256);
        failed.retry = failed.retry.max(acted_on.map_or(0, |retried| retried.level));
        self.failed.retain(|f| f.header_sha256 != failed.header_sha256);
        push_bounded(&mut self.failed, failed);
    }

    /// Forgets that this version failed, if its publisher says so at a higher `level` than the
    /// failure is remembered with. True when it did.
    pub fn retry(&mut self, header_sha256: &str, level: u32) -> bool {
        let known = self.failure_of(header_sha256).is_some_and(|failed| failed.retry < level);
        if known {
            self.failed.retain(|f| f.header_sha256 != header_sha256);
            self.retried.retain(|r| r.header_sha256 != header_sha256);
            push_bounded(&mut self.retried, Retried { header_sha256: header_sha256.into(), level });
        }
        known
    }

    /// The memory of this version having failed.
    pub fn failure_of(&self, header_sha256: &str) -> Option<&Failed> {
        self.failed.iter().find(|failed| failed.header_sha256 == header_sha256)
    }
}

/// Adds to a memory; beyond [`MAX_FAILED`] the oldest is forgotten.
fn push_bounded<T>(memory: &mut Vec<T>, new: T) {
    memory.push(new);
    let surplus = memory.len().saturating_sub(MAX_FAILED);
    memory.drain(..surplus);
}

/// The refusal of a version that failed its trial.
pub fn failed_before(version: &str, reason: &str) -> Error {
    Error::refused(version, format!("it failed its trial here before: {reason}"))
}

/// Refuses to write over what waits in the other slot with the same thing.
pub fn refuse_same(state: &State, header_sha256: &str) -> Result<()> {
    match &state.retrial {
        Some(r) if r.committed && r.header_sha256 == header_sha256 => Err(Error::refused(
            &r.version,
            format!("it lies in slot {} and waits: {}", r.slot, r.when()),
        )),
        _ => Ok(()),
    }
}

/// Refuses when the data partition has no room for what an install has to write down.
pub fn check_room(device: &Device) -> Result<()> {
    fs::create_dir_all(device.data()).map_err(|e| explain(device.data(), &e))?;
    device.data_folder().require_room(ROOM).map_err(|e| explain(device.data(), &e))
}

/// Opens a file to hold a lock on. One made by another user is opened for reading only: a lock
/// needs no more.
pub fn open_lock(path: &Path) -> io::Result<File> {
    match open_own(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().create(true).truncate(false).write(true).open(path)
        }
        // Not the file that it should be: nobody holds a lock on that.
        Err(_) if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) => {
            create_own(path)
        }
        other => other,
    }
}

/// A full partition is the error people meet: it gets its next step.
pub fn explain(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::failed(format!(
            "{}: the data partition is full; free some space and try again",
            path.display()
        )),
        _ => Error::at(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(n: u64) -> Failed {
        Failed {
            sequence: n,
            version: format!("1.{n}"),
            header_sha256: format!("{n:064}"),
            reason: "it panicked".into(),
            retry: 0,
        }
    }

    #[test]
    fn comes_back_and_survives_damage() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::below(dir.path());
        assert_eq!(State::load(&device), State::default());
        State::change(&device, |s| s.remember_failed(failed(1))).unwrap();
        let state = State::load(&device);
        assert_eq!(state.failure_of(&format!("{:064}", 1)).unwrap().reason, "it panicked");
        fs::write(device.state(), "{ half").unwrap();
        assert_eq!(State::load(&device), State::default());
    }

    #[test]
    fn memory_of_failures_is_bounded_and_without_doubles() {
        let mut state = State::default();
        for n in 0..100 {
            state.remember_failed(failed(n));
            state.remember_failed(failed(n));
        }
        assert_eq!(state.failed.len(), MAX_FAILED);
        assert_eq!(state.failed.last().unwrap().sequence, 99);
    }

    #[test]
    fn a_publisher_has_a_failure_forgotten_once_for_each_level() {
        let mut state = State::default();
        let hash = format!("{:064}", 1);
        assert!(!state.retry(&hash, 1), "it never failed");
        for level in 1..=3 {
            state.remember_failed(failed(1));
            assert!(!state.retry(&hash, level - 1), "level {level}");
            assert!(state.retry(&hash, level) && state.failure_of(&hash).is_none());
        }
        state.remember_failed(failed(1));
        assert_eq!(state.failed[0].retry, 3);
        assert!(!state.retry(&hash, 3));
        for n in 0..1000 {
            state.remember_failed(failed(n));
            state.retry(&format!("{n:064}"), 9);
        }
        assert_eq!(state.retried.len(), MAX_FAILED);
    }

    #[test]
    fn a_state_of_0_1_is_read_and_what_it_banned_by_mistake_is_not_banned() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::below(dir.path());
        fs::create_dir(device.data()).unwrap();
        let old = r#"{"pending": {"slot": "b", "sequence": 4, "version": "4", "header_sha256": "ff"},
            "failed": [
              {"sequence": 2, "version": "2", "header_sha256": "aa", "reason": "it panicked"},
              {"sequence": 3, "version": "3", "header_sha256": "bb",
               "reason": "it was reset again and again, and left no reason"}],
            "last_check": 7, "last_error": null, "floor": 1, "signed_at": null,
            "metadata_expires": null, "report": null, "waiting": null}"#;
        fs::write(device.state(), old).unwrap();
        let state = State::load(&device);
        assert_eq!((state.last_check, state.rollback_floor), (Some(7), 1));
        assert_eq!(state.pending.unwrap().armed_at, None);
        assert_eq!(state.failed.iter().map(|f| f.sequence).collect::<Vec<_>>(), [2]);
        assert_eq!(state.failed[0].retry, 0);
    }

    #[test]
    fn a_full_partition_is_told_with_its_next_step() {
        let error = explain(Path::new("/data"), &io::ErrorKind::StorageFull.into());
        assert!(error.to_string().contains("free some space"));
    }
}
