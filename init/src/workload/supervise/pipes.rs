//! What comes through a workload's pipes.

use super::Unit;
use crate::workload::flow::{ConsoleShare, FLOOD, Throttle};
use crate::workload::state_machine::Event;
use crate::{console, sys};

/// The longest line copied to the console in one piece.
const MAX_CONSOLE_LINE: usize = 1024;
/// The longest message of a child that could not start its program.
const MAX_START_ERROR: usize = 256;

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

/// How fast each pipe may be read that somebody else writes to.
#[derive(Debug, Default)]
pub(super) struct Flows {
    output: Throttle,
    notify: Throttle,
    check: Throttle,
    console: ConsoleShare,
}

impl Flows {
    /// Until when this pipe is not to be waited for.
    pub(super) fn rests_until(&self, pipe: Pipe, now: u64) -> Option<u64> {
        match pipe {
            Pipe::Output => self.output.rests_until(now),
            Pipe::Notify => self.notify.rests_until(now),
            Pipe::Check => self.check.rests_until(now),
            // Only this program's own child writes to it.
            Pipe::Start => None,
        }
    }

    /// When lines that were dropped have to be spoken of.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.console.deadline()
    }
}

impl Unit {
    pub(super) fn on_notify(&mut self, now: u64) {
        let Some(notify) = self.process.as_ref().and_then(|p| p.notify.as_ref()) else { return };
        let mut buffer = vec![0; self.flows.notify.read(now)];
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

    pub(super) fn on_output(&mut self, said: &mut Vec<u8>, now: u64) {
        let most = self.flows.output.read(now);
        self.read_output(most, said, now);
    }

    /// All that is in the pipe of a process that ended.
    pub(super) fn take_last_output(&mut self, now: u64) {
        self.read_output(FLOOD, &mut Vec::new(), now);
    }

    fn read_output(&mut self, most: usize, said: &mut Vec<u8>, now: u64) {
        let Some(process) = &mut self.process else { return };
        let Some(output) = &process.output else { return };
        let mut buffer = vec![0; most];
        match sys::read_ready(output, &mut buffer) {
            None => {}
            Some(0) => process.output = None,
            Some(n) => {
                self.log(&buffer[..n], now);
                if self.conf.needs.is_some() {
                    said.extend_from_slice(&buffer[..n]);
                }
            }
        }
    }

    pub(super) fn on_check_output(&mut self, now: u64) {
        let Some((check, _)) = &mut self.check else { return };
        let Some(output) = &check.output else { return };
        let mut buffer = vec![0; self.flows.check.read(now)];
        match sys::read_ready(output, &mut buffer) {
            None => {}
            Some(0) => check.output = None,
            Some(n) => self.log(&buffer[..n], now),
        }
    }

    fn log(&mut self, bytes: &[u8], now: u64) {
        self.ring.push(bytes);
        if !self.conf.console {
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.flows.console.is_full(now) {
                rest = self.drop_lines(rest);
            }
            let room = MAX_CONSOLE_LINE - self.console_line.len();
            let end = rest.iter().take(room + 1).position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(rest.len().min(room));
            self.console_line.extend_from_slice(&rest[..taken]);
            rest = &rest[taken + usize::from(end.is_some())..];
            if end.is_some() || self.console_line.len() >= MAX_CONSOLE_LINE {
                self.end_console_line(now);
            }
        }
        console::flush();
    }

    /// Counts the lines that end in `bytes`, and leaves what begins the next.
    fn drop_lines<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return bytes };
        let (whole, rest) = bytes.split_at(end + 1);
        self.flows.console.refuse_lines(whole.iter().filter(|byte| **byte == b'\n').count() as u64);
        self.console_line.clear();
        rest
    }

    pub(super) fn end_console_line(&mut self, now: u64) {
        if self.console_line.is_empty() {
            return;
        }
        self.say_dropped(now);
        let line = std::mem::take(&mut self.console_line);
        let (share, name) = (&mut self.flows.console, &self.conf.name);
        let length = line.len() + console::quoting_costs(name);
        if share.admit(length, now) {
            match console::quote(name, &line) {
                Some(written) => share.charge(written.saturating_sub(length)),
                None => share.refuse(),
            }
        }
        // The buffer is used again, as long as lines of its length keep coming.
        self.console_line = line;
        self.console_line.clear();
    }

    /// Says how many lines the console did not get, when it is time to.
    pub(super) fn say_dropped(&mut self, now: u64) {
        if let Some(lines) = self.flows.console.take_dropped(now) {
            let lines = lines.to_string();
            console::say(&[
                "workload ",
                &self.conf.name,
                ": ",
                &lines,
                " lines not shown here; the newest are in `ctl logs ",
                &self.conf.name,
                "`",
            ]);
        }
    }
}
