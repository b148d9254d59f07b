//! At most two machines at a time, over all test processes: more of them on few processors only
//! run into each other's timeouts.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::locked::Locked;

const SEATS: usize = 2;

/// The right to run one machine, given back when dropped (or when the process ends).
#[derive(Debug)]
pub struct Seat {
    _lock: Locked,
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
        let lock = Locked::if_free(&folder.join(format!("seat-{number}")))?;
        Ok(lock.map(|lock| Seat { _lock: lock }))
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
