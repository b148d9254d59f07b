//! The time: the best of the hardware clock (which the kernel has read), the last time written
//! down, and time servers. All servers are asked, one after another; what follows from their answers
//! is decided in `judge`.

pub mod judge;
mod round;
pub mod sntp;

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use formats::network_time::NetworkTime;
use formats::{Result, conf, layout};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use self::judge::{Correction, Doubt, Judgement, Known, judge};
use self::round::{Heard, Round};
use crate::console::say;
use crate::{data, sys};

/// The last time that was written down: seconds since 1970 in decimal.
const KEPT: &str = "/data/ferrite/clock";
/// Its name in `init`'s own folder.
const KEPT_NAME: &str = "clock";
/// Milliseconds between two writes, and between two rounds of questions once one was answered.
const HOUR: u64 = 3_600_000;
/// First and longest wait, in milliseconds, after a round from which nothing followed.
const FIRST_WAIT: u64 = 4_000;
const LONGEST_WAIT: u64 = 512_000;
/// Milliseconds from `/data` being there to the first time written down.
const FIRST_SAVE: u64 = 10_000;
/// Milliseconds for which a server that wants to be asked less is left alone.
const ASK_LESS: u64 = 4 * HOUR;
/// The most servers asked in a round; the image's come first.
const MAX_SERVERS: usize = 8;
/// Where time servers listen.
const PORT: u16 = 123;
/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// What keeps the time right.
#[derive(Debug)]
pub struct Clock {
    fixed: Vec<IpAddr>,
    round: Option<Round>,
    /// Servers that do not want to be asked before a time.
    silent: Vec<(IpAddr, u64)>,
    ask_at: u64,
    wait: u64,
    data: bool,
    save_at: u64,
    /// Microseconds by which servers have set the clock that were alone with their opinion.
    alone: i64,
    /// Microseconds since 1970; 0: unknown.
    built: i64,
    signed: i64,
    doubt: Option<Doubt>,
    /// Most servers have told the time since the start.
    known: bool,
    /// Some have, and that was said.
    said: bool,
}

impl Clock {
    /// A clock that asks these numeric addresses, beside those of DHCP. `built`: seconds since 1970
    /// that have passed by all that the image knows.
    pub fn new(servers: &[String], built: u64) -> Clock {
        let parse = |server: &String| {
            let address = server.parse().ok();
            if address.is_none() {
                say(&["time: ", server, " is not a numeric address; PID 1 resolves no names"]);
            }
            address
        };
        Clock {
            fixed: servers.iter().filter_map(parse).collect(),
            round: None,
            silent: Vec::new(),
            ask_at: 0,
            wait: FIRST_WAIT,
            data: false,
            save_at: 0,
            alone: 0,
            built: bounded(built),
            signed: 0,
            doubt: None,
            known: false,
            said: false,
        }
    }

