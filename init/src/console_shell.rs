//! A shell on the console, in debug images only; started again when it ends.

use std::ffi::CString;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::{ioctl_tiocsctty, kill_process, setsid, Pid, Signal};

use crate::console::say;
use crate::sys::{self, Forked};

/// Milliseconds between its end and the next start.
const DELAY: u64 = 1_000;

/// The shell and its process.
#[derive(Debug)]
pub struct Shell {
    command: Vec<CString>,
    pid: Option<Pid>,
    start_at: u64,
    closed: bool,
}

impl Shell {
    /// Started by the first [`Shell::tick`]; `None` when the image names none.
    pub fn new(command: &[String]) -> Option<Shell> {
        let command: Vec<CString> =
            command.iter().filter_map(|word| CString::new(word.as_str()).ok()).collect();
        (!command.is_empty()).then_some(Shell { command, pid: None, start_at: 0, closed: false })
    }

    /// Starts it when it is time.
    pub fn tick(&mut self, now: u64) {
        if self.pid.is_some() || self.closed || now < self.start_at {
            return;
        }
        self.start_at = now + DELAY;
        match sys::fork(None) {
            Ok(Forked::Parent(pid)) => self.pid = Some(pid),
            Ok(Forked::Child) => {
                let e = self.become_shell();
                say(&["console shell: ", &e.to_string()]);
                sys::exit(127)
            }
            Err(e) => say(&["console shell: ", &e.to_string()]),
        }
    }

    fn become_shell(&self) -> std::io::Error {
        sys::default_signals();
        let ready = || -> std::io::Result<()> {
            setsid()?;
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            let terminal = rustix::fs::open("/dev/console", flags, Mode::empty())?;
            // The console of a machine may be no terminal; then there is no job control.
            let _ = ioctl_tiocsctty(&terminal);
            for number in 0..3 {
                sys::duplicate_to(terminal.as_fd(), number)?;
            }
            sys::close_on_exec_from(3)
        };
        if let Err(e) = ready() {
            return e;
        }
        let environment = [c"PATH=/usr/bin:/bin:/usr/sbin:/sbin", c"HOME=/", c"TERM=vt100"];
        match self.command.first() {
            Some(path) => sys::exec(path, &self.command, &environment.map(CString::from)),
            None => std::io::ErrorKind::InvalidInput.into(),
        }
    }

    /// True when the process was the shell.
    pub fn on_exit(&mut self, pid: Pid, now: u64) -> bool {
        let ours = self.pid == Some(pid);
        if ours {
            self.pid = None;
            self.start_at = now + DELAY;
        }
        ours
    }

    /// When it has to be started.
    pub fn deadline(&self) -> Option<u64> {
        (self.pid.is_none() && !self.closed).then_some(self.start_at)
    }

    /// Ends it for good.
    pub fn close(&mut self) {
        self.closed = true;
        if let Some(pid) = self.pid {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
