//! Ctrl-C while a medium is being written: heard between two pieces, so that the last line on the
//! terminal says what state the medium is in.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on INT, TERM and HUP only set a flag; a second one ends the process at once.
///
/// Has to be called before other threads are started: they inherit that the signals wait.
pub fn listen() {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    if set.thread_block().is_err() {
        return;
    }
    std::thread::spawn(move || {
        while set.wait().is_ok() {
            if ASKED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("\nimager: stopping after this piece; once more to stop at once");
        }
    });
}

/// Fails when the user wants to stop.
pub fn check() -> Result<()> {
    if ASKED.load(Ordering::SeqCst) {
        bail!("stopped by a signal");
    }
    Ok(())
}
