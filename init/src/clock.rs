//! The time: the best of the hardware clock (which the kernel has read), the last time written
//! down, and time servers. It only ever moves forward; a clock that is ahead is slowed down.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::time::{clock_gettime, clock_settime, ClockId, Timespec};
use slot::network_time::NetworkTime;
use slot::{conf, layout, Result};

use crate::console::say;
use crate::{data, sntp, sys};

/// The last time that was written down: seconds since 1970 in decimal.
const KEPT: &str = "/data/ferrite/clock";
/// Its name in `init`'s own folder.
const KEPT_NAME: &str = "clock";
/// Milliseconds between two writes, and between two questions once one was answered.
const HOUR: u64 = 3_600_000;
/// First and longest wait for an answer.
const FIRST_WAIT: u64 = 4_000;
const LONGEST_WAIT: u64 = 512_000;
/// Milliseconds from `/data` being there to the first time written down.
const FIRST_SAVE: u64 = 10_000;
/// 2100-01-01: a time behind this is a broken file or server.
const LATEST: u64 = 4_102_444_800;

/// What keeps the time right.
#[derive(Debug)]
pub struct Clock {
    fixed: Vec<IpAddr>,
    socket: Option<UdpSocket>,
    question: Option<sntp::Question>,
    next_server: usize,
    ask_at: u64,
    wait: u64,
    data: bool,
    save_at: u64,
    /// A server has told the time since the start.
    known: bool,
}

/// How to get from our time to the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Correction {
    /// Set the clock forward by so many microseconds.
    Step(i64),
    /// Let it run faster or slower until it has moved by so many microseconds.
    Slew(i64),
}

/// Small differences are slewed, large ones ahead stepped; back it never goes.
fn correction(offset: i64) -> Correction {
    const SMALL: i64 = 500_000;
    if offset > SMALL {
        Correction::Step(offset)
    } else {
        Correction::Slew(offset.max(-SMALL))
    }
}

impl Clock {
    /// A clock that asks these numeric addresses, beside those of DHCP.
    pub fn new(servers: &[String]) -> Clock {
        let parse = |server: &String| {
            let address = server.parse().ok();
            if address.is_none() {
                say(&["time: ", server, " is not a numeric address; PID 1 resolves no names"]);
            }
            address
        };
        Clock {
            fixed: servers.iter().filter_map(parse).collect(),
            socket: None,
            question: None,
            next_server: 0,
            ask_at: 0,
            wait: FIRST_WAIT,
            data: false,
            save_at: 0,
            known: false,
        }
    }

    /// The socket an answer comes through.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// When [`Clock::tick`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        let save = self.data.then_some(self.save_at);
        let ask = (self.ask_at != 0).then_some(self.ask_at);
        [save, ask].into_iter().flatten().min()
    }

    /// `/data` is there: never be earlier than what was written down.
    pub fn data_ready(&mut self) {
        self.data = true;
        // The disk belongs to the workloads that start now.
        self.save_at = crate::uptime::now() + FIRST_SAVE;
        let kept = data::collected(KEPT).and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(kept) = kept.and_then(|text| conf::decimal(text.trim())) else { return };
        if kept > seconds() && kept < LATEST {
            say(&["time: the clock was behind; set to when this device was last up"]);
            set(kept.saturating_mul(1_000_000) as i64);
        }
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

    /// Asks a server when it is time to.
    pub fn tick(&mut self, offered: &[IpAddr], network: bool, now: u64) {
        let count = self.fixed.len() + offered.len();
        if !network || count == 0 || now < self.ask_at {
            return;
        }
        let index = self.next_server % count;
        self.next_server = index + 1;
        let server = self.fixed.iter().chain(offered).nth(index).copied();
        self.ask_at = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        let cookie = clock_gettime(ClockId::Monotonic).tv_nsec as u64 ^ now << 20;
        if let Some(server) = server {
            let (packet, question) = sntp::question(cookie, microseconds());
            // No road to the server is like no answer: asked again later.
            self.socket = ask(server, &packet).ok();
            self.question = self.socket.is_some().then_some(question);
        }
    }

    /// A server answered.
    pub fn on_answer(&mut self, now: u64) {
        let mut buffer = [0; 512];
        let Some(socket) = &self.socket else { return };
        let Some(n) = sys::read_ready(socket, &mut buffer) else { return };
        let answer = self
            .question
            .as_ref()
            .and_then(|question| sntp::offset(question, &buffer[..n], microseconds()));
        let Some(offset) =
            answer.filter(|offset| microseconds() + offset < LATEST as i64 * 1_000_000)
        else {
            if n == 0 {
                // The other side refuses; another one is asked at the next turn.
                self.socket = None;
            }
            return;
        };
        self.socket = None;
        self.question = None;
        self.ask_at = now + HOUR;
        self.wait = FIRST_WAIT;
        write_down(microseconds() + offset, now, Path::new(layout::RUN_NETWORK_TIME));
        match correction(offset) {
            Correction::Step(offset) => {
                set(microseconds() + offset);
                say(&["time: set by a time server"]);
                self.save_at = now;
            }
            Correction::Slew(offset) => {
                let _ = sys::slew_clock(offset);
                if !self.known {
                    say(&["time: confirmed by a time server"]);
                }
            }
        }
        self.known = true;
    }
}

/// Tells `ota` what a time server said, at `now` (milliseconds since boot): our own clock never goes
/// back, so it does not tell a wrong time from a right one. The file is in memory, so nothing waits,
/// and is replaced in one step.
fn write_down(microseconds: i64, now: u64, path: &Path) {
    let unix = u64::try_from(microseconds / 1_000_000).unwrap_or(0);
    let text = NetworkTime { unix, boot_ms: now }.to_text();
    let new = path.with_extension("new");
    if let Err(e) = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)) {
        say(&["time: ", &path.to_string_lossy(), ": ", &e.to_string()]);
    }
}

fn ask(server: IpAddr, packet: &[u8]) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect((server, 123))?;
    socket.send(packet)?;
    Ok(socket)
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
    fn time_never_steps_back() {
        assert_eq!(correction(10_000_000), Correction::Step(10_000_000));
        assert_eq!(correction(400_000), Correction::Slew(400_000));
        assert_eq!(correction(-10_000_000), Correction::Slew(-500_000));
        assert_eq!(correction(i64::MIN), Correction::Slew(-500_000));
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
        let clock = Clock::new(&["pool.example".to_string(), "192.0.2.1".to_string()]);
        assert_eq!(clock.fixed, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }
}
