//! The hardware watchdog: armed by the initrd, handed over exec, fed by the second.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use formats::{Error, Result};
use rustix::fs::{Mode, OFlags};

use crate::sys;

/// Environment variable that tells the rootfs which descriptor the watchdog is.
const HANDED: &str = "FERRITE_WATCHDOG_FD";
/// `_IOWR('W', 6, int)`
const SET_TIMEOUT: u32 = 0xc004_5706;
/// `_IOR('W', 2, int)`
const GET_BOOT_STATUS: u32 = 0x8004_5702;
/// The watchdog made the last reset (`WDIOF_CARDRESET`, linux/watchdog.h).
const CARD_RESET: u32 = 0x20;
/// `_IOR('W', 7, int)`
const GET_TIMEOUT: u32 = 0x8004_5707;

/// Milliseconds between two feedings of a watchdog that fires after `granted` seconds, which may
/// be fewer than were asked for: a quarter, so that three may come late or not at all.
fn feeding_interval(granted: u32) -> u64 {
    u64::from(granted.max(1)) * 1000 / 4
}

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

    /// Takes over the watchdog that the initrd armed, if it handed one over.
    pub fn adopt(seconds: u32) -> Option<Watchdog> {
        let number = std::env::var(HANDED).ok()?.parse().ok()?;
        Watchdog::set(sys::adopt(number)?, seconds).ok()
    }

    fn set(fd: OwnedFd, seconds: u32) -> std::io::Result<Watchdog> {
        let mut value = seconds.clamp(1, 3600).to_ne_bytes();
        if sys::ioctl_buffer(fd.as_fd(), SET_TIMEOUT, &mut value).is_err() {
            // More than its counter holds. It runs since it was opened, and whoever gave up on it
            // now would be reset: it keeps the time it has.
            sys::ioctl_buffer(fd.as_fd(), GET_TIMEOUT, &mut value)?;
        }
        let interval = feeding_interval(u32::from_ne_bytes(value));
        let watchdog = Watchdog { fd, interval };
        watchdog.feed();
        Ok(watchdog)
    }

    /// Starts the countdown anew.
    pub fn feed(&self) {
        // The device may refuse; then it fires, which is what a broken watchdog should do.
        let _ = rustix::io::write(&self.fd, b"\0");
    }

    /// The last reset was this watchdog's, as far as its driver can tell.
    pub fn made_the_last_reset(&self) -> bool {
        let mut status = [0; 4];
        sys::ioctl_buffer(self.fd.as_fd(), GET_BOOT_STATUS, &mut status).is_ok()
            && u32::from_ne_bytes(status) & CARD_RESET != 0
    }

    /// Keeps the descriptor open across exec; returns what goes into the environment.
    pub fn hand_over(&self) -> String {
        let _ = rustix::io::fcntl_setfd(&self.fd, rustix::io::FdFlags::empty());
        [HANDED, "=", &self.fd.as_raw_fd().to_string()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Broadcom power manager counts 1/65536 s in 20 bits (Linux
    /// drivers/watchdog/bcm2835_wdt.c: `SECS_TO_WDOG_TICKS`, `PM_WDOG_TIME_SET`).
    fn bcm2835_ticks(seconds: u32) -> u64 {
        (u64::from(seconds) << 16) & 0xF_FFFF
    }

    #[test]
    fn three_feedings_may_be_lost() {
        for granted in [1, 15, 30, 60, 3600] {
            let interval = feeding_interval(granted);
            assert!(interval > 0 && interval * 4 <= u64::from(granted) * 1000);
        }
        assert_eq!(feeding_interval(15), 3750);
        assert_eq!(feeding_interval(0), 250, "a driver that does not say");
    }

    #[test]
    fn the_broadcom_counter_holds_fifteen_seconds_and_not_sixteen() {
        assert_eq!(bcm2835_ticks(15), 15 << 16);
        // This is why board files with this watchdog say 15 at most: it would fire at once.
        assert_eq!(bcm2835_ticks(16), 0);
        let ticks_between_feedings = feeding_interval(15) * 65_536 / 1000;
        assert!(ticks_between_feedings * 3 < bcm2835_ticks(15));
    }

    #[test]
    fn what_is_no_watchdog_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Watchdog::arm(file.path().to_str().unwrap(), 15).unwrap_err().to_string();
        assert!(error.starts_with("watchdog ") && error.contains(file.path().to_str().unwrap()));
    }
}
