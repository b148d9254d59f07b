//! Bringing an update into the idle slot, so that at every instant, with the power cut at any
//! write, the device boots the old version whole or the new version whole.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use repository::FerriteTarget;
use rustix::fs::{flock, FlockOperation};
use sha2::{Digest, Sha256};
use slot::boot_state::BootState;
use slot::chooser;
use slot::manifest::{Header, Manifest, HEADER_SIZE};
use slot::payload::{self, ChunkTable};
use slot::Slot;

use crate::check::failed_before;
use crate::device::{self, identity, Running};
use crate::floor;
use crate::paths::Paths;
use crate::slot_writer::{decompress, read_frame, AlignedBuffer, SlotWriter};
use crate::source::{Meter, Source};
use crate::state::{self, Pending, State};
use crate::{Error, Result};

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
}

/// An update that passed every check that can be made before a slot is touched.
struct Accepted {
    header: Vec<u8>,
    manifest: Manifest,
    table: ChunkTable,
}

/// Holds off other installers for as long as it lives.
#[derive(Debug)]
pub struct InstallerLock {
    _file: File,
}

impl InstallerLock {
    /// Takes the lock, or says that another installer is at work.
    pub fn take(paths: &Paths) -> Result<InstallerLock> {
        let path = paths.lock();
        std::fs::create_dir_all(paths.data()).map_err(|e| Error::at(paths.data(), e))?;
        let file = state::open_lock(&path).map_err(|e| Error::at(&path, e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(InstallerLock { _file: file }),
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
    let idle = running.slot.other();
    let chooser = device::chooser(paths)?;
    let boot = chooser.load()?;
    require_settled(&running, &boot)?;
    let (writer, accepted) = accept(paths, offer, &running, &boot, idle)?;
    let Accepted { header, manifest, table } = accepted;
    state::check_room(paths)?;

    // 2. The idle slot is about to stop being whole: nothing may boot it.
    let lock = paths.boot_state_lock();
    chooser::update(&*chooser, &lock, BootState::begin_install)?;
    State::change(paths, |state| state.pending = None)?;

    // 3. Nor may anything take it for whole.
    writer.clear_header()?;

    // 4. What is right already stays; the rest is fetched, verified, written.
    let missing = differing(&writer, &manifest, &table, beat)?;
    fetch(&writer, &manifest, &table, &missing, &offer.source, beat)?;

    // 5. What counts is what the medium gives back.
    writer.flush()?;
    if !differing(&writer, &manifest, &table, beat)?.is_empty() {
        return Err(writer.bad_medium());
    }

    // 6. Whole: say so.
    writer.write_header(&header)?;

    // 7. Try it at the next boot.
    chooser::update(&*chooser, &lock, |state| state.arm(idle, tries))?;

    // 8. Remember what is being tried. A power cut before this loses a name, not the trial.
    let pending = identity(idle, &manifest, &header);
    State::change(paths, |state| state.pending = Some(pending.clone()))?;
    Ok(pending)
}

/// An install overwrites the slot to fall back to, so what runs has to be committed.
fn require_settled(running: &Running, boot: &BootState) -> Result<()> {
    if boot.active != running.slot {
        return Err(Error::failed(format!(
            "what runs in slot {} is not committed; `ota commit` or `ota rollback` first",
            running.slot
        )));
    }
    Ok(())
}

fn accept(
    paths: &Paths,
    offer: &Offer,
    running: &Running,
    boot: &BootState,
    idle: Slot,
) -> Result<(SlotWriter, Accepted)> {
    let keys = device::trusted_keys(paths)?;
    let floor = floor::lowest(paths, &keys, running.slot, boot, &State::load(paths))?;
    let meter = Meter::new(0);
    let header = offer.source.exactly(0..HEADER_SIZE as u64, &meter)?;
    let label = offer.promise.as_ref().map_or("the update", |p| p.ferrite.version.as_str());
    if let Some(promise) = &offer.promise {
        if slot::hex::encode(&Sha256::digest(&header)) != promise.ferrite.header_sha256 {
            return Err(Error::refused(
                label,
                "its header is not the one that the repository signed",
            ));
        }
    }
    let manifest = Header::new(&header)
        .and_then(|h| h.verify(&keys))
        .map_err(|e| Error::refused(label, e.to_string()))?;
    refuse(&manifest, running, floor)?;
    let failed = State::load(paths);
    if let Some(failed) = failed.failure_of(&identity(idle, &manifest, &header).header_sha256) {
        return Err(failed_before(&manifest.version, &failed.reason));
    }
    let writer = SlotWriter::open(paths, idle)?;
    let (boot_size, root_size) = writer.sizes();
    let no = |e: slot::Error| Error::refused(&manifest.version, e.to_string());
    payload::check_fits(&manifest, boot_size, root_size).map_err(no)?;
    let table_size = payload::table_size(&manifest).map_err(no)?;
    let table_at = HEADER_SIZE as u64..(HEADER_SIZE + table_size) as u64;
    let table = offer.source.exactly(table_at, &meter)?;
    let table = ChunkTable::parse(&table, &manifest).map_err(no)?;
    match &offer.promise {
        Some(promise) if promise.length != table.file_size() => Err(Error::refused(
            &manifest.version,
            "its length is not the one that the repository signed",
        )),
        _ => Ok((writer, Accepted { header, manifest, table })),
    }
}

/// The rules for what may follow what runs.
fn refuse(manifest: &Manifest, running: &Running, floor: u64) -> Result<()> {
    let no = |reason: String| Err(Error::refused(&manifest.version, reason));
    if manifest.board != running.board {
        return no(format!("it is for board {}, this is {}", manifest.board, running.board));
    }
    if manifest.name != running.name {
        return no(format!("it is an image named {}, this runs {}", manifest.name, running.name));
    }
    if manifest.sequence < floor {
        return no(format!("its sequence {} is below the floor {floor}", manifest.sequence));
    }
    if manifest.sequence <= running.sequence {
        return no(format!(
            "its sequence {} is not above {}, which runs",
            manifest.sequence, running.sequence
        ));
    }
    Ok(())
}

fn buffer_for(table: &ChunkTable) -> AlignedBuffer {
    let first = table.stream_range(0);
    AlignedBuffer::new((first.end - first.start) as usize)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether `bytes` are chunk `index`. A blank medium is told apart without hashing it.
fn is_chunk(table: &ChunkTable, index: usize, bytes: &[u8]) -> bool {
    let chunk = &table.chunks()[index];
    if chunk.compressed != 0 && is_zero(bytes) {
        return false;
    }
    Sha256::digest(bytes)[..] == chunk.sha256
}

/// The chunks that the medium does not hold, in order. Two threads read and hash: while one waits
/// for the medium, the other one computes.
fn differing(
    writer: &SlotWriter,
    manifest: &Manifest,
    table: &ChunkTable,
    beat: &dyn Fn(),
) -> Result<Vec<usize>> {
    let next = AtomicUsize::new(0);
    let work = |beat: &dyn Fn()| -> Result<Vec<usize>> {
        let mut buffer = buffer_for(table);
        let mut found = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= table.chunks().len() {
                return Ok(found);
            }
            beat();
            let range = table.stream_range(index);
            let bytes = &mut buffer.bytes_mut()[..(range.end - range.start) as usize];
            writer.read(manifest, range, bytes)?;
            if !is_chunk(table, index, bytes) {
                found.push(index);
            }
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| work(&|| ()));
        let mut found = work(beat)?;
        found.extend(other.join().map_err(|_| Error::failed("a reading thread died"))??);
        found.sort_unstable();
        Ok(found)
    })
}

/// Fetches the missing chunks and writes them: one thread fetches, unpacks and hashes the next
/// chunk while another writes the last one.
fn fetch(
    writer: &SlotWriter,
    manifest: &Manifest,
    table: &ChunkTable,
    missing: &[usize],
    source: &Source,
    beat: &dyn Fn(),
) -> Result<()> {
    let (full, to_write) = mpsc::sync_channel::<(usize, AlignedBuffer)>(1);
    let (done, empty) = mpsc::channel::<AlignedBuffer>();
    for _ in 0..2 {
        let _ = done.send(buffer_for(table));
    }
    std::thread::scope(|scope| {
        // Ends with this closure, however that ends: the writing thread waits for it.
        let full = full;
        let writing = scope.spawn(move || -> Result<()> {
            for (index, buffer) in to_write {
                let range = table.stream_range(index);
                let length = (range.end - range.start) as usize;
                writer.write(manifest, range, &buffer.bytes()[..length])?;
                // Nobody waits for the last ones.
                let _ = done.send(buffer);
            }
            Ok(())
        });
        let fetching = fill(table, missing, source, &full, &empty, beat);
        drop(full);
        let written = writing.join().map_err(|_| Error::failed("the writing thread died"))?;
        // A medium that fails also stops the fetching; it is the reason, then.
        written.and(fetching)
    })
}

fn fill(
    table: &ChunkTable,
    missing: &[usize],
    source: &Source,
    full: &mpsc::SyncSender<(usize, AlignedBuffer)>,
    empty: &mpsc::Receiver<AlignedBuffer>,
    beat: &dyn Fn(),
) -> Result<()> {
    let mut decompressor = zstd::bulk::Decompressor::new()
        .map_err(|e| Error::failed(format!("cannot start zstd: {e}")))?;
    let mut frame = Vec::new();
    let stopped = || Error::failed("the writing thread stopped");
    let meter = Meter::new(0);
    let frames = missing.iter().map(|index| table.file_range(*index));
    let mut stream = source.read(frames, &meter)?;
    for &index in missing {
        beat();
        let mut buffer = empty.recv().map_err(|_| stopped())?;
        let range = table.stream_range(index);
        let bytes = &mut buffer.bytes_mut()[..(range.end - range.start) as usize];
        let chunk = &table.chunks()[index];
        let sound = if chunk.compressed == 0 {
            bytes.fill(0);
            true
        } else {
            read_frame(&mut stream, &mut frame, chunk.compressed as usize)
                .map_err(|e| source.error(&e))?;
            decompress(&mut decompressor, &frame, bytes)
        };
        if !sound || Sha256::digest(bytes)[..] != chunk.sha256 {
            return Err(Error::failed(format!(
                "chunk {index} of the update arrived altered; it was not written"
            )));
        }
        full.send((index, buffer)).map_err(|_| stopped())?;
    }
    Ok(())
}
