//! Loading kernel modules.
//!
//! Modules that need one another form a *chain*, in load order. Chains need nothing of each other, so
//! that the first life can load two at a time.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::Pid;
use slot::{Error, Result};

use crate::console::say;
use crate::sys::{self, Forked};

/// Environment variable that tells the second life which process still loads `later-modules`.
const ASSISTANT: &str = "FERRITE_MODULES_PID";

/// A module that is opened and not loaded yet.
struct Module<'a> {
    path: &'a str,
    file: OwnedFd,
}

impl Module<'_> {
    fn open(path: &str) -> Result<Module<'_>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| error(path, e))?;
        Ok(Module { path, file })
    }

    /// Loads it, compressed or not. One that is loaded already is no error.
    fn load(&self) -> Result<()> {
        // MODULE_INIT_COMPRESSED_FILE: the kernel unpacks it.
        let flags = match Path::new(self.path).extension() {
            Some(end) if end != "ko" => 4,
            _ => 0,
        };
        match rustix::system::finit_module(&self.file, c"", flags) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(error(self.path, e)),
        }
    }
}

fn error(path: &str, e: Errno) -> Error {
    Error::new(["module ", path, ": ", &e.to_string()].concat())
}

/// Loads the module at `path`, which may be compressed. One that is loaded already is no error.
pub fn load(path: &str) -> Result<()> {
    Module::open(path)?.load()
}

/// Loads all `chains`, two at a time with the help of a second process, and returns when they are
/// loaded. The other process then loads the modules of `later` and ends; its id is returned.
///
/// Disk drivers, which boards name first, wait for their disk, and checking a module's signature
/// keeps a processor busy. Where the two of them fail, everything is loaded one after the other
/// again, and the error is that of the first module that fails so.
pub fn load_chains(chains: &[Vec<&str>], later: &[&str]) -> Result<Option<Pid>> {
    if let Some(assistant) = load_by_two(chains, later) {
        return Ok(Some(assistant));
    }
    chains.iter().flatten().try_for_each(|path| load(path))?;
    for path in later {
        let _ = load(path).map_err(|e| say(&[&e.to_string()]));
    }
    Ok(None)
}

/// The assistant's id, or `None` when no process could be made or a chain did not load.
fn load_by_two(chains: &[Vec<&str>], later: &[&str]) -> Option<Pid> {
    let queue = queue(chains.len()).ok()?;
    let (reports, report) = pipe_with(PipeFlags::CLOEXEC).ok()?;
    let assistant = match sys::fork(None).ok()? {
        Forked::Child => assist(&queue, &report, chains, later),
        Forked::Parent(pid) => pid,
    };
    drop(report);
    let mut missing = chains.len();
    while let Some(index) = next_byte(&queue) {
        load_chain(chains, index).ok()?;
        missing -= 1;
    }
    (0..missing).try_for_each(|_| next_byte(&reports).map(drop))?;
    Some(assistant)
}

/// A pipe with the index of each chain, which both processes take from until it is empty.
fn queue(chains: usize) -> rustix::io::Result<OwnedFd> {
    let (queue, fill) = pipe_with(PipeFlags::CLOEXEC)?;
    // The smallest pipe holds 4096 bytes: this does not block.
    for index in 0..u8::try_from(chains).map_err(|_| Errno::TOOBIG)? {
        rustix::io::write(&fill, &[index])?;
    }
    Ok(queue)
}

/// The next byte of a pipe; `None` at its end.
fn next_byte(pipe: &OwnedFd) -> Option<u8> {
    let mut byte = [0];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut byte));
    (read == Ok(1)).then_some(byte[0])
}

fn load_chain(chains: &[Vec<&str>], index: u8) -> Result<()> {
    chains.get(usize::from(index)).into_iter().flatten().try_for_each(|path| load(path))
}

/// The second process: takes chains from the queue as the first one does and reports each that is
/// loaded, then loads what the first one does not wait for.
fn assist(queue: &OwnedFd, report: &OwnedFd, chains: &[Vec<&str>], later: &[&str]) -> ! {
    // The initramfs is emptied while the last ones are still being loaded.
    let later: Vec<_> = later.iter().map(|path| Module::open(path)).collect();
    while let Some(index) = next_byte(queue) {
        if load_chain(chains, index).is_err() {
            sys::exit(1);
        }
        let _ = rustix::io::write(report, &[index]);
    }
    for module in later {
        if let Err(e) = module.and_then(|module| module.load()) {
            say(&[&e.to_string()]);
        }
    }
    sys::exit(0)
}

/// What goes into the second life's environment, so that it can wait for the assistant's end.
pub fn hand_over(assistant: Pid) -> String {
    [ASSISTANT, "=", &assistant.as_raw_nonzero().to_string()].concat()
}

/// The assistant that the first life left behind.
pub fn adopt() -> Option<Pid> {
    std::env::var(ASSISTANT).ok()?.parse().ok().and_then(Pid::from_raw)
}
