//! Is there something newer for this device?

use std::time::{SystemTime, UNIX_EPOCH};

use repository::author::Published;
use repository::{refresh, target_path, DirStore, FerriteTarget, Limits, TargetFile, Time};

use crate::device::{read_bounded, Running};
use crate::http::{Client, Patience, Remote};
use crate::install::{Offer, Promise};
use crate::paths::Paths;
use crate::settings::Settings;
use crate::source::Source;
use crate::state::{explain, State};
use crate::{Error, Result};

/// No root metadata in an image is longer, in bytes.
const MAX_ROOT: u64 = 256 << 10;

/// An update that the repository offers and this device may take.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What the repository says of it.
    pub ferrite: FerriteTarget,
    /// Its length in bytes.
    pub length: u64,
    /// Where it lies in the repository.
    pub path: String,
}

/// Asks the repository at `url`. `None`: nothing newer than what runs.
///
/// Fails with [`Error::Refused`] when all that is newer failed its trial here before.
pub fn check(
    paths: &Paths,
    settings: &Settings,
    patience: Patience,
    url: &str,
    running: &Running,
) -> Result<Option<(Candidate, Offer)>> {
    if settings.name != running.name {
        return Err(Error::failed(format!(
            "the settings are for an image named {}, this runs {}",
            settings.name, running.name
        )));
    }
    let client = Client::new(patience, settings.max_bytes_per_second);
    let mut remote = Remote::new(client.clone(), url)?;
    let root = read_bounded(&paths.tuf_root(), MAX_ROOT)?;
    let mut store = DirStore::open(&paths.tuf()).map_err(|e| explain(&paths.tuf(), &e))?;
    let published = refresh(&mut remote, &mut store, &root, Time(now()), &Limits::default())
        .map_err(|error| match error {
            repository::Error::Store { name, source } => explain(&paths.tuf().join(name), &source),
            other => Error::failed(format!("{url}: {other}")),
        })?;
    let chosen = choose(&published, running, &State::load(paths))?;
    Ok(chosen.map(|candidate| {
        let source = Source::Url(client, remote.url(&candidate.path));
        let promise = Promise { ferrite: candidate.ferrite.clone(), length: candidate.length };
        (candidate, Offer { source, promise: Some(promise) })
    }))
}

/// Seconds since 1970 by the device's clock, which `init` never lets go back behind the last time
/// that was written down.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The newest update for what runs here that has not failed here.
fn choose(published: &Published, running: &Running, state: &State) -> Result<Option<Candidate>> {
    let ours = |ferrite: &FerriteTarget| {
        ferrite.board == running.board
            && ferrite.name == running.name
            && ferrite.sequence > running.sequence
    };
    let mut newer: Vec<(&String, &TargetFile, FerriteTarget)> = published
        .targets
        .targets
        .iter()
        .filter_map(|(name, target)| Some((name, target, target.ferrite()?)))
        .filter(|(_, _, ferrite)| ours(ferrite))
        .collect();
    newer.sort_by_key(|(_, _, ferrite)| std::cmp::Reverse(ferrite.sequence));
    let good = newer.iter().find(|(_, _, f)| state.failure_of(&f.header_sha256).is_none());
    let Some((name, target, ferrite)) = good else {
        return match newer.first() {
            None => Ok(None),
            Some((_, _, ferrite)) => {
                let reason = state.failure_of(&ferrite.header_sha256).map(|f| f.reason.as_str());
                Err(failed_before(&ferrite.version, reason.unwrap_or("unknown")))
            }
        };
    };
    let path = target_path(published.root.consistent_snapshot, name, target).ok_or_else(|| {
        Error::failed(format!("the repository's target {name:?} has no sound path"))
    })?;
    Ok(Some(Candidate { ferrite: ferrite.clone(), length: target.length, path }))
}

/// The refusal of a version that failed its trial.
pub fn failed_before(version: &str, reason: &str) -> Error {
    Error::refused(version, format!("it failed its trial here before: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Failed;
    use slot::Slot;
    use std::collections::BTreeMap;

    fn running() -> Running {
        Running {
            slot: Slot::A,
            trial: false,
            fallback: false,
            board: "b".into(),
            name: "n".into(),
            version: "1".into(),
            sequence: 5,
        }
    }

    fn published(offers: &[(&str, &str, u64)]) -> Published {
        let key = |n: u8| ed25519_dalek::SigningKey::from_bytes(&[n; 32]);
        let signers = repository::author::RoleSigners {
            root: key(1),
            targets: key(2),
            snapshot: key(3),
            timestamp: key(4),
        };
        let end = Time(4_000_000_000);
        let root = repository::author::first_root(&signers, end).unwrap();
        let dates = repository::author::Dates {
            signed_at: Time(1),
            targets: end,
            snapshot: end,
            timestamp: end,
        };
        let targets = offers
            .iter()
            .map(|(board, name, sequence)| {
                let custom = serde_json::json!({"ferrite": {"board": board, "name": name,
                    "version": sequence.to_string(), "sequence": sequence,
                    "header_sha256": format!("{sequence:064}")}});
                let hashes = BTreeMap::from([("sha256".to_string(), "ab".repeat(32))]);
                let target = TargetFile { length: 9, hashes, custom: Some(custom) };
                (format!("{name}-{board}-{sequence}"), target)
            })
            .collect();
        let files: BTreeMap<String, Vec<u8>> =
            repository::author::publication(Err(&root[..]), targets, &signers, &dates)
                .unwrap()
                .files
                .into_iter()
                .collect();
        struct Memory(BTreeMap<String, Vec<u8>>);
        impl repository::Fetch for Memory {
            fn fetch(
                &mut self,
                path: &str,
                _: u64,
            ) -> std::result::Result<Vec<u8>, repository::FetchError> {
                let name = path.trim_start_matches("metadata/");
                self.0.get(name).cloned().ok_or(repository::FetchError::NotFound)
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let mut store = DirStore::open(dir.path()).unwrap();
        refresh(&mut Memory(files), &mut store, &root, Time(0), &Limits::default()).unwrap()
    }

    #[test]
    fn takes_the_newest_for_this_board_and_name() {
        let published = published(&[("b", "n", 6), ("b", "n", 7), ("c", "n", 9), ("b", "m", 9)]);
        let chosen = choose(&published, &running(), &State::default()).unwrap().unwrap();
        assert_eq!(chosen.ferrite.sequence, 7);
        assert_eq!(chosen.path, format!("targets/{}.n-b-7", "ab".repeat(32)));
    }

    #[test]
    fn nothing_newer_is_nothing() {
        let published = published(&[("b", "n", 4), ("b", "n", 5)]);
        assert!(choose(&published, &running(), &State::default()).unwrap().is_none());
    }

    #[test]
    fn what_failed_is_passed_over_and_named_when_nothing_else_is_newer() {
        let mut state = State::default();
        state.remember_failed(Failed {
            sequence: 7,
            version: "7".into(),
            header_sha256: format!("{:064}", 7),
            reason: "kernel panic".into(),
        });
        let both = published(&[("b", "n", 6), ("b", "n", 7)]);
        assert_eq!(choose(&both, &running(), &state).unwrap().unwrap().ferrite.sequence, 6);
        let one = published(&[("b", "n", 7)]);
        let error = choose(&one, &running(), &state).unwrap_err();
        assert_eq!(error.to_string(), "refused 7: it failed its trial here before: kernel panic");
    }
}
