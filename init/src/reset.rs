//! Giving up: the reason where the next boot finds it, then a reset.

use std::path::Path;
use std::time::Duration;

use formats::boot_chooser;
use formats::boot_state::BootState;
use formats::boot_state_store::{self, Running};
use formats::{Result, layout};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::system::{RebootCommand, reboot};

use crate::console::{self, say};
use crate::sys::{self, Forked};

/// So long PID 1 waits until the reason for its reset is written down: ten seconds, in polls.
const NOTE_POLL: Duration = Duration::from_millis(10);
const NOTE_POLLS: u32 = 1_000;

/// Notes in the boot state that the boot failed, and why. A forked process does it, which is not waited
/// for longer than a medium in order takes. What fails here is only worth a line: the reset comes
/// anyway.
pub fn note_in_time(chooser: &str, running: Running, reason: &str) {
    match sys::fork(None) {
        Ok(Forked::Child) => {
            let noted = note(chooser, running, reason).map_err(|e| e.within("boot state"));
            if let Err(e) = &noted {
                say(&[&e.to_string()]);
                console::flush();
            }
            sys::exit(i32::from(noted.is_err()))
        }
        Ok(Forked::Parent(pid)) => {
            if !ends_within(pid, NOTE_POLLS) {
                say(&["boot state: its medium does not answer; the reason is not noted"]);
            }
        }
        Err(e) => say(&["cannot fork: ", &e.to_string()]),
    }
}

fn note(chooser: &str, running: Running, reason: &str) -> Result<()> {
    let store = boot_chooser::open(chooser, Path::new(layout::DEVICES), running)?;
    let change = |state: &mut BootState| state.note_failure(running.0, reason);
    boot_state_store::update(&*store, Path::new(layout::RUN_BOOT_STATE_LOCK), change).map(drop)
}

/// Whether a child ends in time; takes it if it does.
fn ends_within(pid: Pid, polls: u32) -> bool {
    for _ in 0..polls {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(None) | Err(Errno::INTR) => std::thread::sleep(NOTE_POLL),
            Ok(Some(_)) | Err(_) => return true,
        }
    }
    false
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

/// A bug in PID 1 ends in a line, a note and a reset, never in a kernel panic without a cause. `booted`
/// is the chooser and what runs, once they are known: the note makes it a known failure.
pub fn reset_on_panic(booted: Option<(String, Running)>) {
    std::panic::set_hook(Box::new(move |info| {
        if std::process::id() != 1 {
            sys::exit(70);
        }
        let place = info.location().map_or("", |at| at.file());
        let line = info.location().map_or(0, |at| at.line()).to_string();
        let bug = ["init has a bug at ", place, ":", &line].concat();
        say(&[&bug, "; resetting"]);
        if let Some((chooser, running)) = &booted {
            note_in_time(chooser, *running, &bug);
        }
        reset();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_does_not_get_written_does_not_hold_the_reset_up() {
        let start = |program: &str, argument| {
            std::process::Command::new(program).arg(argument).spawn().unwrap()
        };
        let mut hangs = start("sleep", "600");
        assert!(!ends_within(Pid::from_child(&hangs), 5));
        hangs.kill().unwrap();
        hangs.wait().unwrap();
        let mut ends = start("sleep", "0");
        assert!(ends_within(Pid::from_child(&ends), NOTE_POLLS));
        let _ = ends.wait();
    }
}
