//! How fast a transfer may be, and how slow.

use std::time::{Duration, Instant};

use crate::fetch::timeouts::Timeouts;
use crate::heart;

/// Keeps a transfer between the least rate and the most.
pub struct RateLimiter {
    least: u64,
    window: Duration,
    most: Option<u64>,
    since: Instant,
    waited: Duration,
    bytes: u64,
}

impl RateLimiter {
    /// `most`: bytes a second that the owner allows.
    pub fn new(timeouts: &Timeouts, most: Option<u64>) -> RateLimiter {
        RateLimiter {
            // A limit below the least rate is the owner's wish, not the server's fault.
            least: most.map_or(timeouts.least_rate, |most| timeouts.least_rate.min(most / 2)),
            window: timeouts.rate_window,
            most,
            since: Instant::now(),
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Counts bytes that came after a wait; delays when they come too fast, fails when they come
    /// too slowly. Only waiting counts: the time that writing to the medium takes is not the
    /// server's.
    pub fn passed(&mut self, bytes: usize, waited: Duration) -> std::result::Result<(), String> {
        self.bytes += bytes as u64;
        self.waited += waited;
        if let Some(most) = self.most {
            let due = Duration::from_secs_f64(self.bytes as f64 / most as f64);
            let early = due.saturating_sub(self.since.elapsed());
            heart::sleep(early.min(Duration::from_secs(5)));
        }
        if self.waited < self.window {
            return Ok(());
        }
        if (self.bytes as f64) < self.least as f64 * self.waited.as_secs_f64() {
            return Err(format!("the server sends less than {} bytes a second", self.least));
        }
        (self.since, self.waited, self.bytes) = (Instant::now(), Duration::ZERO, 0);
        Ok(())
    }
}
