//! What the workloads that go first will need in a moment. A helper does it on another processor
//! while PID 1 sets up the rest; nobody waits for it, and all of it only saves time.

use std::fs::File;
use std::num::NonZeroU64;

use formats::Result;
use rustix::fs::{Advice, fadvise};

use crate::network;

/// Bytes that are read ahead, at most: a device with 64 MiB of memory needs the rest itself.
const MOST: u64 = 16 << 20;

/// In a helper: lets the kernel read and verify the files at `paths`, in this order. After the
/// first one, a program, it switches the loopback on: what is started may want to listen there.
pub fn work(paths: &[String]) -> Result<()> {
    let (program, needed) = paths.split_at(paths.len().min(1));
    let left = read(program, MOST);
    let switched = network::switch_loopback_on();
    read(needed, left);
    switched
}

/// Asks for the files at `paths` until `most` bytes are asked for; returns what is left of these.
/// Whoever uses a file says what is wrong with it.
fn read(paths: &[String], most: u64) -> u64 {
    let mut left = most;
    for file in paths.iter().filter_map(|path| File::open(path).ok()) {
        let length = file.metadata().map_or(0, |about| about.len()).min(left);
        if let Some(some) = NonZeroU64::new(length) {
            let _ = fadvise(&file, 0, Some(some), Advice::WillNeed);
        }
        left -= length;
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_asked_for_than_there_is_room_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("a"), [1; 5000]).unwrap();
        std::fs::write(path("b"), [1; 300]).unwrap();
        assert_eq!(read(&[path("a"), path("missing"), path("b")], 10_000), 4_700);
        assert_eq!(read(&[path("a"), path("b")], 5_100), 0);
        assert_eq!(read(&[], 7), 7);
    }
}
