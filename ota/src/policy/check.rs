//! Is there something newer for this device?

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tuf::author::Published;
use tuf::{DirStore, FerriteTarget, Fetch, Limits, TargetFile, Time, target_path};

use crate::bounded_file::read_bounded;
use crate::clock;
use crate::context::{Context, Running};
use crate::device::Device;
use crate::fetch::data_budget::Trigger;
use crate::fetch::http::Client;
use crate::fetch::remote::Remote;
use crate::fetch::resource::Resource;
use crate::fetch::timeouts::Timeouts;
use crate::heart;
use crate::init::health;
use crate::install::candidates::Candidate;
use crate::install::chunk_sources::companion::{Companion, CompanionFiles};
use crate::install::{SignedTarget, UpdateSource};
use crate::policy::rollout::{Eligibility, RolloutMembership};
use crate::state::{State, Waiting, explain, failed_before, open_lock};
use crate::{Error, Result};

/// No root metadata in an image is longer, in bytes.
const MAX_ROOT: u64 = 256 << 10;

/// Held while the trusted metadata is brought up to date.
const METADATA_LOCK: &str = "tuf.lock";
/// Longer than a refresh takes over a slow link; a process that hangs must not hold up a trial.
const LOCK_TIMEOUT: Duration = Duration::from_secs(180);
/// Between two attempts to get it.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Versions that are looked at when the newest ones are refused: more than a repository lists that
/// prunes, and some hundred KB of headers.
const MAX_CANDIDATES: usize = 64;

/// What the repository has for this device.
#[derive(Debug)]
pub struct Checked {
    /// What it may take, the newest first: one that is refused does not hide those behind it.
    pub take: Vec<(Candidate, UpdateSource)>,
    /// The newest of all, when its rollout has not come to this device.
    pub waiting: Option<Waiting>,
}

/// Asks the repository at `url` what is newer than what runs.
///
/// Fails with [`Error::Refused`] when all that is newer failed its trial here before.
pub fn check(
    context: &Context,
    timeouts: Timeouts,
    url: &str,
    trigger: Trigger,
) -> Result<Checked> {
    let device = &context.device;
    let client = Client::of_device(device, context.settings()?, timeouts, url, trigger)?;
    let mut remote = Remote::new(client.clone(), url)?.remembering(&device.tuf());
    let published = refreshed(device, &mut remote, url).map_err(|error| client.later(error))?;
    let (candidates, waiting) = decide(context, &published, trigger)?;
    let offer = |candidate: Candidate| {
        let at = |path: &str| Resource::Url(client.clone(), remote.url(path));
        let signed = SignedTarget {
            ferrite: candidate.ferrite.clone(),
            length: candidate.length,
            companions: companions(&published, &candidate.ferrite, at),
        };
        let resource = at(&candidate.path);
        (candidate, UpdateSource { resource, signed: Some(signed) })
    };
    let take = candidates.into_iter().map(offer).collect();
    Ok(Checked { take, waiting })
}

/// The deltas and the index that lie beside an update, as far as they are targets.
fn companions(
    published: &Published,
    ferrite: &FerriteTarget,
    at: impl Fn(&str) -> Resource,
) -> CompanionFiles {
    let names = ferrite.deltas.iter().map(|delta| &delta.target).chain(&ferrite.index);
    let companion = |name: &String| {
        let target = published.targets.targets.get(name)?;
        let path = target_path(published.root.consistent_snapshot, name, target)?;
        let sha256 = target.sha256()?.to_string();
        Some((name.clone(), Companion { resource: at(&path), length: target.length, sha256 }))
    };
    names.filter_map(companion).collect()
}

