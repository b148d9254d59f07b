//! The heartbeat of the process: what tells `init` that this workload is ready, and then that it
//! still runs.
//!
//! `init` starts `ota` again when it has been silent for longer than `system.conf` allows
//! (`heartbeat`, 60 s), so everything that may wait or compute for seconds beats meanwhile. There is
//! one notifier for the process, and [`beat`] for whoever is too deep down to be handed it: a
//! connection between two reads, a loop over a medium.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use readiness::ReadyNotifier;

use crate::console::say;

/// The longest sleep between two heartbeats.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The one of this process, once it is a workload.
static OWN: OnceLock<Heart> = OnceLock::new();

/// The process's notifier. That nobody listens any more is no reason to stop: `init` reads the other
/// end for as long as it runs.
#[derive(Debug)]
pub struct Heart(ReadyNotifier);

impl Heart {
    /// Says that this workload is ready, if `init` has started it.
    pub fn new() -> Heart {
        Heart::on(ReadyNotifier::from_env().unwrap_or_else(|e| {
            say(&e.to_string());
            ReadyNotifier::disconnected()
        }))
    }

    /// Says that it is ready through this notifier.
    pub fn on(notifier: ReadyNotifier) -> Heart {
        let _ = notifier.ready();
        Heart(notifier)
    }

    /// Makes this the heart of the process, for [`beat`]. The first one stays.
    pub fn of_process(self) -> &'static Heart {
        OWN.get_or_init(|| self)
    }

    /// One heartbeat, at most one a second. From any thread.
    pub fn beat(&self) {
        let _ = self.0.beat();
    }

    /// Sleeps, with heartbeats.
    pub fn sleep(&self, duration: Duration) {
        sleep_beating(duration, &|| self.beat());
    }
}

impl Default for Heart {
    fn default() -> Self {
        Heart::new()
    }
}

/// A heartbeat of the process; nothing in one that has no heart, as a command of a person.
pub fn beat() {
    if let Some(heart) = OWN.get() {
        heart.beat();
    }
}

/// Sleeps, with heartbeats of the process.
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
