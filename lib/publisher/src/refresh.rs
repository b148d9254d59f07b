//! The timestamp signed anew, by a timer and with nothing but its key.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tuf::Time;
use tuf::author::{Changes, Dates, Published, Renew, release};

use crate::keys::KeySources;
use crate::repository_folder::{self, load, lock, no_repository};
use crate::signing_clock::ClockCheck;
use crate::staged::online_keys;

/// What is renewed, and for how long.
#[derive(Debug, Clone)]
pub struct Request {
    /// The repository's folder.
    pub repo: PathBuf,
    /// The keys of timestamp and snapshot.
    pub keys: KeySources,
    /// Days until the new timestamp expires.
    pub expires_days: u64,
    /// Nothing is done when the timestamp was signed less than so many seconds ago.
    pub if_older_than: Option<u64>,
    /// The snapshot is signed anew too when it has fewer days left than this.
    pub snapshot_within_days: u64,
    /// Days until a new snapshot expires.
    pub snapshot_expires_days: u64,
    /// Whether this machine's clock is looked at.
    pub clock: ClockCheck,
}

/// What is to be signed anew.
fn decide(before: &Published, request: &Request, now: Time) -> Renew {
    if before.snapshot.expires <= now.plus_days(request.snapshot_within_days) {
        return Renew::Snapshot;
    }
    let young = |age: u64| {
        before.timestamp.signed_at.is_some_and(|at| now.0 < at.0.saturating_add(age))
            && before.timestamp.expires > now
    };
    match request.if_older_than {
        Some(age) if young(age) => Renew::Nothing,
        _ => Renew::Timestamp,
    }
}

/// Renews what has to be. `warn` is told what will need offline keys soon.
pub fn refresh(request: &Request, now: Time, warn: &mut dyn FnMut(String)) -> Result<Vec<String>> {
    if request.expires_days == 0 || request.snapshot_expires_days == 0 {
        bail!("what expires at once helps nobody; give at least 1 day");
    }
    let repo = &request.repo;
    let _lock = lock(repo)?;
    let before = load(repo)?.with_context(|| no_repository(repo))?;
    request.clock.check(now, Some(&before), &[])?;
    for (what, expires) in [("root", before.root.expires), ("targets", before.targets.expires)] {
        if expires <= now.plus_days(request.snapshot_within_days) {
            warn(format!("{what} expires at {expires}; only its own keys can renew it"));
        }
    }
    let renew = decide(&before, request, now);
    if renew == Renew::Nothing {
        return Ok(vec![format!("timestamp version {} is young", before.timestamp.version)]);
    }
    let dates = Dates {
        signed_at: now,
        targets: before.targets.expires,
        snapshot: now.plus_days(request.snapshot_expires_days),
        timestamp: now.plus_days(request.expires_days),
    };
    let keys = request.keys.keyring()?;
    let changes = Changes { renew, ..Changes::default() };
    let publication = release(Some(&before), changes, &keys, &dates).map_err(online_keys)?;
    repository_folder::write(repo, &publication)?;
    let what = if renew == Renew::Snapshot { "snapshot and timestamp" } else { "timestamp" };
    Ok(vec![format!(
        "{what} renewed: timestamp version {}, good until {}",
        before.timestamp.version + 1,
        dates.timestamp
    )])
}
