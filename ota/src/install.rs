//! Bringing an update into the idle slot, so that at every instant, with the power cut at any
//! write, the device boots the old version whole or the new version whole.

use std::fs::File;

use formats::manifest::HEADER_SIZE;
use formats::payload::{self, ChunkTable};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tuf::FerriteTarget;

use crate::account::{Account, Report};
use crate::boot;
use crate::device::{self, Running, identity};
use crate::floor;
use crate::kept::Kept;
use crate::paths::Paths;
use crate::retrial::refuse_same;
use crate::roads::{Helper, Helpers, Work, plan};
use crate::slot_reader::SlotReader;
use crate::source::Source;
use crate::state::{self, Pending, State, failed_before};
use crate::writer::{self, Accepted, admission};
use crate::{Error, Result};

/// Signatures and manifest of nearly every slot header end before this byte; the rest is zeros.
const LIKELY_HEADER: u64 = 4096;

/// An update somebody offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Where its bytes are.
    pub source: Source,
    /// What the repository's signed metadata says of it, when it comes from one.
    pub promise: Option<Promise>,
}

/// What signed metadata says of an update.
#[derive(Clone, Debug)]
pub struct Promise {
    /// Board, name, version, sequence, and the hash of its slot header.
    pub ferrite: FerriteTarget,
    /// Bytes of the file.
    pub length: u64,
    /// What lies beside it, by the target's name.
    pub helpers: Helpers,
}

/// Holds off other installers for as long as it lives.
#[derive(Debug)]
pub struct InstallerLock(File);

