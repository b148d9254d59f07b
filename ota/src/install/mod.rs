//! Bringing an update into the idle slot, so that at every instant, with the power cut at any
//! write, the device boots the old version whole or the new version whole.

pub mod candidates;
pub mod chunk_sources;
pub mod progress;

use std::fs::File;

use formats::manifest::HEADER_SIZE;
use formats::payload::{self, ChunkTable};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tuf::FerriteTarget;

use crate::console::say;
use crate::context::{Context, identity};
use crate::device::Device;
use crate::fetch::download_cache::DownloadCache;
use crate::fetch::resource::Resource;
use crate::init::boot;
use crate::install::chunk_sources::companion::{Companion, CompanionFiles};
use crate::install::chunk_sources::plan;
use crate::install::chunk_sources::work::Work;
use crate::install::progress::{InstallProgress, ProgressRecorder};
use crate::slot::slot_reader::SlotReader;
use crate::state::{self, State, VersionId, failed_before, refuse_same};
use crate::writer::floor;
use crate::writer::idle_slot::Accepted;
use crate::writer::{self, admission};
use crate::{Error, Result};

/// Signatures and manifest of nearly every slot header end before this byte; the rest is zeros.
const LIKELY_HEADER: u64 = 4096;

/// An update somebody offers.
#[derive(Clone, Debug)]
pub struct UpdateSource {
    /// Where its bytes are.
    pub resource: Resource,
    /// What the repository's signed metadata says of it, when it comes from one.
    pub signed: Option<SignedTarget>,
}

