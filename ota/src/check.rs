//! Is there something newer for this device?

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tuf::author::Published;
use tuf::{DirStore, FerriteTarget, Fetch, Limits, TargetFile, Time, target_path};

use crate::bounded_file::read_bounded;
use crate::clock;
use crate::device::Running;
use crate::health;
use crate::heart;
use crate::http::{Client, Remote};
use crate::install::{Offer, Promise};
use crate::meter::Asked;
use crate::paths::Paths;
use crate::patience::Patience;
use crate::roads::{Helper, Helpers};
use crate::rollout::{Standing, Turn};
use crate::settings::Settings;
use crate::source::Source;
use crate::state::{State, Waiting, explain, failed_before, open_lock};
use crate::{Error, Result};

/// No root metadata in an image is longer, in bytes.
const MAX_ROOT: u64 = 256 << 10;

/// Held while the trusted metadata is brought up to date.
const METADATA_LOCK: &str = "tuf.lock";
/// Longer than a refresh takes over a slow link; a process that hangs must not hold up a trial.
const LOCK_PATIENCE: Duration = Duration::from_secs(180);
/// Between two attempts to get it.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Versions that are looked at when the newest ones are refused: more than a repository lists that
/// prunes, and some hundred KB of headers.
const MAX_CANDIDATES: usize = 64;

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

/// What the repository has for this device.
#[derive(Debug)]
pub struct Checked {
    /// What it may take, the newest first: one that is refused does not hide those behind it.
    pub take: Vec<(Candidate, Offer)>,
    /// The newest of all, when its rollout has not come to this device.
    pub waiting: Option<Waiting>,
}

/// Asks the repository at `url` what is newer than what runs.
///
/// Fails with [`Error::Refused`] when all that is newer failed its trial here before.
pub fn check(
    paths: &Paths,
    settings: &Settings,
    patience: Patience,
    url: &str,
    running: &Running,
    asked: Asked,
) -> Result<Checked> {
    let client = Client::of_device(paths, settings, patience, url, asked)?;
    let mut remote = Remote::new(client.clone(), url)?.remembering(&paths.tuf());
    let published = refreshed(paths, &mut remote, url).map_err(|error| client.later(error))?;
    let (candidates, waiting) = decide(paths, settings, running, &published, asked)?;
    let offer = |candidate: Candidate| {
        let at = |path: &str| Source::Url(client.clone(), remote.url(path));
        let promise = Promise {
            ferrite: candidate.ferrite.clone(),
            length: candidate.length,
            helpers: helpers(&published, &candidate.ferrite, at),
        };
        let source = at(&candidate.path);
        (candidate, Offer { source, promise: Some(promise) })
    };
    let take = candidates.into_iter().map(offer).collect();
    Ok(Checked { take, waiting })
}

/// The deltas and the index that lie beside an update, as far as they are targets.
fn helpers(published: &Published, ferrite: &FerriteTarget, at: impl Fn(&str) -> Source) -> Helpers {
    let names = ferrite.deltas.iter().map(|delta| &delta.target).chain(&ferrite.index);
    let helper = |name: &String| {
        let target = published.targets.targets.get(name)?;
        let path = target_path(published.root.consistent_snapshot, name, target)?;
        let sha256 = target.sha256()?.to_string();
        Some((name.clone(), Helper { source: at(&path), length: target.length, sha256 }))
    };
    names.filter_map(helper).collect()
}

/// Brings the trusted metadata up to date from the repository behind `fetch`, which errors call
/// `name`, and writes down what it says of the time.
pub fn refreshed(paths: &Paths, fetch: &mut dyn Fetch, name: &str) -> Result<Published> {
    let root = read_bounded(&paths.tuf_root(), MAX_ROOT)?;
    // Two that ask at once would replace each other's half-written metadata.
    let _lock = metadata_lock(paths, LOCK_PATIENCE)?;
    let mut store = DirStore::open(&paths.tuf()).map_err(|e| explain(&paths.tuf(), &e))?;
    let mut client = tuf::Client::new(fetch, &mut store, clock::certain(paths), Limits::default())
        .believing_until(clock::believable(paths));
    let published = client.refresh(&root);
    // What a key said that the newest root took away is forgotten although nothing newer came.
    let signed_at = client.signed_at(&root).unwrap_or(None).map(|time| time.0);
    let published = match published {
        Ok(published) => published,
        Err(error) => {
            let _ = State::change(paths, |state| state.signed_at = signed_at);
            return Err(match error {
                tuf::Error::Store { name, source } => explain(&paths.tuf().join(name), &source),
                other => Error::failed(format!("{name}: {other}")),
            });
        }
    };
    if let Some(time) = published.timestamp.signed_at {
        // Where nobody listens there is no clock to be corrected.
        let _ = health::tell_signed_time(paths, time.0);
    }
    let expires = [
        published.root.expires,
        published.timestamp.expires,
        published.snapshot.expires,
        published.targets.expires,
    ];
    State::change(paths, |state| {
        state.signed_at = signed_at;
        state.metadata_expires = expires.iter().map(|time| time.0).min();
    })?;
    Ok(published)
}

