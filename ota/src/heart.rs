//! The heartbeat: what tells `init` that this workload is ready, and then that it still turns over.
//!
//! `init` starts `ota` again when it has been silent for longer than `system.conf` allows
//! (`heartbeat`, 60 s), so everything that may wait or compute for seconds beats meanwhile. The
//! process has one heart, [`beat`] is for whoever is too deep down to be handed it: a connection
//! between two reads, a loop over a medium.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Beats come at most this often.
const RATE: Duration = Duration::from_secs(1);
/// The longest sleep between two beats.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The one of this process, once it is a workload.
static OWN: OnceLock<Heart> = OnceLock::new();

/// Writes to the channel that `init` reads.
#[derive(Debug)]
pub struct Heart {
    channel: Option<File>,
    start: Instant,
    /// When the last beat was, in milliseconds after `start`.
    last: AtomicU64,
}

impl Heart {
    /// Opens the channel that `init` gave, if this was started by `init`, and says "ready".
    pub fn new() -> Heart {
        let channel = std::env::var("FERRITE_NOTIFY_FD")
            .ok()
            .and_then(|fd| fd.parse::<u32>().ok())
            .and_then(|fd| OpenOptions::new().write(true).open(format!("/proc/self/fd/{fd}")).ok());
        Heart::on(channel)
    }

    /// A heart that beats on this channel; says "ready".
    pub fn on(channel: Option<File>) -> Heart {
        let heart = Heart { channel, start: Instant::now(), last: AtomicU64::new(0) };
        heart.send();
        heart
    }

    /// Makes this the heart of the process, for [`beat`]. The first one stays.
    pub fn of_process(self) -> &'static Heart {
        OWN.get_or_init(|| self)
    }

    fn send(&self) {
        if let Some(mut channel) = self.channel.as_ref() {
            let _ = channel.write_all(b"\n");
        }
    }

    /// One beat, at most one a second. From any thread.
    pub fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.last.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= RATE.as_millis() as u64;
        let ours =
            || self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && ours() {
            self.send();
        }
    }

    /// Sleeps, beating.
    pub fn sleep(&self, duration: Duration) {
        sleep_beating(duration, &|| self.beat());
    }
}

impl Default for Heart {
    fn default() -> Self {
        Heart::new()
    }
}

/// A beat of the process's heart; nothing in a process that has none, as a command of a person.
pub fn beat() {
    if let Some(heart) = OWN.get() {
        heart.beat();
    }
}

/// Sleeps, beating with the process's heart.
pub fn sleep(duration: Duration) {
    sleep_beating(duration, &beat);
}

fn sleep_beating(duration: Duration, beat: &dyn Fn()) {
    let end = Instant::now() + duration;
    loop {
        beat();
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LONGEST_SLEEP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn ready_at_once_then_at_most_one_beat_a_second() {
        let (mut read, write) = std::io::pipe().unwrap();
        let heart = Heart::on(Some(std::os::fd::OwnedFd::from(write).into()));
        for _ in 0..1000 {
            heart.beat();
        }
        std::thread::sleep(Duration::from_millis(1050));
        for _ in 0..1000 {
            heart.beat();
        }
        drop(heart);
        let mut beats = Vec::new();
        read.read_to_end(&mut beats).unwrap();
        assert_eq!(beats, b"\n\n");
    }
}
