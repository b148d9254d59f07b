//! What the workloads that go first will need in a moment. A helper does it on another processor
//! while PID 1 sets up the rest; nobody waits for it, and all of it only saves time.

use std::fs::File;
use std::num::NonZeroU64;

use rustix::fs::{fadvise, Advice};
use slot::Result;

use crate::network;

/// In a helper: lets the kernel read and verify the files at `paths`, in this order, and switches
/// the loopback on, which takes longer than a program takes to start.
pub fn work<'a>(paths: impl Iterator<Item = &'a str>) -> Result<()> {
    paths.for_each(read);
    network::switch_loopback_on()
}

/// Whoever runs the file says what is wrong with it.
fn read(path: &str) {
    let Ok(file) = File::open(path) else { return };
    let length = file.metadata().ok().and_then(|about| NonZeroU64::new(about.len()));
    let _ = fadvise(&file, 0, length, Advice::WillNeed);
}
