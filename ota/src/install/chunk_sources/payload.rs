//! The payload itself: chunks by ranges, for what no other source brought.

use std::sync::mpsc;

use formats::payload::ChunkTable;

use crate::fetch::resource::Resource;
use crate::heart;
use crate::install::progress::Source;
use crate::slot::slot_writer::{AlignedBuffer, decompress, read_frame};
use crate::writer::idle_slot::IdleSlot;
use crate::{Error, Result};

use super::work::Work;

/// Fetched bytes between two flushes of the medium: what was fetched and is not flushed is lost
/// with the power, and fetched again.
const FLUSH_EVERY: u64 = 128 << 10;

/// A buffer to fill, with the chunk that was written from it.
type Written = (Option<usize>, AlignedBuffer);

/// Fetches these chunks and writes them: one thread fetches and unpacks the next chunk while the
/// last one is hashed and written.
pub fn supply(work: &Work<'_>, chunks: &[usize], resource: &Resource) -> Result<()> {
    if chunks.is_empty() {
        return Ok(());
    }
    let (full, to_write) = mpsc::sync_channel::<(usize, AlignedBuffer)>(1);
    let (done, empty) = mpsc::channel::<Written>();
    for _ in 0..2 {
        let _ = done.send((None, work.buffer()));
    }
    let (idle, table) = (work.idle, work.table);
    std::thread::scope(|scope| {
        // Ends with this closure, however that ends: the writing thread waits for it.
        let full = full;
        let writing = scope.spawn(move || write_all(idle, table, &to_write, &done));
        let fetching = fetch_all(work, chunks, resource, &full, &empty);
        drop(full);
        let written = writing.join().map_err(|_| Error::failed("the writing thread died"))?;
        empty.try_iter().for_each(|(chunk, _)| came(work, chunk));
        // A medium that fails also stops the fetching; it is the reason, then.
        written.and(fetching)
    })
}

fn write_all(
    idle: &dyn IdleSlot,
    table: &ChunkTable,
    to_write: &mpsc::Receiver<(usize, AlignedBuffer)>,
    done: &mpsc::Sender<Written>,
) -> Result<()> {
    let mut unflushed = 0;
    for (chunk, buffer) in to_write {
        if !idle.put(chunk, &buffer)? {
            return Err(altered(chunk));
        }
        unflushed += u64::from(table.chunks()[chunk].compressed);
        if unflushed >= FLUSH_EVERY {
            idle.flush(&heart::beat)?;
            unflushed = 0;
        }
        // Not before the flush: what is fetched meanwhile would add to what a cut loses. Nobody
        // waits for the last ones.
        let _ = done.send((Some(chunk), buffer));
    }
    Ok(())
}

fn altered(chunk: usize) -> Error {
    Error::failed(format!("chunk {chunk} of the update arrived altered; it was not written"))
}

fn came(work: &Work<'_>, chunk: Option<usize>) {
    if let Some(chunk) = chunk {
        work.came(chunk, Source::Payload);
    }
}

fn fetch_all(
    work: &Work<'_>,
    chunks: &[usize],
    resource: &Resource,
    full: &mpsc::SyncSender<(usize, AlignedBuffer)>,
    empty: &mpsc::Receiver<Written>,
) -> Result<()> {
    let mut decompressor = zstd::bulk::Decompressor::new()
        .map_err(|e| Error::failed(format!("cannot start zstd: {e}")))?;
    let mut frame = Vec::new();
    let stopped = || Error::failed("the writing thread stopped");
    let frames = chunks.iter().map(|chunk| work.table.file_range(*chunk));
    let mut stream = resource.read(frames, &work.progress.payload)?;
    for &index in chunks {
        (work.beat)();
        let (written, mut buffer) = empty.recv().map_err(|_| stopped())?;
        came(work, written);
        let bytes = &mut buffer.bytes_mut()[..work.chunk_length(index)];
        let chunk = &work.table.chunks()[index];
        let sound = if chunk.compressed == 0 {
            bytes.fill(0);
            true
        } else {
            read_frame(&mut stream, &mut frame, chunk.compressed as usize)
                .map_err(|e| resource.error(&e))?;
            decompress(&mut decompressor, &frame, bytes)
        };
        if !sound {
            return Err(altered(index));
        }
        full.send((index, buffer)).map_err(|_| stopped())?;
    }
    Ok(())
}
