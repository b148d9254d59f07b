//! The idle slot behind the writer's socket: what an install writes is handed over, what it reads
//! comes from nodes that cannot be written.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::idle_slot::{Accepted, IdleSlot};
use super::wire::{self, Answer, Ask};
use crate::context::Context;
use crate::heart;
use crate::slot::slot_reader::SlotReader;
use crate::slot::slot_writer::AlignedBuffer;
use crate::{Error, Result};

/// A writer that says nothing for so long does not work any more: it tells every second that it
/// does, for as long as it can.
const SILENCE: Duration = Duration::from_secs(300);
/// The writer serves one installer at a time, and greets each when its turn comes.
const GREETING: Duration = Duration::from_secs(10);

/// A writer that has taken the update's head.
#[derive(Debug)]
pub struct RemoteSlot<'a> {
    path: PathBuf,
    stream: Mutex<UnixStream>,
    update: &'a Accepted,
    idle: SlotReader,
}

impl<'a> RemoteSlot<'a> {
    /// Hands the update's head to the writer at the other end of `stream`.
    pub fn open(
        context: &Context,
        stream: UnixStream,
        update: &'a Accepted,
        beat: &dyn Fn(),
    ) -> Result<RemoteSlot<'a>> {
        let Context { device, running, .. } = context;
        let path = device.writer_socket();
        let error = |e: io::Error| Error::at(&path, e);
        wire::prepare(&stream).map_err(error)?;
        match wire::read_answer(&stream, GREETING, beat) {
            Ok(Answer::Done(hello)) if hello == wire::HELLO => {}
            Ok(_) => return Err(Error::at(&path, "another program listens there")),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                return Err(Error::failed(
                    "the writer serves another installer; wait until it is done",
                ));
            }
            Err(e) => return Err(error(e)),
        }
        let slot = running.slot.other();
        let sha256 = formats::hex::encode(&Sha256::digest(&update.header));
        let idle = SlotReader::open(device, slot, update.manifest.clone(), sha256)
            .map_err(|e| Error::at(&device.device(slot.root_label()), e))?;
        let remote = RemoteSlot { path: path.clone(), stream: Mutex::new(stream), update, idle };
        remote.ask(Ask::Header, &[&update.header], beat)?;
        remote.ask(Ask::Table, &[&update.table.to_bytes()], beat)?;
        Ok(remote)
    }

    /// Asks, and waits for the answer's body.
    fn ask(&self, ask: Ask, body: &[&[u8]], beat: &dyn Fn()) -> Result<Vec<u8>> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = wire::send_ask(&stream, ask, body);
        loop {
            // Whoever hangs up in the middle of a request has said why before.
            match wire::read_answer(&stream, SILENCE, beat) {
                Ok(Answer::Working) => beat(),
                Ok(Answer::Done(body)) if sent.is_ok() => return Ok(body),
                Ok(Answer::Done(_)) => return Err(self.unexpected()),
                Ok(Answer::Refused(reason)) => {
                    return Err(Error::refused(&self.update.manifest.version, reason));
                }
                Ok(Answer::Failed(sentence)) => return Err(Error::failed(sentence)),
                Err(error) => return Err(Error::at(&self.path, sent.err().unwrap_or(error))),
            }
        }
    }

    fn unexpected(&self) -> Error {
        Error::at(&self.path, "the writer's answer makes no sense")
    }
}

impl IdleSlot for RemoteSlot<'_> {
    fn prepare(&self, beat: &dyn Fn()) -> Result<Vec<usize>> {
        let bits = self.ask(Ask::Prepare, &[], beat)?;
        let chunks = self.update.table.chunks().len();
        wire::from_bits(&bits, chunks).ok_or_else(|| self.unexpected())
    }

    fn put(&self, chunk: usize, buffer: &AlignedBuffer) -> Result<bool> {
        let range = self.update.table.stream_range(chunk);
        let bytes = &buffer.bytes()[..(range.end - range.start) as usize];
        let number = (chunk as u32).to_le_bytes();
        match self.ask(Ask::Put, &[&number, bytes], &heart::beat)?[..] {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(self.unexpected()),
        }
    }

    fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        let end = start + buffer.len() as u64;
        self.idle
            .read(start..end, buffer)
            .map_err(|e| Error::failed(format!("the idle slot cannot be read: {e}")))
    }

    fn flush(&self, beat: &dyn Fn()) -> Result<()> {
        self.ask(Ask::Flush, &[], beat).map(drop)
    }

    fn finish(&self, tries: u8, beat: &dyn Fn()) -> Result<()> {
        self.ask(Ask::Finish, &[&[tries]], beat).map(drop)
    }
}
