//! Keeping the boot state where the board's loader reads it.
//!
//! A board's way to choose a slot is one implementation of [`BootStateStore`]; what the state means and
//! how it changes is the same everywhere, in [`crate::boot_state`]. [`crate::boot_chooser`] knows them by
//! name.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::boot_state::{BLOB_SIZE, Boot, BootState, newest};
use crate::error::io as io_error;
use crate::layout::{BOOT_STATE_OFFSETS, FIRMWARE};
use crate::medium::{Access, Medium, Partitions};
use crate::{Error, Result, Slot};

/// Loads and stores the boot state.
pub trait BootStateStore {
    /// The state that the loader would go by now.
    fn load(&self) -> Result<BootState>;

    /// Makes `state` the one that the loader goes by, and returns when it is on the medium. A
    /// power cut at any moment leaves the old state or the new one. Sets `generation`.
    fn store(&self, state: &mut BootState) -> Result<()>;

    /// Where the firmware cannot read the state: what it boots by itself is made to follow
    /// `state`, which is stored. Writes nothing where it does already.
    fn sync_firmware(&self, _state: &BootState) -> Result<()> {
        Ok(())
    }
}

/// What runs, and as what it was booted: what a state that was lost meanwhile is made from.
pub type Running = (Slot, Boot);

/// Loads the state, lets `change` change it, and stores it if it did, all under one lock so that
/// `init` and `ota` never undo each other.
pub fn update(
    chooser: &dyn BootStateStore,
    lock: &Path,
    change: impl FnOnce(&mut BootState),
) -> Result<BootState> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock)
        .map_err(|e| io_error(lock, &e))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|e| io_error(lock, &e.into()))?;
    let mut state = chooser.load()?;
    let before = state.clone();
    change(&mut state);
    if state != before {
        chooser.store(&mut state)?;
    } else {
        chooser.sync_firmware(&state)?;
    }
    Ok(state)
}

/// Two U-Boot environment blobs in the reserved sectors of the `firmware` partition. The newer
/// valid one rules; a store overwrites the other one, one sector, and flushes it. A copy that the
/// medium does not give back counts as invalid, so it is the next to be written.
#[derive(Debug, Clone)]
pub struct RedundantStore {
    partitions: Arc<dyn Partitions>,
    running: Option<Running>,
}

impl RedundantStore {
    /// A chooser whose state lies on the `firmware` partition of these.
    pub fn new(partitions: Arc<dyn Partitions>) -> Self {
        RedundantStore { partitions, running: None }
    }

    /// The same, on a device that runs already.
    #[must_use]
    pub fn while_running(self, running: Running) -> Self {
        RedundantStore { running: Some(running), ..self }
    }

    /// The state that rules; `None` when neither copy is valid.
    pub fn load_valid(&self) -> Result<Option<BootState>> {
        let [a, b] = self.read_copies(&*self.open(Access::Read)?)?;
        Ok(newest([&a, &b]).map(|(_, state)| state))
    }

    fn error(&self, error: &io::Error) -> Error {
        io_error(&self.partitions.path(FIRMWARE), error)
    }

    fn open(&self, access: Access) -> Result<Box<dyn Medium>> {
        self.partitions.open(FIRMWARE, access).map_err(|e| self.error(&e))
    }

    /// Both copies; zeros for one that cannot be read. Fails when neither can and nothing runs: then
    /// nobody knows what they say. While a slot runs, both count as lost: writing one makes the medium
    /// put another sector in its place, and should the other come back, its generation rules.
    fn read_copies(&self, medium: &dyn Medium) -> Result<[[u8; BLOB_SIZE]; 2]> {
        let mut failures = Vec::new();
        let copies = BOOT_STATE_OFFSETS.map(|offset| {
            let mut copy = [0; BLOB_SIZE];
            medium.read_at(offset, &mut copy).map(|()| copy).unwrap_or_else(|error| {
                failures.push(error);
                [0; BLOB_SIZE]
            })
        });
        match &failures[..] {
            [error, _] if self.running.is_none() => Err(self.error(error)),
            _ => Ok(copies),
        }
    }
}

impl BootStateStore for RedundantStore {
    /// When neither copy is valid: what runs is to go on ([`BootState::lost`]); nothing running, a
    /// fresh state.
    fn load(&self) -> Result<BootState> {
        Ok(self.load_valid()?.unwrap_or_else(|| match self.running {
            Some((slot, boot)) => BootState::lost(slot, boot),
            None => BootState::fresh(),
        }))
    }

