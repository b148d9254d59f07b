//! At most two machines at a time, over all test processes: more of them on few processors only
//! run into each other's timeouts.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{flock, FlockOperation};

const SEATS: usize = 2;

/// The right to run one machine, given back when dropped (or when the process ends).
#[derive(Debug)]
pub struct Seat {
    _lock: File,
}

impl Seat {
    /// Waits for a free seat; the locks lie in `folder`.
    pub fn take(folder: &Path) -> Result<Seat> {
        loop {
            for number in 0..SEATS {
                if let Some(seat) = Seat::try_take(folder, number)? {
                    return Ok(seat);
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn try_take(folder: &Path, number: usize) -> Result<Option<Seat>> {
        let path = folder.join(format!("seat-{number}"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("{} cannot be opened", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Seat { _lock: file })),
            Err(e) if e == rustix::io::Errno::WOULDBLOCK => Ok(None),
            Err(e) => Err(e).with_context(|| format!("{} cannot be locked", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_seat_is_taken_until_it_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = Seat::try_take(dir.path(), 0).unwrap();
        assert!(first.is_some());
        assert!(Seat::try_take(dir.path(), 0).unwrap().is_none());
        let second = Seat::take(dir.path()).unwrap();
        drop(first);
        assert!(Seat::try_take(dir.path(), 0).unwrap().is_some());
        drop(second);
    }
}
