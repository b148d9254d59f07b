//! The hardware watchdog: armed by the first life, handed over exec, fed by the second.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use slot::{Error, Result};

use crate::sys;

/// Environment variable that tells the second life which descriptor the watchdog is.
const HANDED: &str = "FERRITE_WATCHDOG_FD";
/// `_IOWR('W', 6, int)`
const SET_TIMEOUT: u32 = 0xc004_5706;

/// An armed watchdog. It is never disarmed: closing it leaves it running, since the one byte that
/// would stop it is never written.
#[derive(Debug)]
pub struct Watchdog {
    fd: OwnedFd,
    /// Milliseconds between two feedings.
    pub interval: u64,
}

impl Watchdog {
    /// Opens the device, which arms it, to fire `seconds` after the last feeding.
    pub fn arm(device: &str, seconds: u32) -> Result<Watchdog> {
        let error = |e: &dyn std::fmt::Display| {
            Error::new(["watchdog ", device, ": ", &e.to_string()].concat())
        };
        let fd = rustix::fs::open(device, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| error(&e))?;
        Watchdog::set(fd, seconds).map_err(|e| error(&e))
    }

    /// Takes over the watchdog that the first life armed, if it handed one over.
    pub fn adopt(seconds: u32) -> Option<Watchdog> {
        let number = std::env::var(HANDED).ok()?.parse().ok()?;
        Watchdog::set(sys::adopt(number)?, seconds).ok()
    }

    fn set(fd: OwnedFd, seconds: u32) -> std::io::Result<Watchdog> {
        let mut value = seconds.clamp(1, 3600).to_ne_bytes();
        sys::ioctl_buffer(fd.as_fd(), SET_TIMEOUT, &mut value)?;
        let granted = u32::from_ne_bytes(value).max(1);
        let watchdog = Watchdog { fd, interval: u64::from(granted) * 1000 / 4 };
        watchdog.feed();
        Ok(watchdog)
    }

    /// Starts the countdown anew.
    pub fn feed(&self) {
        // The device may refuse; then it fires, which is what a broken watchdog should do.
        let _ = rustix::io::write(&self.fd, b"\0");
    }

    /// Keeps the descriptor open across exec; returns what goes into the environment.
    pub fn hand_over(&self) -> String {
        let _ = rustix::io::fcntl_setfd(&self.fd, rustix::io::FdFlags::empty());
        [HANDED, "=", &self.fd.as_raw_fd().to_string()].concat()
    }
}