/// What signed metadata says of an update.
#[derive(Clone, Debug)]
pub struct SignedTarget {
    /// Board, name, version, sequence, and the hash of its slot header.
    pub ferrite: FerriteTarget,
    /// Bytes of the file.
    pub length: u64,
    /// What lies beside it, by the target's name.
    pub companions: CompanionFiles,
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
    pub fn take(device: &Device) -> Result<InstallerLock> {
        let path = device.lock();
        std::fs::create_dir_all(device.data()).map_err(|e| Error::at(device.data(), e))?;
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
pub fn install(
    context: &Context,
    offer: &UpdateSource,
    tries: u8,
    beat: &dyn Fn(),
) -> Result<VersionId> {
    // 1. One installer at a time; refuse all that can be refused before anything is written.
    let Context { device, running, .. } = context;
    let _lock = InstallerLock::take(device)?;
    let boot = boot::state(device)?;
    admission::require_settled(running, &boot)?;
    let cache = DownloadCache::of(device);
    let mut progress = ProgressRecorder::open(device);
    let accepted = accept(context, offer, &boot, &cache, &progress)?;
    let Accepted { header, manifest, table } = &accepted;
    state::check_room(device)?;
    progress.begin(device, progress_of(&accepted));
    // Whoever writes the slot checks all of that again.
    let idle = writer::open(context, &accepted, beat)?;

    // 2. and 3. The idle slot is about to stop being whole: nothing may boot it, nor take it for
    // whole. The name of what was armed goes first: a cut behind it loses a name, and one between
    // the two, the other way round, would make it a version that failed.
    let pending =
        identity(running.slot.other(), manifest, header).armed(offer.resource.is_brought());
    State::change(device, |state| {
        state.pending = None;
        // What waited there is gone, unless it is this that is tried again. A newer one that was
        // never committed waits to be fetched again.
        state.retrial.take_if(|waited| {
            waited.header_sha256 != pending.header_sha256
                && (waited.committed || waited.sequence <= pending.sequence)
        });
    })?;
    let missing = idle.prepare(beat)?;

    // 4. What is right already stays; the rest comes by the cheapest source, verified and written.
    progress.there((table.chunks().len() - missing.len()) as u64);
    let old = open_running(context);
    let work = Work::new(&*idle, manifest, table, old.as_ref(), &cache, &progress, beat, missing);
    let companions = Companions::of(offer.signed.as_ref(), old.as_ref());
    let brought = work.supply_all(&offer.resource, companions.delta, companions.index);
    progress.write();
    brought?;

    // 5. to 7. What counts is what the medium gives back; then the header, then the trial.
    idle.finish(tries, beat)?;

    // 8. Remember what is being tried. A power cut before this loses a name, not the trial.
    State::change(device, |state| state.pending = Some(pending.clone()))?;
    progress.done();
    let mut tables = vec![formats::hex::encode(&manifest.chunk_table_sha256)];
    tables.extend(running_table(context));
    cache.retain(&tables.iter().map(String::as_str).collect::<Vec<_>>());
    Ok(pending)
}

/// The lines that follow an install.
pub fn announce(installed: &VersionId) {
    say(&format!("installed {} in slot {}", installed.version, installed.slot));
    say("trial armed");
}

/// What lies beside an update and is of use here.
struct Companions<'a> {
    delta: Option<plan::Delta<'a>>,
    index: Option<&'a Companion>,
}

impl<'a> Companions<'a> {
    fn of(signed: Option<&'a SignedTarget>, old: Option<&SlotReader>) -> Companions<'a> {
        let (Some(signed), Some(old)) = (signed, old) else {
            return Companions { delta: None, index: None };
        };
        let delta = signed.ferrite.delta_from(old.header_sha256()).and_then(|delta| {
            Some(plan::Delta {
                companion: signed.companions.get(&delta.target)?,
                head_length: delta.head_length,
                head_sha256: &delta.head_sha256,
            })
        });
        let index = signed.ferrite.index.as_ref().and_then(|name| signed.companions.get(name));
        Companions { delta, index }
    }
}

/// The slot that runs. Without it, all that is missing comes from the payload.
fn open_running(context: &Context) -> Option<SlotReader> {
    let (manifest, version) = (context.manifest().ok()?, context.version().ok()?);
    let (slot, name) = (context.running.slot, version.header_sha256.clone());
    SlotReader::open(&context.device, slot, manifest.clone(), name).ok()
}

/// The hash of the running slot's chunk table: by it, that slot's boot partition is looked through
/// when it is the idle one.
fn running_table(context: &Context) -> Option<String> {
    let manifest = context.manifest().ok()?;
    Some(formats::hex::encode(&manifest.chunk_table_sha256))
}

fn accept(
    context: &Context,
    offer: &UpdateSource,
    boot: &formats::boot_state::BootState,
    cache: &DownloadCache,
    progress: &ProgressRecorder,
) -> Result<Accepted> {
    let Context { device, running, .. } = context;
    let idle = running.slot.other();
    let state = State::load(device);
    let floor = floor::lowest(context, boot, &state)?;
    let label = offer.signed.as_ref().map_or("the update", |p| p.ferrite.version.as_str());
    let header = fetch_header(offer, label, cache, progress)?;
    let manifest = admission::admit(&header, label, context.keys()?, running, floor)?;
    let name = identity(idle, &manifest, &header).header_sha256;
    if let Some(failed) = state.failure_of(&name) {
        return Err(failed_before(&manifest.version, &failed.reason));
    }
    refuse_same(&state, &name)?;
    admission::check_fits(device, idle, &manifest)?;
    let no = |e: formats::Error| Error::refused(&manifest.version, e.to_string());
    let table_size = payload::table_size(&manifest).map_err(no)?;
    let table_at = HEADER_SIZE as u64..(HEADER_SIZE + table_size) as u64;
    let table_sha256 = formats::hex::encode(&manifest.chunk_table_sha256);
    let table = cache
        .get_or_fetch(&offer.resource, table_at, &table_sha256, &progress.head)
        .map_err(|e| match e {
            Error::Refused { .. } => {
                Error::refused(&manifest.version, "the chunk table is not the signed one")
            }
            failed => failed,
        })?;
    let table = ChunkTable::parse(&table, &manifest).map_err(no)?;
    let header_sha256 = formats::hex::encode(&Sha256::digest(&header));
    let running_table = running_table(context).unwrap_or_default();
    let mut needed = vec![header_sha256.as_str(), table_sha256.as_str(), running_table.as_str()];
    if let Some(signed) = &offer.signed {
        needed.extend(signed.ferrite.deltas.iter().map(|delta| delta.head_sha256.as_str()));
        needed.extend(signed.companions.values().map(|companion| companion.sha256.as_str()));
    }
    cache.retain(&needed);
    match &offer.signed {
        Some(signed) if signed.length != table.file_size() => Err(Error::refused(
            &manifest.version,
            "its length is not the one that the repository signed",
        )),
        _ => Ok(Accepted { header, manifest, table }),
    }
}

/// The slot header. When the repository says which one it is, it is kept over a cut.
fn fetch_header(
    offer: &UpdateSource,
    label: &str,
    cache: &DownloadCache,
    progress: &ProgressRecorder,
) -> Result<Vec<u8>> {
    let range = 0..HEADER_SIZE as u64;
    let Some(signed) = &offer.signed else {
        return offer.resource.exactly(range, &progress.head);
    };
    let sha256 = &signed.ferrite.header_sha256;
    cache
        .get_or_fetch_zero_padded(LIKELY_HEADER, &offer.resource, range, sha256, &progress.head)
        .map_err(|error| match error {
            Error::Refused { .. } => {
                Error::refused(label, "its header is not the one that the repository signed")
            }
            failed => failed,
        })
}

fn progress_of(accepted: &Accepted) -> InstallProgress {
    InstallProgress {
        version: accepted.manifest.version.clone(),
        header_sha256: formats::hex::encode(&Sha256::digest(&accepted.header)),
        payload_bytes: accepted.table.file_size(),
        chunks_in_all: accepted.table.chunks().len() as u64,
        ..InstallProgress::default()
    }
}
