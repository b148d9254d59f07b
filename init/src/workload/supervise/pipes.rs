//! What comes through a workload's pipes.

use super::Unit;
use crate::workload::table::Event;
use crate::{console, sys};

/// The longest line copied to the console in one piece.
const MAX_CONSOLE_LINE: usize = 1024;
/// The longest message of a child that could not start its program.
const MAX_START_ERROR: usize = 256;
/// Bytes taken from one pipe before others get their turn.
const READ_AT_ONCE: usize = 4096;

/// Which pipe of a workload is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    /// Standard output and error.
    Output,
    /// Readiness and heartbeats.
    Notify,
    /// What went wrong before the program ran.
    Start,
    /// Output of the health command.
    Check,
}

impl Unit {
    pub(super) fn on_notify(&mut self, now: u64) {
        let mut buffer = [0; 256];
        let Some(notify) = self.process.as_ref().and_then(|p| p.notify.as_ref()) else { return };
        match sys::read_ready(notify, &mut buffer) {
            None => {}
            Some(0) => {
                // It closed the descriptor: no more news, but no end either.
                if let Some(process) = &mut self.process {
                    process.notify = None;
                }
            }
            Some(n) if buffer[..n].contains(&b'\n') => {
                self.monitor.beat(now);
                self.event(Event::Notified, "", now);
            }
            Some(_) => {}
        }
    }

    /// The pipe that tells whether the program could be run.
    pub(super) fn on_start(&mut self, now: u64) {
        let mut buffer = [0; MAX_START_ERROR];
        let Some(start) = self.process.as_ref().and_then(|p| p.start.as_ref()) else { return };
        match sys::read_ready(start, &mut buffer) {
            None => {}
            Some(0) => {
                if let Some(process) = &mut self.process {
                    process.start = None;
                }
                if self.start_error.is_empty() {
                    self.started = Some(now);
                    if !self.conf.notifies {
                        self.event(Event::Notified, "", now);
                    }
                }
            }
            Some(n) => {
                let room = MAX_START_ERROR - self.start_error.len().min(MAX_START_ERROR);
                self.start_error.extend_from_slice(&buffer[..n.min(room)]);
            }
        }
    }

    pub(super) fn on_output(&mut self, said: &mut Vec<u8>) {
        let mut buffer = [0; READ_AT_ONCE];
        let Some(process) = &mut self.process else { return };
        match process.output.as_ref().and_then(|output| sys::read_ready(output, &mut buffer)) {
            None => {}
            Some(0) => process.output = None,
            Some(n) => {
                self.log(&buffer[..n]);
                if self.conf.needs.is_some() {
                    said.extend_from_slice(&buffer[..n]);
                }
            }
        }
    }

    pub(super) fn on_check_output(&mut self) {
        let mut buffer = [0; READ_AT_ONCE];
        let Some((check, _)) = &mut self.check else { return };
        match check.output.as_ref().and_then(|output| sys::read_ready(output, &mut buffer)) {
            None => {}
            Some(0) => check.output = None,
            Some(n) => self.log(&buffer[..n]),
        }
    }

    fn log(&mut self, bytes: &[u8]) {
        self.ring.push(bytes);
        if !self.conf.console {
            return;
        }
        for byte in bytes {
            if *byte == b'\n' || self.console_line.len() >= MAX_CONSOLE_LINE {
                self.end_console_line();
            }
            if *byte != b'\n' {
                self.console_line.push(*byte);
            }
        }
    }

    pub(super) fn end_console_line(&mut self) {
        if self.console_line.is_empty() {
            return;
        }
        let line = [self.conf.name.as_bytes(), b": ", &self.console_line, b"\n"].concat();
        console::write(&line);
        self.console_line.clear();
    }
}
