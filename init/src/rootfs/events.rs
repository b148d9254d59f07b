//! What the loop waits for, and for how long.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Init;
use crate::control::Control;
use crate::workload::supervise::Pipe;
use crate::{console, uptime};

/// The loop turns at least this often, so that a wrong deadline is a delay and not a stop.
const LONGEST_SLEEP: u64 = 10_000;

/// What a ready descriptor belongs to.
#[derive(Clone, Copy)]
pub enum Token {
    Signals,
    Console,
    Workload(usize, Pipe),
    Listener,
    Client(usize),
    Media,
    Link,
    Dhcp(usize),
    Time,
}

impl Init {
    /// Waits for a descriptor or the next deadline.
    pub(super) fn wait(&self) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(32);
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(32);
        let mut add = |token, fd, flags| {
            tokens.push(token);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        add(Token::Signals, self.signals.as_fd(), PollFlags::IN);
        let now = uptime::now();
        self.supervisor
            .pipes(now, |index, pipe, fd| add(Token::Workload(index, pipe), fd, PollFlags::IN));
        if let Some(control) = &self.control {
            let rings = |index: usize| self.supervisor.units.get(index).map(|unit| &unit.ring);
            control.descriptors(rings, |client, fd, write| {
                let token = client.map_or(Token::Listener, Token::Client);
                add(token, fd, if write { PollFlags::OUT } else { PollFlags::IN });
            });
        }
        let net = [
            (Token::Media, self.media.socket()),
            (Token::Link, self.network.link_socket()),
            (Token::Time, self.clock.socket()),
        ];
        for (token, fd) in net {
            if let Some(fd) = fd {
                add(token, fd, PollFlags::IN);
            }
        }
        for (number, fd) in self.network.packet_sockets() {
            add(Token::Dhcp(number), fd, PollFlags::IN);
        }
        let console = console::duplicate_if_pending();
        if let Some(fd) = &console {
            add(Token::Console, fd.as_fd(), PollFlags::OUT);
        }
        let milliseconds = self.next_look().saturating_sub(uptime::now()).min(LONGEST_SLEEP);
        let timeout = Timespec {
            tv_sec: (milliseconds / 1000) as i64,
            tv_nsec: (milliseconds % 1000 * 1_000_000) as _,
        };
        if poll(&mut fds, Some(&timeout)).is_err() {
            // Interrupted, or short of memory: the deadlines are looked at in any case.
            return Vec::new();
        }
        let ready = fds.iter().map(|fd| !fd.revents().is_empty());
        tokens.iter().zip(ready).filter(|(_, ready)| *ready).map(|(token, _)| *token).collect()
    }

    /// The next moment at which something is due.
    fn next_look(&self) -> u64 {
        let now = uptime::now();
        [
            self.supervisor.deadline(now),
            self.control.as_ref().and_then(Control::deadline),
            self.network.deadline(),
            self.wireless.deadline(),
            self.media.deadline().filter(|_| self.shutdown.is_none()),
            self.clock.deadline(),
            self.debug.deadline(),
            self.assessment.next_look(),
            self.startup_gate.deadline(),
            self.helpers.deadline(),
            self.shutdown.as_ref().map(|shutdown| shutdown.next_look(now)),
            self.watchdog.is_some().then_some(self.next_feed),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u64::MAX)
    }
}
