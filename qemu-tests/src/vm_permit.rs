//! At most two machines at a time, over all test processes: more of them on few processors only
//! run into each other's timeouts.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::locked::Locked;

const PERMITS: usize = 2;

/// The right to run one machine, given back when dropped (or when the process ends).
#[derive(Debug)]
pub struct VmPermit {
    _lock: Locked,
}

impl VmPermit {
    /// Waits for a free permit; the locks lie in `folder`.
    pub fn take(folder: &Path) -> Result<VmPermit> {
        loop {
            for number in 0..PERMITS {
                if let Some(permit) = VmPermit::try_take(folder, number)? {
                    return Ok(permit);
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn try_take(folder: &Path, number: usize) -> Result<Option<VmPermit>> {
        let lock = Locked::if_free(&folder.join(format!("permit-{number}")))?;
        Ok(lock.map(|lock| VmPermit { _lock: lock }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_seat_is_taken_until_it_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = VmPermit::try_take(dir.path(), 0).unwrap();
        assert!(first.is_some());
        assert!(VmPermit::try_take(dir.path(), 0).unwrap().is_none());
        let second = VmPermit::take(dir.path()).unwrap();
        drop(first);
        assert!(VmPermit::try_take(dir.path(), 0).unwrap().is_some());
        drop(second);
    }
}
