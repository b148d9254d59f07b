//! Waiting for a medium without falling silent: a flush of a worn card may take minutes, and a system
//! call that waits for one cannot be interrupted.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// While it is waited for, so often the heart beats.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// What takes longer than this has hung: no heartbeat is sent for it any more, and `init` does what it
/// does with a process that hangs.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Does `work` on a thread of its own and calls `beat` each second until it is done, or has hung.
pub fn while_beating<T: Send>(beat: &dyn Fn(), work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let (done, finished) = mpsc::channel();
        let worker = scope.spawn(move || {
            let result = work();
            let _ = done.send(());
            result
        });
        let end = Instant::now() + LONGEST_WAIT;
        while let Err(RecvTimeoutError::Timeout) = finished.recv_timeout(BEAT_EVERY) {
            if Instant::now() < end {
                beat();
            }
        }
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn beats_while_it_waits_and_gives_what_came_of_it() {
        let beats = Cell::new(0);
        let beat = || beats.set(beats.get() + 1);
        assert_eq!(while_beating(&beat, || 7), 7);
        assert_eq!(beats.get(), 0);
        while_beating(&beat, || std::thread::sleep(2 * BEAT_EVERY + BEAT_EVERY / 2));
        assert_eq!(beats.get(), 2);
    }
}
