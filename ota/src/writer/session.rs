//! One installer's connection, seen from the writer: whoever is at the other end may have been taken
//! over, and gets nothing written that is not signed for this device.

use std::cell::Cell;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use formats::manifest::{HEADER_SIZE, Manifest};
use formats::payload::{self, ChunkTable};

use super::admission;
use super::floor;
use super::idle_slot::{Accepted, IdleSlot};
use super::local::LocalSlot;
use super::wire::{self, Answer, Ask};
use crate::context::Context;
use crate::slot::slot_writer::AlignedBuffer;
use crate::state::State;
use crate::{Error, Result, init::boot};

/// Between two words that the writer is still at work.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How long the other end is waited for.
#[derive(Clone, Copy, Debug)]
pub struct SessionTimeouts {
    /// For its next request: a link may be slow and a server away for a while.
    pub request: Duration,
    /// For the rest of a request that has begun.
    pub rest: Duration,
}

impl Default for SessionTimeouts {
    fn default() -> Self {
        SessionTimeouts { request: Duration::from_secs(30 * 60), rest: Duration::from_secs(60) }
    }
}

/// A connection and how it is waited on.
struct Session<'a> {
    stream: &'a UnixStream,
    timeouts: SessionTimeouts,
    beat: &'a dyn Fn(),
}

/// Serves one installer until it is done, hangs up, or asks for what it must not. Gives the version
/// that was written and armed, if it came to that.
pub fn serve(
    context: &Context,
    stream: &UnixStream,
    timeouts: SessionTimeouts,
    beat: &dyn Fn(),
) -> Result<Option<String>> {
    wire::prepare(stream).map_err(connection)?;
    let session = Session { stream, timeouts, beat };
    session.answer(&Answer::Done(wire::HELLO.to_vec()))?;
    let result = session.install(context);
    if let Err(error) = &result {
        let answer = match error {
            Error::Refused { reason, .. } => Answer::Refused(reason.clone()),
            other => Answer::Failed(other.to_string()),
        };
        // It may be gone; that it is refused is said here as well.
        let _ = session.answer(&answer);
    }
    result
}

fn connection(error: io::Error) -> Error {
    Error::failed(format!("the installer's connection: {error}"))
}

impl Session<'_> {
    fn install(&self, context: &Context) -> Result<Option<String>> {
        let Some(header) = self.whole(Ask::Header, HEADER_SIZE)? else { return Ok(None) };
        let manifest = admit(context, &header)?;
        self.done(vec![])?;
        let no = |e: formats::Error| Error::refused(&manifest.version, e.to_string());
        let table_size = payload::table_size(&manifest).map_err(no)?;
        let Some(table) = self.whole(Ask::Table, table_size)? else { return Ok(None) };
        let table = ChunkTable::parse(&table, &manifest).map_err(no)?;
        let update = Accepted { header, manifest, table };
        let slot = LocalSlot::open(context, &update)?;
        self.done(vec![])?;
        self.write(&slot, &update)
    }

    /// All after the head: chunks, in any order, until it is finished.
    fn write(&self, slot: &LocalSlot<'_>, update: &Accepted) -> Result<Option<String>> {
        let chunks = update.table.chunks().len();
        let mut buffer: Option<AlignedBuffer> = None;
        while let Some((ask, length)) = self.next()? {
            match (ask, length) {
                (Ask::Prepare, 0) => {
                    let missing = slot.prepare(&self.working())?;
                    self.done(wire::to_bits(&missing, chunks))?;
                }
                (Ask::Put, length) => {
                    let buffer = buffer.get_or_insert_with(|| {
                        AlignedBuffer::new(update.manifest.chunk_size as usize)
                    });
                    let chunk = self.chunk(update, length, buffer)?;
                    self.done(vec![u8::from(slot.put(chunk, buffer)?)])?;
                }
                (Ask::Flush, 0) => {
                    slot.flush(&self.working())?;
                    self.done(vec![])?;
                }
                (Ask::Finish, 1) => {
                    let mut tries = [0];
                    self.body(&mut tries)?;
                    slot.finish(tries[0].max(1), &self.working())?;
                    self.done(vec![])?;
                    return Ok(Some(update.manifest.version.clone()));
                }
                (ask, length) => return Err(unasked(ask, length)),
            }
        }
        Ok(None)
    }

    /// Reads a chunk and its number.
    fn chunk(&self, update: &Accepted, length: usize, buffer: &mut AlignedBuffer) -> Result<usize> {
        let mut number = [0; 4];
        let Some(size) = length.checked_sub(number.len()) else {
            return Err(unasked(Ask::Put, length));
        };
        self.body(&mut number)?;
        let chunk = u32::from_le_bytes(number) as usize;
        if chunk >= update.table.chunks().len() {
            return Err(Error::failed(format!("the update has no chunk {chunk}")));
        }
        let range = update.table.stream_range(chunk);
        if size as u64 != range.end - range.start {
            return Err(Error::failed(format!("chunk {chunk} does not have {size} bytes")));
        }
        self.body(&mut buffer.bytes_mut()[..size])?;
        Ok(chunk)
    }

    /// The body of the next request, which has to be this one, of exactly this length. `None` when
    /// the other end is done.
    fn whole(&self, expected: Ask, expected_length: usize) -> Result<Option<Vec<u8>>> {
        match self.next()? {
            None => Ok(None),
            Some((ask, length)) if ask == expected && length == expected_length => {
                let mut body = vec![0; length];
                self.body(&mut body)?;
                Ok(Some(body))
            }
            Some((ask, length)) => Err(unasked(ask, length)),
        }
    }

    fn next(&self) -> Result<Option<(Ask, usize)>> {
        let timeouts = (self.timeouts.request, self.timeouts.rest);
        wire::read_ask(self.stream, timeouts, self.beat).map_err(connection)
    }

    fn body(&self, buffer: &mut [u8]) -> Result<()> {
        wire::read_body(self.stream, buffer, self.timeouts.rest, self.beat).map_err(connection)
    }

    fn done(&self, body: Vec<u8>) -> Result<()> {
        self.answer(&Answer::Done(body))
    }

    fn answer(&self, answer: &Answer) -> Result<()> {
        wire::send_answer(self.stream, answer).map_err(connection)
    }

    /// Called while a long step is at work: tells the other end so, now and then.
    fn working(&self) -> impl Fn() + '_ {
        let told = Cell::new(Instant::now());
        move || {
            (self.beat)();
            if told.get().elapsed() >= TELL_EVERY {
                told.set(Instant::now());
                // If it is gone, the answer will say so.
                let _ = self.answer(&Answer::Working);
            }
        }
    }
}

/// The writer's own look at a header: nothing that the other end says of it counts.
fn admit(context: &Context, header: &[u8]) -> Result<Manifest> {
    let Context { device, running, .. } = context;
    let boot = boot::state(device)?;
    admission::require_settled(running, &boot)?;
    // The floors that are signed; what `ota` wrote down is the other half's.
    let floor = floor::lowest(context, &boot, &State::default())?;
    let manifest = admission::admit(header, "the update", context.keys()?, running, floor)?;
    admission::check_fits(device, running.slot.other(), &manifest)?;
    Ok(manifest)
}

fn unasked(ask: Ask, length: usize) -> Error {
    Error::failed(format!("{ask:?} of {length} bytes has no place here; nothing was armed"))
}