    fn store(&self, state: &mut BootState) -> Result<()> {
        let medium = self.open(Access::Write)?;
        let [a, b] = self.read_copies(&*medium)?;
        let (target, generation) = match newest([&a, &b]) {
            Some((ruling, old)) => (1 - ruling, old.generation.wrapping_add(1)),
            None => (0, 1),
        };
        state.generation = generation;
        medium
            .write_at(BOOT_STATE_OFFSETS[target], &state.to_blob())
            .and_then(|()| medium.flush())
            .map_err(|e| self.error(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::DeviceFolder;
    use std::path::PathBuf;

    /// A partition that does not give these sectors back until they are written.
    #[derive(Debug)]
    struct BadSectors {
        firmware: std::sync::Mutex<Vec<u8>>,
        bad: std::sync::Mutex<Vec<u64>>,
    }

    #[derive(Debug, Clone)]
    struct BadDisk(Arc<BadSectors>);

    impl Partitions for BadDisk {
        fn open(&self, _: &str, _: Access) -> io::Result<Box<dyn Medium>> {
            Ok(Box::new(self.clone()))
        }

        fn path(&self, label: &str) -> PathBuf {
            label.into()
        }
    }

    impl Medium for BadDisk {
        fn size(&self) -> u64 {
            self.0.firmware.lock().unwrap().len() as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            if self.0.bad.lock().unwrap().contains(&offset) {
                return Err(rustix::io::Errno::IO.into());
            }
            let from = offset as usize;
            buffer.copy_from_slice(&self.0.firmware.lock().unwrap()[from..from + buffer.len()]);
            Ok(())
        }

        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.bad.lock().unwrap().retain(|bad| *bad != offset);
            let from = offset as usize;
            self.0.firmware.lock().unwrap()[from..from + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }

        fn forget_cached(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn disk_with_bad_sectors(bad: &[u64], state: &BootState) -> (BadDisk, RedundantStore) {
        let mut firmware = vec![0; 65536];
        for offset in BOOT_STATE_OFFSETS {
            firmware[offset as usize..][..BLOB_SIZE].copy_from_slice(&state.to_blob());
        }
        let disk =
            BadDisk(Arc::new(BadSectors { firmware: firmware.into(), bad: bad.to_vec().into() }));
        (disk.clone(), RedundantStore::new(Arc::new(disk)))
    }

    #[test]
    fn an_unreadable_copy_is_an_invalid_one_and_the_next_write_repairs_it() {
        for bad in BOOT_STATE_OFFSETS {
            let ruling = BootState { active: Slot::B, generation: 7, ..BootState::fresh() };
            let (disk, chooser) = disk_with_bad_sectors(&[bad], &ruling);
            let mut state = chooser.load().unwrap();
            assert_eq!(state, ruling);
            chooser.store(&mut state).unwrap();
            assert!(disk.0.bad.lock().unwrap().is_empty());
            assert_eq!(chooser.load().unwrap(), BootState { generation: 8, ..ruling });
        }
        let (_, chooser) = disk_with_bad_sectors(&BOOT_STATE_OFFSETS, &BootState::fresh());
        assert!(chooser.load().is_err() && chooser.store(&mut BootState::fresh()).is_err());
        let chooser = chooser.while_running((Slot::B, Boot::Active));
        let mut state = chooser.load().unwrap();
        assert_eq!(state.active, Slot::B);
        chooser.store(&mut state).unwrap();
        assert_eq!(chooser.load().unwrap(), state);
    }

    #[test]
    fn a_state_lost_while_a_slot_runs_keeps_that_slot() {
        let (dir, chooser) = partition();
        let chooser = chooser.while_running((Slot::B, Boot::Active));
        let state = update(&chooser, &dir.path().join("lock"), |s| s.settle(Slot::B)).unwrap();
        assert_eq!((state.active, state.fallback), (Slot::B, None));
        let stored = RedundantStore { running: None, ..chooser };
        assert_eq!(stored.load_valid().unwrap().map(|state| state.next().0), Some(Slot::B));
    }

    fn partition() -> (tempfile::TempDir, RedundantStore) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FIRMWARE), vec![0; 65536]).unwrap();
        let chooser = RedundantStore::new(DeviceFolder::shared(dir.path()));
        (dir, chooser)
    }

    fn content(chooser: &RedundantStore) -> Vec<u8> {
        std::fs::read(chooser.partitions.path(FIRMWARE)).unwrap()
    }

    #[test]
    fn a_store_never_touches_the_ruling_copy() {
        let (_dir, chooser) = partition();
        let mut state = BootState::fresh();
        for round in 0..5u8 {
            let before = content(&chooser);
            state.strikes = round;
            chooser.store(&mut state).unwrap();
            let after = content(&chooser);
            let changed: Vec<_> = (0..after.len())
                .filter(|at| before[*at] != after[*at])
                .map(|at| at / BLOB_SIZE)
                .collect();
            let expected = BOOT_STATE_OFFSETS[usize::from(round % 2)] as usize / BLOB_SIZE;
            assert!(changed.iter().all(|sector| *sector == expected));
            assert_eq!(chooser.load().unwrap(), state);
        }
    }

    #[test]
    fn an_update_without_a_change_writes_nothing() {
        let (dir, chooser) = partition();
        let before = content(&chooser);
        update(&chooser, &dir.path().join("lock"), |_| {}).unwrap();
        assert_eq!(content(&chooser), before);
        let lock = dir.path().join("lock");
        let state = update(&chooser, &lock, |s| s.arm(Slot::B, 3)).unwrap();
        assert_eq!(chooser.load().unwrap(), state);
    }
}