    /// The socket an answer comes through.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.round.as_ref()?.socket()
    }

    /// When [`Clock::tick`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        let save = self.data.then_some(self.save_at);
        let ask = self.round.as_ref().map_or(self.ask_at, |round| round.until);
        [save, (ask != 0).then_some(ask)].into_iter().flatten().min()
    }

    /// `/data` is there: never be earlier than what was written down, unless the servers said so.
    pub fn data_ready(&mut self) {
        self.data = true;
        // The disk belongs to the workloads that start now.
        let now = crate::uptime::now();
        self.save_at = now + FIRST_SAVE;
        let kept = data::collected(KEPT).and_then(|bytes| String::from_utf8(bytes).ok());
        let kept = kept.and_then(|text| conf::decimal(text.trim()));
        let Some(kept) = kept.map(bounded).filter(|kept| !self.known && *kept > microseconds())
        else {
            return;
        };
        say(&["time: the clock was behind; set to when this device was last up"]);
        set(kept);
        self.alone = 0;
        // What was measured by the clock as it was is of no use.
        self.round = None;
    }

    /// The time to write down, when it is time to.
    pub fn take_due_save(&mut self) -> Option<u64> {
        let now = crate::uptime::now();
        if !self.data || now < self.save_at {
            return None;
        }
        self.save_at = now + HOUR;
        self.now_if_known()
    }

    /// Seconds since 1970, unless nothing ever told this device the time.
    pub fn now_if_known(&self) -> Option<u64> {
        // An unset clock starts in 1970; a written-down one moved it to where it was.
        Some(seconds()).filter(|now| self.data && *now > 1_000_000_000)
    }

    /// The repository's newest timestamp says that it was signed at this time. It changes nothing by
    /// itself; it is a witness for, or against, a time server that is alone.
    pub fn signed_at(&mut self, seconds: u64, now: u64) {
        let signed = bounded(seconds);
        if self.signed != signed && self.doubt.is_some() {
            self.ask_at = now;
        }
        self.signed = signed;
    }

    /// Asks the servers when it is time to.
    pub fn tick(&mut self, offered: &[IpAddr], network: bool, now: u64) {
        self.silent.retain(|(_, until)| *until > now);
        if let Some(round) = &self.round {
            if now >= round.until {
                self.ask_next(now);
            }
            return;
        }
        if now < self.ask_at {
            return;
        }
        let servers = servers(&self.fixed, offered, &self.silent);
        if !network || servers.is_empty() {
            // Once there are some, what brings them wakes the loop; nothing is due until then.
            self.ask_at = 0;
            return;
        }
        self.round = Some(Round::new(servers, PORT, now));
        self.ask_next(now);
    }

    /// Asks the next server of the round, and decides after the last.
    fn ask_next(&mut self, now: u64) {
        let over = self.round.as_mut().is_some_and(|round| round.ask_next(microseconds(), now));
        if over {
            self.decide(now);
        }
    }

    /// A server answered.
    pub fn on_answer(&mut self, now: u64) {
        let Some(round) = &mut self.round else { return };
        match round.on_answer(microseconds()) {
            Heard::Nothing => return,
            Heard::Time => {}
            Heard::AskLess(server) => self.silent.push((server, now.saturating_add(ASK_LESS))),
            Heard::GoAway(server) => self.silent.push((server, u64::MAX)),
        }
        self.ask_next(now);
    }

    /// The round is over: does what follows from it.
    fn decide(&mut self, now: u64) {
        let Some(round) = self.round.take() else { return };
        let anchor = microseconds().saturating_sub(self.alone);
        let known = Known { anchor, built: self.built, signed: self.signed };
        self.ask_at = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        if round.witnesses.is_empty() {
            return;
        }
        match judge(microseconds(), &round.witnesses, &known) {
            Ok(judgement) => {
                self.ask_at = now + HOUR;
                self.wait = FIRST_WAIT;
                self.doubt = None;
                self.apply(&judgement, round.servers.len(), now);
            }
            Err(doubt) => {
                if self.doubt.replace(doubt) != Some(doubt) {
                    say(&["time: ", doubt.text(), "; nothing follows from it"]);
                }
            }
        }
    }

    fn apply(&mut self, judgement: &Judgement, asked: usize, now: u64) {
        // What most of those that were to be asked say is what expiry goes by.
        let most = judgement.servers * 2 > asked;
        if most {
            let time = microseconds().saturating_add(judgement.offset);
            write_down(time, now, Path::new(layout::RUN_NETWORK_TIME));
        }
        match judgement.correction {
            Correction::Step(offset) => {
                set(microseconds().saturating_add(offset));
                let whose = if judgement.servers > 1 { "time servers" } else { "a time server" };
                say(&["time: set by ", whose]);
                // A time that was wrong is not to come back with the next start.
                self.save_at = now;
            }
            Correction::Slew(offset) => {
                let _ = sys::slew_clock(offset);
                if !self.said {
                    say(&["time: confirmed by a time server"]);
                }
            }
        }
        self.alone = match judgement.correction {
            _ if judgement.confirmed => 0,
            Correction::Step(offset) => self.alone.saturating_add(offset),
            Correction::Slew(_) => self.alone,
        };
        self.said = true;
        self.known |= most;
    }
}

