//! How much memory inputs may take.
//!
//! A workload that goes over its control group's limit is killed with all that it is doing, so no
//! input is begun that could lead there. What is left of the limit once the model runs is shared:
//! a quarter for inputs as they arrive, the rest for the one that is being decoded.

use crate::picture::Refusal;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

/// Where cgroup2 is mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// What every decoder may take, however little there is: a picture of common size, row by row.
const LEAST: u64 = 2 << 20;
/// What arriving inputs may take together in any case.
const LEAST_ARRIVING: u64 = 1 << 20;

/// The memory that inputs share.
pub struct Budget {
    limit: u64,
    room: Mutex<Option<Room>>,
    known: Condvar,
}

/// What is left for inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes for the decoding of one.
    pub decoding: u64,
    /// Bytes for all that arrive.
    pub arriving: u64,
}

impl Budget {
    /// Of this process's control group, of the whole machine, or of `most`, whichever is least.
    pub fn of_this_process(most: Option<u64>) -> Budget {
        let group = std::fs::read_to_string("/proc/self/cgroup").ok();
        let limits = group.iter().flat_map(|group| limits(Path::new(CGROUPS), group));
        let machine = std::fs::read_to_string("/proc/meminfo").ok();
        let machine = machine.and_then(|text| kibibytes(&text, "MemTotal:"));
        Budget::new(limits.chain(machine).chain(most).min().unwrap_or(u64::MAX))
    }

    fn new(limit: u64) -> Budget {
        Budget { limit, room: Mutex::new(None), known: Condvar::new() }
    }

    /// The model runs: what is in use now stays in use. `kept` are bytes of inputs that wait for the
    /// model, decoded.
    pub fn measure(&self, kept: u64) -> Room {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let room = room(self.limit, kibibytes(&status, "VmRSS:").unwrap_or(0), kept);
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = Some(room);
        self.known.notify_all();
        room
    }

    /// Whether something may be decoded that takes so many bytes. While the model is being loaded
    /// that is a quarter of the limit; who wants more waits until it is known what the model needs.
    pub fn admit(&self, bytes: u64) -> Result<(), Refusal> {
        if bytes <= LEAST || bytes <= self.limit / 4 && self.is_unknown() {
            return Ok(());
        }
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let most = loop {
            match *room {
                Some(room) => break room.decoding,
                None => room = self.known.wait(room).unwrap_or_else(PoisonError::into_inner),
            }
        };
        if bytes > most {
            return Err(Refusal::too_large(format!(
                "the picture takes {} MB of memory to decode, this device has {} MB for that",
                bytes.div_ceil(1 << 20),
                most >> 20
            )));
        }
        Ok(())
    }

    fn is_unknown(&self) -> bool {
        self.room.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// What inputs may take of `limit` when `used` is in use and `kept` must be kept free. An eighth
/// stays free for what is not counted: the kernel's buffers, the engine's growth, the allocator.
fn room(limit: u64, used: u64, kept: u64) -> Room {
    let free = limit.saturating_sub(limit / 8).saturating_sub(used).saturating_sub(kept);
    let arriving = (free / 4).max(LEAST_ARRIVING);
    Room { decoding: free.saturating_sub(arriving).max(LEAST), arriving }
}

/// The limits of the control group in `group` (`/proc/self/cgroup`) and of those around it.
fn limits(mount: &Path, group: &str) -> Vec<u64> {
    let Some(path) = group.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let folders: Vec<PathBuf> =
        Path::new(path).ancestors().map(|folder| mount.join(folder)).collect();
    let read = |folder: &PathBuf| std::fs::read_to_string(folder.join("memory.max")).ok();
    folders.iter().filter_map(read).filter_map(|text| text.trim().parse().ok()).collect()
}

/// The value of a line `KEY  N kB`, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_least_limit_around_counts() {
        let mount = tempfile::tempdir().unwrap();
        let group = mount.path().join("workload-face/inner");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("memory.max"), "max\n").unwrap();
        std::fs::write(mount.path().join("workload-face/memory.max"), "134217728\n").unwrap();
        assert_eq!(limits(mount.path(), "0::/workload-face/inner\n"), [134_217_728]);
        assert!(limits(mount.path(), "1:name=x:/workload-face\n").is_empty());
    }

    #[test]
    fn numbers_of_proc_are_read() {
        assert_eq!(kibibytes("VmPeak:\t 9 kB\nVmRSS:\t   2048 kB\n", "VmRSS:"), Some(2 << 20));
        assert_eq!(kibibytes("VmRSS:\t x kB\n", "VmRSS:"), None);
    }

    #[test]
    fn large_pictures_wait_until_the_model_is_there_and_are_then_judged() {
        let budget = std::sync::Arc::new(Budget::new(128 << 20));
        assert!(budget.admit(32 << 20).is_ok());
        let waiting = std::thread::spawn({
            let budget = std::sync::Arc::clone(&budget);
            move || budget.admit(120 << 20)
        });
        let room = budget.measure(0);
        assert!(waiting.join().unwrap().unwrap_err().too_large);
        assert!(budget.admit(room.decoding).is_ok() && budget.admit(room.decoding + 1).is_err());
        assert!(budget.admit(LEAST).is_ok());
    }

    proptest! {
        #[test]
        fn all_together_stays_below_the_limit(limit in 32u64..4096, used in 0u64..24, kept in 0u64..8) {
            let [limit, used, kept] = [limit, used, kept].map(|n| n << 20);
            let Room { decoding, arriving } = room(limit, used, kept);
            prop_assert!(used + kept + decoding + arriving <= limit + LEAST + LEAST_ARRIVING);
            if limit > 64 << 20 {
                prop_assert!(used + kept + decoding + arriving <= limit - limit / 8);
            }
        }
    }
}
