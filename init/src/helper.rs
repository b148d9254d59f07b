//! Work that may block (disks, modules, locks) is done by a forked copy of PID 1, so that PID 1
//! keeps turning over. A helper reports short words through a pipe and ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::{kill_process, Pid, Signal};

use crate::sys::{self, Forked};

/// What a helper is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Loads the kernel modules of `system.conf`.
    Modules,
    /// Makes `/data` ready.
    Data,
    /// Writes the boot state or a file on `/data`.
    Write,
    /// Flushes and unmounts before a reset.
    Unmount,
}

/// A running helper.
#[derive(Debug)]
pub struct Helper {
    /// What it does.
    pub task: Task,
    /// Its process id.
    pub pid: Pid,
    /// When it has had enough time and is killed.
    pub deadline: u64,
    pipe: Option<OwnedFd>,
}

/// Writes one word to PID 1; given to the helper's work.
pub struct Report<'a>(BorrowedFd<'a>);

impl Report<'_> {
    /// Sends one byte; its meaning is the task's own.
    pub fn send(&self, word: u8) {
        let _ = rustix::io::write(self.0, &[word]);
    }
}

/// Forks and runs `work`; the helper's exit status is 0 when it returns true. It is killed at
/// `deadline`.
pub fn start(
    task: Task,
    deadline: u64,
    work: impl FnOnce(&Report<'_>) -> bool,
) -> std::io::Result<Helper> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    match sys::fork(None)? {
        Forked::Parent(pid) => Ok(Helper { task, pid, deadline, pipe: Some(ours) }),
        Forked::Child => {
            sys::default_signals();
            drop(ours);
            let success = work(&Report(theirs.as_fd()));
            crate::console::flush();
            sys::exit(i32::from(!success))
        }
    }
}

impl Helper {
    /// The pipe to wait for.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(|pipe| pipe.as_fd())
    }

    /// The next word it sent, if there is one.
    pub fn read(&mut self) -> Option<u8> {
        let mut word = [0];
        match sys::read_ready(self.pipe.as_ref()?, &mut word) {
            Some(1) => Some(word[0]),
            Some(_) => {
                self.pipe = None;
                None
            }
            None => None,
        }
    }

    /// Ends it; its exit is reported as any other.
    pub fn kill(&self) {
        let _ = kill_process(self.pid, Signal::KILL);
    }
}
