//! How much of what workloads say PID 1 takes, so that none of them has it to itself.
//!
//! A pipe that is always full would have PID 1 do nothing but read it. So a pipe that was read often
//! rests, and is not waited for meanwhile; its writer waits for at most a tenth of a second per full
//! pipe. That slows a flood to some 640 KB/s, loses none of it before the log ring does, and keeps a
//! vital workload alive that says too much: its heartbeats have a pipe of their own. Taking the rest
//! only to drop it would cost PID 1 the same reads again.
//!
//! The console is a serial line, which takes 11 KB/s on many boards, and no workload may have it to
//! itself either. There lines are dropped, and their number is said: a slow line must not slow a
//! workload down.

/// Milliseconds in which a pipe is read a few times.
const WINDOW: u64 = 100;
/// Reads in one window; each wakes PID 1 once.
const READS: u32 = 8;
/// Bytes of such a read.
const LITTLE: usize = 4096;
/// All that a pipe holds (pipe(7)): in a flood one read takes that, and the window has one read.
pub const FLOOD: usize = 64 << 10;

/// The reads of one pipe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    ends: u64,
    reads: u32,
    flooded: bool,
}

impl Throttle {
    /// Until when the pipe is not to be waited for; `None`: it may be read now.
    pub fn rests_until(&self, now: u64) -> Option<u64> {
        (self.reads >= self.allowance() && now < self.ends).then_some(self.ends)
    }

    /// Begins a read, and says how many bytes it may take.
    pub fn read(&mut self, now: u64) -> usize {
        if now >= self.ends {
            // A whole window of silence ends a flood.
            let silent = now >= self.ends.saturating_add(WINDOW);
            self.flooded = self.reads >= self.allowance() && !silent;
            self.ends = now + WINDOW;
            self.reads = 0;
        }
        self.reads = self.reads.saturating_add(1);
        if self.flooded { FLOOD } else { LITTLE }
    }

    fn allowance(&self) -> u32 {
        if self.flooded { 1 } else { READS }
    }
}

/// Bytes of a workload that the console takes at once.
const BURST: u64 = 16 << 10;
/// And a second from then on.
const RATE: u64 = 2 << 10;
/// Once lines were dropped, so many bytes must have become free before the next one is shown, so
/// that what is shown comes in pieces that can be read.
const RESUME: u64 = RATE;

/// One workload's share of the console.
#[derive(Clone, Copy, Debug)]
pub struct ConsoleShare {
    /// Bytes that may be written now.
    room: u64,
    /// When `room` was last reckoned, milliseconds.
    at: u64,
    dropped: u64,
}

impl Default for ConsoleShare {
    fn default() -> ConsoleShare {
        ConsoleShare { room: BURST, at: 0, dropped: 0 }
    }
}

impl ConsoleShare {
    /// Whether a line of so many bytes may be written; one that may not is counted. The number of
    /// lines dropped before it has to be said first ([`ConsoleShare::take_dropped`]).
    pub fn admit(&mut self, length: usize, now: u64) -> bool {
        self.refill(now);
        let length = length as u64;
        let needed = if self.dropped > 0 { length.max(RESUME) } else { length };
        if self.room < needed {
            self.refuse();
            return false;
        }
        self.room -= length;
        true
    }

    /// Every line is dropped now: then none of them needs to be looked at.
    pub fn is_full(&mut self, now: u64) -> bool {
        self.refill(now);
        self.dropped > 0 && self.room < RESUME
    }

    /// So many lines were dropped unseen.
    pub fn refuse_lines(&mut self, lines: u64) {
        self.dropped = self.dropped.saturating_add(lines);
    }

    /// What was admitted took so many bytes more.
    pub fn charge(&mut self, bytes: usize) {
        self.room = self.room.saturating_sub(bytes as u64);
    }

    /// The console did not take the line.
    pub fn refuse(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    /// How many lines were dropped and not said yet, when it is time to say so.
    pub fn take_dropped(&mut self, now: u64) -> Option<u64> {
        self.refill(now);
        (self.dropped > 0 && self.room >= RESUME).then(|| std::mem::take(&mut self.dropped))
    }

    /// When that will be.
    pub fn deadline(&self) -> Option<u64> {
        let missing = RESUME.saturating_sub(self.room);
        (self.dropped > 0).then(|| self.at + (missing * 1000).div_ceil(RATE))
    }

    fn refill(&mut self, now: u64) {
        let gained = now.saturating_sub(self.at).saturating_mul(RATE) / 1000;
        // Less than a byte's time is not lost by asking often.
        if gained > 0 {
            self.room = self.room.saturating_add(gained).min(BURST);
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads whenever it may, a millisecond each; returns reads and bytes in a second.
    fn flood(throttle: &mut Throttle, from: u64) -> (u32, usize) {
        let (mut reads, mut bytes) = (0, 0);
        for now in from..from + 1000 {
            if throttle.rests_until(now).is_none() {
                bytes += throttle.read(now);
                reads += 1;
            }
        }
        (reads, bytes)
    }

    #[test]
    fn a_flood_wakes_pid_1_ten_times_a_second() {
        let mut throttle = Throttle::default();
        flood(&mut throttle, 0);
        let (reads, bytes) = flood(&mut throttle, 1000);
        assert_eq!(reads, 10);
        assert_eq!(bytes, 10 * FLOOD);
    }

    #[test]
    fn who_says_a_little_is_read_at_once_also_after_a_flood() {
        let mut throttle = Throttle::default();
        for now in (0..10_000).step_by(20) {
            assert_eq!(throttle.rests_until(now), None, "at {now}");
            assert_eq!(throttle.read(now), LITTLE);
        }
        flood(&mut throttle, 10_000);
        assert!(throttle.flooded);
        assert_eq!(throttle.rests_until(20_000), None);
        assert_eq!(throttle.read(20_000), LITTLE);
    }

    #[test]
    fn a_pipe_that_rests_says_until_when() {
        let mut throttle = Throttle::default();
        for _ in 0..READS {
            assert_eq!(throttle.rests_until(500), None);
            throttle.read(500);
        }
        assert_eq!(throttle.rests_until(500), Some(600));
        assert_eq!(throttle.rests_until(600), None);
    }

    #[test]
    fn a_burst_is_shown_whole_and_what_is_dropped_is_counted() {
        let mut share = ConsoleShare::default();
        let shown = (0..1000).filter(|_| share.admit(64, 0)).count();
        assert_eq!(shown as u64, BURST / 64);
        assert_eq!(share.take_dropped(0), None, "not in the middle of it");
        let at = share.deadline().unwrap();
        assert_eq!(at, 1000);
        assert_eq!(share.take_dropped(at), Some(1000 - BURST / 64));
        assert_eq!(share.deadline(), None);
        assert!(share.admit(64, at));
    }

    proptest! {
        /// Whatever is written whenever: no more than the burst and the rate goes out, and every
        /// line is either written or counted.
        #[test]
        fn the_console_gets_no_more_than_its_share(
            lines in proptest::collection::vec((0u64..50, 1usize..1500), 1..300),
        ) {
            let mut share = ConsoleShare::default();
            let (mut now, mut written, mut counted, mut shown) = (0, 0, 0, 0);
            for (pause, length) in &lines {
                now += pause;
                counted += share.take_dropped(now).unwrap_or(0);
                if share.admit(*length, now) {
                    written += *length as u64;
                    shown += 1;
                }
                prop_assert!(written <= BURST + now * RATE / 1000);
            }
            counted += share.dropped;
            prop_assert_eq!(counted + shown, lines.len() as u64);
        }
    }
}