/// The lock, waited for with this patience: whoever has it may be waiting for a slow server.
fn metadata_lock(paths: &Paths, patience: Duration) -> Result<File> {
    let path = paths.data().join(METADATA_LOCK);
    std::fs::create_dir_all(paths.data()).map_err(|e| explain(paths.data(), &e))?;
    let lock = open_lock(&path).map_err(|e| explain(&path, &e))?;
    let begun = Instant::now();
    while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(Error::at(&path, error));
        }
        if begun.elapsed() >= patience {
            let seconds = patience.as_secs();
            let held = format!("another `ota` has been checking for {seconds} s; try again later");
            return Err(Error::at(&path, held));
        }
        heart::sleep(LOCK_PAUSE);
    }
    Ok(lock)
}

/// What of all that is published is for this device: to take, the newest first, and to wait for.
/// What its publisher wants tried again is no longer remembered as failed.
pub fn decide(
    paths: &Paths,
    settings: &Settings,
    running: &Running,
    published: &Published,
    asked: Asked,
) -> Result<(Vec<Candidate>, Option<Waiting>)> {
    if settings.name != running.name {
        return Err(Error::failed(format!(
            "the settings are for an image named {}, this runs {}",
            settings.name, running.name
        )));
    }
    let state = State::change(paths, |state| retry(state, published))?;
    let standing = Standing::load(paths, settings)?;
    let now = Time(clock::best(paths, &state));
    let turn = |ferrite: &FerriteTarget| {
        standing.turn(ferrite.rollout.as_ref(), &ferrite.header_sha256, now)
    };
    let chosen = choose(published, running, &state, &turn, asked);
    let waiting = chosen.as_ref().ok().and_then(|(_, waiting)| waiting.clone());
    State::change(paths, |state| state.waiting = waiting)?;
    chosen
}

/// Does what signed metadata says of versions that failed or wait here.
fn retry(state: &mut State, published: &Published) {
    let wanted = published.targets.targets.values().filter_map(TargetFile::ferrite);
    for ferrite in wanted.filter(|ferrite| ferrite.retry > 0) {
        state.retry(&ferrite.header_sha256, ferrite.retry);
        let retrial = state.retrial.as_mut().filter(|r| r.header_sha256 == ferrite.header_sha256);
        if let Some(retrial) = retrial.filter(|retrial| retrial.retry < ferrite.retry) {
            retrial.retry = ferrite.retry;
            retrial.hurry();
        }
    }
}

/// The updates for what runs here that have not failed here and whose turn it is, the newest first;
/// and the newest of all when it is not its turn.
///
/// What waits for its retrial is none of them before it is due. Nothing older is, either, where it
/// was committed: that would be written over it. One that only failed its trial hides nothing, until
/// an older one fails in the same way.
fn choose(
    published: &Published,
    running: &Running,
    state: &State,
    turn: &dyn Fn(&FerriteTarget) -> Turn,
    asked: Asked,
) -> Result<(Vec<Candidate>, Option<Waiting>)> {
    let mut newer: Vec<(&String, &TargetFile, FerriteTarget)> = published
        .targets
        .targets
        .iter()
        .filter_map(|(name, target)| Some((name, target, target.ferrite()?)))
        .filter(|(_, _, ferrite)| {
            ferrite.board == running.board
                && ferrite.name == running.name
                && ferrite.sequence > running.sequence
        })
        .collect();
    newer.sort_by_key(|(_, _, ferrite)| std::cmp::Reverse(ferrite.sequence));
    // One that is not in this slot for good waits only as long as it is offered.
    let waits = state.retrial.as_ref().filter(|retrial| {
        let offered = |f: &FerriteTarget| f.header_sha256 == retrial.header_sha256;
        retrial.committed || newer.iter().any(|(_, _, ferrite)| offered(ferrite))
    });
    newer.retain(|(_, _, ferrite)| match waits {
        Some(waits) if ferrite.header_sha256 == waits.header_sha256 => {
            !waits.committed && (waits.is_due() || asked == Asked::ByHand)
        }
        Some(waits) if waits.committed || waits.hides_older => ferrite.sequence > waits.sequence,
        _ => true,
    });
    let (good, failed): (Vec<_>, Vec<_>) =
        newer.into_iter().partition(|(_, _, f)| state.failure_of(&f.header_sha256).is_none());
    let waiting = good.first().map(|(_, _, ferrite)| (ferrite, turn(ferrite)));
    let waiting = waiting.filter(|(_, turn)| *turn != Turn::Now).map(|(ferrite, turn)| Waiting {
        sequence: ferrite.sequence,
        version: ferrite.version.clone(),
        turn: turn.to_string(),
    });
    let may_take = |ferrite: &FerriteTarget| match turn(ferrite) {
        Turn::Now => true,
        Turn::Paused => false,
        Turn::At(_) | Turn::Never => asked != Asked::ByItself,
    };
    if let (true, Some((_, _, ferrite))) = (good.is_empty(), failed.first()) {
        let reason = state.failure_of(&ferrite.header_sha256).map(|f| f.reason.as_str());
        return Err(failed_before(&ferrite.version, reason.unwrap_or("unknown")));
    }
    let candidate = |(name, target, ferrite): &(&String, &TargetFile, FerriteTarget)| {
        // One whose name makes no path is no candidate.
        let path = target_path(published.root.consistent_snapshot, name, target)?;
        Some(Candidate { ferrite: ferrite.clone(), length: target.length, path })
    };
    let take = good.iter().filter(|(_, _, ferrite)| may_take(ferrite));
    Ok((take.filter_map(candidate).take(MAX_CANDIDATES).collect(), waiting))
}

#[cfg(test)]
mod tests;
