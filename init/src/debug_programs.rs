//! The ways into a debug image: a shell on the console, and a server that gives one over SSH. Each is
//! started again when it ends. Other images name neither.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use formats::layout::RUN_SSH_KEYS;
use formats::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid};

use crate::console::say;
use crate::sys::{self, Forked};
use crate::system_conf::System;

/// Milliseconds between an end and the next start.
const DELAY: u64 = 1_000;

/// The programs and their processes.
#[derive(Debug, Default)]
pub struct DebugPrograms {
    programs: Vec<Program>,
    ssh_server: Vec<String>,
    closed: bool,
}

#[derive(Debug)]
struct Program {
    name: &'static str,
    command: Vec<CString>,
    /// It reads from the console, and has it as its terminal.
    has_console: bool,
    pid: Option<Pid>,
    start_at: u64,
}

impl DebugPrograms {
    /// None of them runs yet.
    pub fn new(system: &System) -> DebugPrograms {
        DebugPrograms { ssh_server: system.ssh_server.clone(), ..DebugPrograms::default() }
    }

    /// Lets the shell be started by the next [`DebugPrograms::tick`].
    pub fn open_console(&mut self, command: &[String]) {
        if !command.is_empty() {
            say(&["debug image: whoever reaches the console is root, without a password"]);
        }
        self.add("console shell", command, true);
    }

    /// Lets the holders of these keys log in as root, if this image has an SSH server.
    pub fn admit(&mut self, keys: &[&str]) -> Result<()> {
        if self.ssh_server.is_empty() || keys.is_empty() {
            return Ok(());
        }
        write_keys(keys).map_err(|e| Error::new([RUN_SSH_KEYS, ": ", &e.to_string()].concat()))?;
        let command = self.ssh_server.clone();
        self.add("SSH server", &command, false);
        for key in keys {
            say(&["debug image: root may log in by SSH with ", comment(key)]);
        }
        Ok(())
    }

    fn add(&mut self, name: &'static str, command: &[String], has_console: bool) {
        let command: Vec<CString> =
            command.iter().filter_map(|word| CString::new(word.as_str()).ok()).collect();
        if !command.is_empty() {
            self.programs.push(Program { name, command, has_console, pid: None, start_at: 0 });
        }
    }

    /// Starts what it is time for.
    pub fn tick(&mut self, now: u64) {
        if self.closed {
            return;
        }
        for program in &mut self.programs {
            if program.pid.is_none() && now >= program.start_at {
                program.start(now);
            }
        }
    }

    /// True when the process was one of them.
    pub fn on_exit(&mut self, pid: Pid, now: u64) -> bool {
        let ended = self.programs.iter_mut().find(|program| program.pid == Some(pid));
        if let Some(program) = ended {
            program.pid = None;
            program.start_at = now + DELAY;
            return true;
        }
        false
    }

    /// When one has to be started.
    pub fn deadline(&self) -> Option<u64> {
        let waiting = self.programs.iter().filter(|program| program.pid.is_none());
        waiting.map(|program| program.start_at).min().filter(|_| !self.closed)
    }

    /// Ends them for good.
    pub fn close(&mut self) {
        self.closed = true;
        for pid in self.programs.iter().filter_map(|program| program.pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Program {
    fn start(&mut self, now: u64) {
        self.start_at = now + DELAY;
        match sys::fork(None) {
            Ok(Forked::Parent(pid)) => self.pid = Some(pid),
            Ok(Forked::Child) => {
                let e = self.become_program();
                say(&[self.name, ": ", &e.to_string()]);
                sys::exit(127)
            }
            Err(e) => say(&[self.name, ": ", &e.to_string()]),
        }
    }

    fn become_program(&self) -> std::io::Error {
        sys::default_signals();
        let open = |path| -> std::io::Result<OwnedFd> {
            Ok(rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
        };
        let ready = || -> std::io::Result<()> {
            setsid()?;
            let console = open("/dev/console")?;
            if self.has_console {
                // The console of a machine may be no terminal; then there is no job control.
                let _ = ioctl_tiocsctty(&console);
                sys::duplicate_to(console.as_fd(), 0)?;
            } else {
                sys::duplicate_to(open("/dev/null")?.as_fd(), 0)?;
            }
            sys::duplicate_to(console.as_fd(), 1)?;
            sys::duplicate_to(console.as_fd(), 2)?;
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
}

/// Writes the file that the server reads (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"); `/root/.ssh` leads
/// to its folder. Nobody but root may write either, or the server does not believe it.
fn write_keys(keys: &[&str]) -> std::io::Result<()> {
    let folder = RUN_SSH_KEYS.rsplit_once('/').map_or("/", |(folder, _)| folder);
    match rustix::fs::mkdir(folder, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let mut text = keys.join("\n");
    text.push('\n');
    std::fs::write(RUN_SSH_KEYS, text)?;
    Ok(rustix::fs::chmod(RUN_SSH_KEYS, Mode::from_raw_mode(0o600))?)
}

/// Whose key it is: its comment, or its kind where it has none.
fn comment(key: &str) -> &str {
    let mut words = key.splitn(3, ' ');
    let kind = words.next().unwrap_or(key);
    words.nth(1).filter(|comment| !comment.trim().is_empty()).unwrap_or(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_comment_and_never_shown() {
        assert_eq!(comment("ssh-ed25519 AAAA me@here at work"), "me@here at work");
        assert_eq!(comment("ssh-ed25519 AAAA"), "ssh-ed25519");
        assert_eq!(comment("ssh-ed25519 AAAA  "), "ssh-ed25519");
    }

    #[test]
    fn an_image_without_a_server_admits_nobody() {
        let mut programs = DebugPrograms::default();
        programs.admit(&["ssh-ed25519 AAAA me@here"]).unwrap();
        programs.open_console(&[]);
        assert_eq!(programs.deadline(), None);
    }
}
