//! Tells Ferrite's supervisor that a workload is ready, and from then on that it still runs.
//!
//! A workload with `ready = "notify"` in the image file counts as started once it says so: it writes
//! a newline to the descriptor that the environment variable [`VARIABLE`] names. With `heartbeat`,
//! each later newline is a heartbeat, and a workload that has been silent for longer is started
//! again. That is the whole protocol (it is s6's, with heartbeats); this crate is its client for
//! programs in Rust, and depends on nothing but the standard library.
//!
//! ```
//! use std::time::Duration;
//! use readiness::ReadyNotifier;
//!
//! # struct Model;
//! # fn load_model() -> Model { Model }
//! # impl Model { fn infer(&self, _: u8) {} }
//! # fn next_picture() -> Option<u8> { None }
//! fn main() -> Result<(), readiness::Error> {
//!     // With nobody to tell, as in a shell, the notifier does nothing.
//!     let notifier = ReadyNotifier::from_env()?.at_most_every(Duration::from_secs(2));
//!     let model = load_model();
//!     notifier.ready()?;
//!     while let Some(picture) = next_picture() {
//!         model.infer(picture);
//!         // From where the work is done: an inference that hangs falls silent.
//!         notifier.beat()?;
//!     }
//!     Ok(())
//! }
//! ```

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The environment variable with the number of the descriptor.
pub const VARIABLE: &str = "FERRITE_NOTIFY_FD";
/// What is written: once for ready, then for each heartbeat.
pub const MESSAGE: &[u8] = b"\n";

/// Heartbeats come at most this often, unless [`ReadyNotifier::at_most_every`] says otherwise.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why the supervisor cannot be told.
#[derive(Debug)]
pub enum Error {
    /// The variable does not name a descriptor above 2 that can be opened.
    Descriptor(String),
    /// The descriptor cannot be written to any more. It is not tried again.
    Closed(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Descriptor(value) => {
                write!(f, "{VARIABLE}={value} names no open descriptor above 2: nobody is told")
            }
            Error::Closed(error) => {
                write!(f, "the supervisor's descriptor ({VARIABLE}) is gone: {error}")
            }
        }
    }
}

// What it came from is part of the text: were it the source, too, a chain of causes would say it twice.
impl std::error::Error for Error {}

/// The way to the supervisor, or nothing where there is none. Any thread may use it.
#[derive(Debug)]
pub struct ReadyNotifier {
    channel: Option<File>,
    /// The channel could not be written to.
    is_closed: AtomicBool,
    interval: Duration,
    start: Instant,
    /// When something was last written, in milliseconds after `start`.
    last: AtomicU64,
}

impl ReadyNotifier {
    /// The supervisor of this process. Without one there is nobody to tell.
    ///
    /// Fails when the variable is there and names no descriptor of its own.
    pub fn from_env() -> Result<ReadyNotifier, Error> {
        let Some(value) = std::env::var_os(VARIABLE) else {
            return Ok(ReadyNotifier::disconnected());
        };
        let number = value.to_str().and_then(|text| text.parse::<u32>().ok());
        // Through /proc, so that nothing has to be known of who else uses the number (proc(5)).
        let open = |fd| OpenOptions::new().write(true).open(format!("/proc/self/fd/{fd}")).ok();
        match number.filter(|fd| *fd > 2).and_then(open) {
            Some(channel) => Ok(ReadyNotifier::to(channel)),
            None => Err(Error::Descriptor(value.to_string_lossy().into_owned())),
        }
    }

    /// A notifier that writes to this channel.
    pub fn to(channel: File) -> ReadyNotifier {
        ReadyNotifier { channel: Some(channel), ..ReadyNotifier::disconnected() }
    }

    /// A notifier that tells nobody.
    pub fn disconnected() -> ReadyNotifier {
        ReadyNotifier {
            channel: None,
            is_closed: AtomicBool::new(false),
            interval: INTERVAL,
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// The same, with heartbeats at most this often; every second if this is not called.
    #[must_use]
    pub fn at_most_every(self, interval: Duration) -> ReadyNotifier {
        ReadyNotifier { interval, ..self }
    }

    /// Says that the workload is ready.
    ///
    /// Fails once when the channel is gone; from then on nothing is written.
    pub fn ready(&self) -> Result<(), Error> {
        self.last.store(self.now(), Ordering::Relaxed);
        self.send()
    }

    /// Says that the workload still runs, unless something was said within the interval.
    ///
    /// Fails as [`ReadyNotifier::ready`].
    pub fn beat(&self) -> Result<(), Error> {
        let now = self.now();
        let last = self.last.load(Ordering::Relaxed);
        let due = u128::from(now.saturating_sub(last)) >= self.interval.as_millis();
        let ours =
            || self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && ours() { self.send() } else { Ok(()) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn send(&self) -> Result<(), Error> {
        let Some(mut channel) = self.channel.as_ref() else { return Ok(()) };
        if self.is_closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        channel.write_all(MESSAGE).map_err(|error| {
            self.is_closed.store(true, Ordering::Relaxed);
            Error::Closed(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn pipe() -> (io::PipeReader, File) {
        let (read, write) = io::pipe().unwrap();
        (read, OwnedFd::from(write).into())
    }

    #[test]
    fn ready_at_once_then_at_most_one_heartbeat_an_interval() {
        let (mut read, write) = pipe();
        let notifier = ReadyNotifier::to(write).at_most_every(Duration::from_millis(200));
        notifier.ready().unwrap();
        for _ in 0..1000 {
            notifier.beat().unwrap();
        }
        std::thread::sleep(Duration::from_millis(210));
        for _ in 0..1000 {
            notifier.beat().unwrap();
        }
        drop(notifier);
        let mut said = Vec::new();
        read.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"\n\n");
    }

    #[test]
    fn who_has_gone_is_told_of_once() {
        let (read, write) = pipe();
        drop(read);
        let notifier = ReadyNotifier::to(write).at_most_every(Duration::ZERO);
        let error = notifier.ready().unwrap_err().to_string();
        assert!(error.contains(VARIABLE), "{error}");
        notifier.ready().unwrap();
        notifier.beat().unwrap();
    }

    #[test]
    fn without_a_supervisor_nothing_happens() {
        let notifier = ReadyNotifier::disconnected();
        notifier.ready().unwrap();
        notifier.beat().unwrap();
    }
}