/// Brings the trusted metadata up to date from the repository behind `fetch`, which errors call
/// `name`, and writes down what it says of the time.
pub fn refreshed(device: &Device, fetch: &mut dyn Fetch, name: &str) -> Result<Published> {
    let root = read_bounded(&device.tuf_root(), MAX_ROOT)?;
    // Two that ask at once would replace each other's half-written metadata.
    let _lock = metadata_lock(device, LOCK_TIMEOUT)?;
    let mut store = DirStore::open(&device.tuf()).map_err(|e| explain(&device.tuf(), &e))?;
    let mut client =
        tuf::Client::new(fetch, &mut store, clock::network_lower_bound(device), Limits::default())
            .believing_until(clock::believable(device));
    let published = client.refresh(&root);
    // What a key said that the newest root took away is forgotten although nothing newer came.
    let signed_at = client.signed_at(&root).unwrap_or(None).map(|time| time.0);
    let published = match published {
        Ok(published) => published,
        Err(error) => {
            let _ = State::change(device, |state| state.signed_at = signed_at);
            return Err(match error {
                tuf::Error::Store { name, source } => explain(&device.tuf().join(name), &source),
                other => Error::failed(format!("{name}: {other}")),
            });
        }
    };
    if let Some(time) = published.timestamp.signed_at {
        // Where nobody listens there is no clock to be corrected.
        let _ = health::tell_signed_time(device, time.0);
    }
    let expires = [
        published.root.expires,
        published.timestamp.expires,
        published.snapshot.expires,
        published.targets.expires,
    ];
    State::change(device, |state| {
        state.signed_at = signed_at;
        state.metadata_expires = expires.iter().map(|time| time.0).min();
    })?;
    Ok(published)
}

/// The lock, waited for with this timeout: whoever has it may be waiting for a slow server.
fn metadata_lock(device: &Device, timeout: Duration) -> Result<File> {
    let path = device.data().join(METADATA_LOCK);
    std::fs::create_dir_all(device.data()).map_err(|e| explain(device.data(), &e))?;
    let lock = open_lock(&path).map_err(|e| explain(&path, &e))?;
    let begun = Instant::now();
    while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(Error::at(&path, error));
        }
        if begun.elapsed() >= timeout {
            let seconds = timeout.as_secs();
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
    context: &Context,
    published: &Published,
    trigger: Trigger,
) -> Result<(Vec<Candidate>, Option<Waiting>)> {
    let Context { device, running, .. } = context;
    let settings = context.settings()?;
    if settings.name != running.name {
        return Err(Error::failed(format!(
            "the settings are for an image named {}, this runs {}",
            settings.name, running.name
        )));
    }
    let membership = RolloutMembership::load(device, settings)?;
    // One step for other processes: what is decided is what the state then says.
    let mut chosen = Ok((Vec::new(), None));
    State::change(device, |state| {
        retry(state, published);
        let now = Time(clock::estimate(device, state.signed_at));
        let eligibility = |ferrite: &FerriteTarget| {
            membership.eligibility(ferrite.rollout.as_ref(), &ferrite.header_sha256, now)
        };
        chosen = choose(published, running, state, &eligibility, trigger);
        state.waiting = chosen.as_ref().ok().and_then(|(_, waiting)| waiting.clone());
    })?;
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
    eligibility: &dyn Fn(&FerriteTarget) -> Eligibility,
    trigger: Trigger,
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
            !waits.committed && (waits.is_due() || trigger == Trigger::Manual)
        }
        Some(waits) if waits.committed || waits.hides_older => ferrite.sequence > waits.sequence,
        _ => true,
    });
    let (good, failed): (Vec<_>, Vec<_>) =
        newer.into_iter().partition(|(_, _, f)| state.failure_of(&f.header_sha256).is_none());
    let waiting = good.first().map(|(_, _, ferrite)| (ferrite, eligibility(ferrite)));
    let waiting =
        waiting.filter(|(_, turn)| *turn != Eligibility::Now).map(|(ferrite, turn)| Waiting {
            sequence: ferrite.sequence,
            version: ferrite.version.clone(),
            turn: turn.to_string(),
        });
    let may_take = |ferrite: &FerriteTarget| match eligibility(ferrite) {
        Eligibility::Now => true,
        Eligibility::Paused => false,
        Eligibility::At(_) | Eligibility::Never => trigger != Trigger::Scheduled,
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
