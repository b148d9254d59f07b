//! The hardware watchdog, as `boot.conf` and `system.conf` name it: `DEVICE SECONDS`.

use crate::conf::{self, Line, Writer};
use crate::{Result, key};

/// The longest time that a watchdog is armed for, in seconds.
pub const MAX_SECONDS: u32 = 3600;

/// A hardware watchdog and the time after which it resets the board unless it is fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watchdog {
    /// Its device node.
    pub device: String,
    /// From 1 to [`MAX_SECONDS`].
    pub seconds: u32,
}

impl Watchdog {
    /// The one that the lines of a file name, if they name one. A time out of bounds becomes the
    /// nearest one within.
    pub(crate) fn parse(lines: &[Line<'_>]) -> Result<Option<Watchdog>> {
        let Some(line) = conf::optional(lines, key::WATCHDOG)? else { return Ok(None) };
        let (device, seconds) =
            line.value.split_once(' ').ok_or_else(|| line.error("needs a device and seconds"))?;
        let seconds =
            conf::decimal(seconds).ok_or_else(|| line.error("seconds are not a number"))?;
        let seconds = seconds.clamp(1, MAX_SECONDS.into()) as u32;
        Ok(Some(Watchdog { device: device.to_string(), seconds }))
    }

    pub(crate) fn write(watchdog: Option<&Watchdog>, to: &mut Writer) {
        if let Some(Watchdog { device, seconds }) = watchdog {
            to.line(key::WATCHDOG, &[device, " ", &seconds.to_string()].concat());
        }
    }
}
