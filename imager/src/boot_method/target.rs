//! What a boot method has to know of a board.

use crate::config::board::loader::{BoardFirmware, BootMemory};
use crate::config::board::machine::{Architecture, Firmware, Watchdog};
use crate::config::values::Line;

/// A board, as a boot method sees it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its name.
    pub board: &'a str,
    /// Its processor.
    pub architecture: Architecture,
    /// The kernel's arguments.
    pub kernel_arguments: &'a str,
    /// What `uname -r` says.
    pub kernel_release: &'a str,
    /// Its watchdog, if it has one.
    pub watchdog: Option<&'a Watchdog>,
    /// `[boot] config`.
    pub config: &'a [Line],
    /// `[boot.memory]`.
    pub memory: Option<&'a BootMemory>,
    /// `[boot.firmware]`.
    pub firmware: Option<&'a BoardFirmware>,
    /// `[boot.stub]`.
    pub stub: Option<&'a Firmware>,
}