impl Drop for InstallerLock {
    fn drop(&mut self) {
        // A program that another thread is starting has the file, and with it the lock, from its
        // fork to its exec; unlocking ends it for both.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl InstallerLock {
    /// Takes the lock, or says that another installer is at work.
    pub fn take(paths: &Paths) -> Result<InstallerLock> {
        let path = paths.lock();
        std::fs::create_dir_all(paths.data()).map_err(|e| Error::at(paths.data(), e))?;
        let file = state::open_lock(&path).map_err(|e| Error::at(&path, e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(InstallerLock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::failed(
                "another installer is at work; wait until it is done (`ota status` shows it)",
            )),
            Err(error) => Err(Error::at(&path, error)),
        }
    }
}

/// Installs what is offered and arms its trial of `tries` boots. `beat` is called at least once a
/// chunk. Gives what was installed; the reboot is the caller's.
///
/// A refusal ([`Error::Refused`]) leaves the idle slot as it was.
pub fn install(paths: &Paths, offer: &Offer, tries: u8, beat: &dyn Fn()) -> Result<Pending> {
    // 1. One installer at a time; refuse all that can be refused before anything is written.
    let _lock = InstallerLock::take(paths)?;
    let running = Running::load(paths)?;
    let boot = boot::state(paths)?;
    admission::require_settled(&running, &boot)?;
    let kept = Kept::of(paths);
    let mut account = Account::open(paths);
    let accepted = accept(paths, offer, &running, &boot, &kept, &account)?;
    let Accepted { header, manifest, table } = &accepted;
    state::check_room(paths)?;
    account.begin(paths, report(&accepted));
    // Whoever writes the slot checks all of that again.
    let idle = writer::open(paths, &accepted, beat)?;

    // 2. and 3. The idle slot is about to stop being whole: nothing may boot it, nor take it for
    // whole. The name of what was armed goes first: a cut behind it loses a name, and one between
    // the two, the other way round, would make it a version that failed.
    let pending = identity(running.slot.other(), manifest, header).armed(offer.source.is_brought());
    State::change(paths, |state| {
        state.pending = None;
        // What waited there is gone, unless it is this that is tried again. A newer one that was
        // never committed waits to be fetched again.
        state.retrial.take_if(|waited| {
            waited.header_sha256 != pending.header_sha256
                && (waited.committed || waited.sequence <= pending.sequence)
        });
    })?;
    let missing = idle.prepare(beat)?;

    // 4. What is right already stays; the rest comes by the cheapest road, verified and written.
    account.there((table.chunks().len() - missing.len()) as u64);
    let old = open_running(paths, &running);
    let work = Work::new(&*idle, manifest, table, old.as_ref(), &kept, &account, beat, missing);
    let helpers = Chosen::of(offer.promise.as_ref(), old.as_ref());
    let brought = work.bring_all(&offer.source, helpers.delta, helpers.index);
    account.write();
    brought?;

    // 5. to 7. What counts is what the medium gives back; then the header, then the trial.
    idle.finish(tries, beat)?;

    // 8. Remember what is being tried. A power cut before this loses a name, not the trial.
    State::change(paths, |state| state.pending = Some(pending.clone()))?;
    account.done();
    let mut tables = vec![formats::hex::encode(&manifest.chunk_table_sha256)];
    tables.extend(running_table(paths));
    kept.forget_but(&tables.iter().map(String::as_str).collect::<Vec<_>>());
    Ok(pending)
}

/// What lies beside an update and is of use here.
struct Chosen<'a> {
    delta: Option<plan::Delta<'a>>,
    index: Option<&'a Helper>,
}

impl<'a> Chosen<'a> {
    fn of(promise: Option<&'a Promise>, old: Option<&SlotReader>) -> Chosen<'a> {
        let (Some(promise), Some(old)) = (promise, old) else {
            return Chosen { delta: None, index: None };
        };
        let delta = promise.ferrite.delta_from(old.header_sha256()).and_then(|delta| {
            Some(plan::Delta {
                helper: promise.helpers.get(&delta.target)?,
                head_length: delta.head_length,
                head_sha256: &delta.head_sha256,
            })
        });
        let index = promise.ferrite.index.as_ref().and_then(|name| promise.helpers.get(name));
        Chosen { delta, index }
    }
}

/// The slot that runs. Without it, all that is missing comes from the payload.
fn open_running(paths: &Paths, running: &Running) -> Option<SlotReader> {
    let keys = device::trusted_keys(paths).ok()?;
    let manifest = device::running_manifest(paths, &keys).ok()?;
    let identity = device::running_identity(paths, running.slot, &keys).ok()?;
    SlotReader::open(paths, running.slot, manifest, identity.header_sha256).ok()
}

/// The hash of the running slot's chunk table: by it, that slot's boot partition is looked through
/// when it is the idle one.
fn running_table(paths: &Paths) -> Option<String> {
    let manifest = device::running_manifest(paths, &device::trusted_keys(paths).ok()?).ok()?;
    Some(formats::hex::encode(&manifest.chunk_table_sha256))
}

fn accept(
    paths: &Paths,
    offer: &Offer,
    running: &Running,
    boot: &formats::boot_state::BootState,
    kept: &Kept,
    account: &Account,
) -> Result<Accepted> {
    let idle = running.slot.other();
    let keys = device::trusted_keys(paths)?;
    let floor = floor::lowest(paths, &keys, running.slot, boot, &State::load(paths))?;
    let label = offer.promise.as_ref().map_or("the update", |p| p.ferrite.version.as_str());
    let header = fetch_header(offer, label, kept, account)?;
    let manifest = admission::admit(&header, label, &keys, running, floor)?;
    let state = State::load(paths);
    let name = identity(idle, &manifest, &header).header_sha256;
    if let Some(failed) = state.failure_of(&name) {
        return Err(failed_before(&manifest.version, &failed.reason));
    }
    refuse_same(&state, &name)?;
    admission::check_fits(paths, idle, &manifest)?;
    let no = |e: formats::Error| Error::refused(&manifest.version, e.to_string());
    let table_size = payload::table_size(&manifest).map_err(no)?;
    let table_at = HEADER_SIZE as u64..(HEADER_SIZE + table_size) as u64;
    let table_sha256 = formats::hex::encode(&manifest.chunk_table_sha256);
    let table =
        kept.bring(&offer.source, table_at, &table_sha256, &account.head).map_err(|e| match e {
            Error::Refused { .. } => {
                Error::refused(&manifest.version, "the chunk table is not the signed one")
            }
            failed => failed,
        })?;
    let table = ChunkTable::parse(&table, &manifest).map_err(no)?;
    let header_sha256 = formats::hex::encode(&Sha256::digest(&header));
    let running_table = running_table(paths).unwrap_or_default();
    let mut needed = vec![header_sha256.as_str(), table_sha256.as_str(), running_table.as_str()];
    if let Some(promise) = &offer.promise {
        needed.extend(promise.ferrite.deltas.iter().map(|delta| delta.head_sha256.as_str()));
        needed.extend(promise.helpers.values().map(|helper| helper.sha256.as_str()));
    }
    kept.forget_but(&needed);
    match &offer.promise {
        Some(promise) if promise.length != table.file_size() => Err(Error::refused(
            &manifest.version,
            "its length is not the one that the repository signed",
        )),
        _ => Ok(Accepted { header, manifest, table }),
    }
}

/// The slot header. When the repository says which one it is, it is kept over a cut.
fn fetch_header(offer: &Offer, label: &str, kept: &Kept, account: &Account) -> Result<Vec<u8>> {
    let range = 0..HEADER_SIZE as u64;
    let Some(promise) = &offer.promise else {
        return offer.source.exactly(range, &account.head);
    };
    let sha256 = &promise.ferrite.header_sha256;
    kept.bring_blank_behind(LIKELY_HEADER, &offer.source, range, sha256, &account.head).map_err(
        |error| match error {
            Error::Refused { .. } => {
                Error::refused(label, "its header is not the one that the repository signed")
            }
            failed => failed,
        },
    )
}

fn report(accepted: &Accepted) -> Report {
    Report {
        version: accepted.manifest.version.clone(),
        header_sha256: formats::hex::encode(&Sha256::digest(&accepted.header)),
        payload_bytes: accepted.table.file_size(),
        chunks_in_all: accepted.table.chunks().len() as u64,
        ..Report::default()
    }
}
