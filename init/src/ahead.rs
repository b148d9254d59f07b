//! What the workloads that go first will need in a moment. A helper does it on another processor
//! while PID 1 sets up the rest; nobody waits for it, and all of it only saves time.

use std::fs::File;
use std::num::NonZeroU64;

use rustix::fs::{fadvise, Advice};
use slot::Result;

use crate::network;

/// In a helper: lets the kernel read and verify the files at `paths`, in this order. After the
/// first one, a program, it switches the loopback on: what is started may want to listen there.
pub fn work(paths: &[String]) -> Result<()> {
    let (program, needed) = paths.split_at(paths.len().min(1));
    program.iter().for_each(|path| read(path));
    let switched = network::switch_loopback_on();
    needed.iter().for_each(|path| read(path));
    switched
}

/// Whoever runs the file says what is wrong with it.
fn read(path: &str) {
    let Ok(file) = File::open(path) else { return };
    let length = file.metadata().ok().and_then(|about| NonZeroU64::new(about.len()));
    let _ = fadvise(&file, 0, length, Advice::WillNeed);
}