/// Whom to ask: the image's servers and then the network's, each once, but for those that do not
/// want to be asked now.
fn servers(fixed: &[IpAddr], offered: &[IpAddr], silent: &[(IpAddr, u64)]) -> Vec<IpAddr> {
    let mut servers: Vec<IpAddr> = Vec::with_capacity(MAX_SERVERS);
    for server in fixed.iter().chain(offered) {
        let is_silent = silent.iter().any(|(other, _)| other == server);
        if !is_silent && !servers.contains(server) && servers.len() < MAX_SERVERS {
            servers.push(*server);
        }
    }
    servers
}

/// Seconds since 1970 as microseconds; what no clock shows becomes the latest time.
fn bounded(seconds: u64) -> i64 {
    let latest = judge::LATEST / SECOND;
    i64::try_from(seconds).unwrap_or(latest).min(latest) * SECOND
}

/// Tells `ota` what the time servers said, at `now` (milliseconds since boot): our own clock may also
/// show what was written down, or what a single server said. The file is in memory, so nothing waits,
/// and is replaced in one step.
fn write_down(microseconds: i64, now: u64, path: &Path) {
    let unix = u64::try_from(microseconds / 1_000_000).unwrap_or(0);
    let text = NetworkTime { unix, boot_ms: now }.to_text();
    let new = path.with_extension("new");
    if let Err(e) = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)) {
        say(&["time: ", &path.to_string_lossy(), ": ", &e.to_string()]);
    }
}

/// Writes the time down; blocks on the disk, so a helper does it. The new file replaces the old
/// one in one step: a power cut leaves one of them.
pub fn save(seconds: u64) -> Result<()> {
    data::own_folder(data::MOUNT)?.replace(KEPT_NAME, seconds.to_string().as_bytes())
}

fn seconds() -> u64 {
    clock_gettime(ClockId::Realtime).tv_sec.max(0) as u64
}

/// Microseconds since 1970.
fn microseconds() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec.saturating_mul(1_000_000) + time.tv_nsec as i64 / 1000
}

fn set(microseconds: i64) {
    let time = Timespec {
        tv_sec: microseconds.div_euclid(1_000_000),
        tv_nsec: (microseconds.rem_euclid(1_000_000) * 1000) as _,
    };
    if let Err(e) = clock_settime(ClockId::Realtime, time) {
        say(&["time: cannot set the clock: ", &e.to_string()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_asked_once_and_none_that_does_not_want_to_be() {
        let ip = |n: u8| IpAddr::from([192, 0, 2, n]);
        let all: Vec<IpAddr> = (0..20).map(ip).collect();
        assert_eq!(servers(&all[..2], &all[1..3], &[]), all[..3]);
        assert_eq!(servers(&all[..2], &all[1..3], &[(ip(1), 9)]), [ip(0), ip(2)]);
        assert_eq!(servers(&all, &all, &[]).len(), MAX_SERVERS);
        assert!(servers(&[], &[], &[]).is_empty());
    }

    #[test]
    fn what_no_clock_shows_is_bounded() {
        assert_eq!((bounded(5), bounded(u64::MAX)), (5 * SECOND, judge::LATEST));
    }

    #[test]
    fn what_a_server_said_replaces_what_it_said_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network-time");
        write_down(1_900_000_000_999_999, 5_000, &path);
        write_down(1_800_000_000_000_001, 9_000, &path);
        let said = NetworkTime::parse(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(said, NetworkTime { unix: 1_800_000_000, boot_ms: 9_000 });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // Nowhere to write is no reason for PID 1 to stop.
        write_down(0, 0, &dir.path().join("missing/network-time"));
    }

    #[test]
    fn a_name_is_no_numeric_address() {
        let clock = Clock::new(&["pool.example".to_string(), "192.0.2.1".to_string()], 0);
        assert_eq!(clock.fixed, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }
}
