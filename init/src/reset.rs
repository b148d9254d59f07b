//! Giving up: the reason where the next boot finds it, then a reset.

use std::path::Path;
use std::time::Duration;

use formats::boot_state::{BootState, note_text};
use formats::boot_state_store::{self, BootStateStore};
use formats::{Slot, layout};
use rustix::system::{RebootCommand, reboot};

use crate::console::{self, say};
use crate::sys;

/// Notes `reason` in the boot state, and that the boot failed. What fails here is only worth a
/// line: the reset comes anyway.
pub fn note(chooser: &dyn BootStateStore, slot: Slot, reason: &str) {
    let text = note_text(&[slot.letter(), ":", reason].concat());
    let lock = Path::new(layout::RUN_BOOT_STATE_LOCK);
    let change = |state: &mut BootState| {
        state.note = text;
        state.record_failure(slot);
    };
    if let Err(e) = boot_state_store::update(chooser, lock, change) {
        say(&["boot state: ", &e.to_string()]);
    }
}

/// Resets the board; does not return. What has to be on the disk has been flushed before: a sync
/// here could hang on the very medium that is the reason for the reset.
pub fn reset() -> ! {
    console::flush();
    // A serial line needs a moment for its last characters.
    std::thread::sleep(Duration::from_millis(50));
    console::flush();
    loop {
        let _ = reboot(RebootCommand::Restart);
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// As [`reset`], with Raspberry Pi's flag that makes its firmware boot the other slot once: the
/// argument of `reboot "0 tryboot"`. A kernel that knows no arguments resets without the flag, and
/// the try counts as failed.
pub fn reset_with_flag() -> ! {
    console::flush();
    std::thread::sleep(Duration::from_millis(50));
    console::flush();
    let _ = sys::restart_with(c"0 tryboot");
    reset()
}

/// A bug in PID 1 ends in a line and a reset, never in a kernel panic without a cause.
pub fn reset_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        if std::process::id() != 1 {
            sys::exit(70);
        }
        let place = info.location().map_or("", |at| at.file());
        let line = info.location().map_or(0, |at| at.line()).to_string();
        say(&["init has a bug at ", place, ":", &line, "; resetting"]);
        reset();
    }));
}
