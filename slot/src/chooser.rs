//! Keeping the boot state where the board's loader reads it.
//!
//! A board's way to choose a slot is one implementation of [`Chooser`]; what the state means and
//! how it changes is the same everywhere, in [`crate::boot_state`].

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::boot_state::{newest, BootState, BLOB_SIZE};
use crate::error::io as io_error;
use crate::layout::{BOOT_STATE_OFFSETS, FIRMWARE};
use crate::medium::{Access, DeviceFolder, Medium, Partitions};
use crate::rpi::autoboot::Method;
use crate::rpi::Rpi;
use crate::{Error, Result};

/// Loads and stores the boot state.
pub trait Chooser {
    /// The state that the loader would go by now.
    fn load(&self) -> Result<BootState>;

    /// Makes `state` the one that the loader goes by, and returns when it is on the medium. A
    /// power cut at any moment leaves the old state or the new one. Sets `generation`.
    fn store(&self, state: &mut BootState) -> Result<()>;

    /// Where the firmware cannot read the state: what it boots by itself is made to follow
    /// `state`, which is stored. Writes nothing where it does already.
    fn follow(&self, _state: &BootState) -> Result<()> {
        Ok(())
    }
}

/// The chooser of this name (`uboot`, `efi`, `rpi`, `rpi-tryboot`), keeping its state on the disk whose partitions are linked
/// in the folder `devices`.
pub fn open(name: &str, devices: &Path) -> Result<Box<dyn Chooser>> {
    open_on(name, DeviceFolder::shared(devices))
}

/// As [`open`], on partitions that may be a test's.
pub fn open_on(name: &str, partitions: Arc<dyn Partitions>) -> Result<Box<dyn Chooser>> {
    match name {
        // They differ in what reads the state before the kernel starts.
        "uboot" | "efi" => Ok(Box::new(Redundant::new(partitions))),
        "rpi" => Ok(Box::new(Rpi::new(partitions, Method::Pointer))),
        "rpi-tryboot" => Ok(Box::new(Rpi::new(partitions, Method::Tryboot))),
        _ => Err(Error::new(
            ["no boot chooser is named `", name, "`; there are: uboot, efi, rpi, rpi-tryboot"]
                .concat(),
        )),
    }
}

/// Loads the state, lets `change` change it, and stores it if it did, all under one lock so that
/// `init` and `ota` never undo each other.
pub fn update(
    chooser: &dyn Chooser,
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
        chooser.follow(&state)?;
    }
    Ok(state)
}

/// Two U-Boot environment blobs in the reserved sectors of the `firmware` partition. The newer
/// valid one rules; a store overwrites the other one, one sector, and flushes it.
#[derive(Debug, Clone)]
pub struct Redundant {
    partitions: Arc<dyn Partitions>,
}

impl Redundant {
    /// A chooser whose state lies on the `firmware` partition of these.
    pub fn new(partitions: Arc<dyn Partitions>) -> Self {
        Redundant { partitions }
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

    fn read_copies(&self, medium: &dyn Medium) -> Result<[[u8; BLOB_SIZE]; 2]> {
        let mut copies = [[0; BLOB_SIZE]; 2];
        for (copy, offset) in copies.iter_mut().zip(BOOT_STATE_OFFSETS) {
            medium.read_at(offset, copy).map_err(|e| self.error(&e))?;
        }
        Ok(copies)
    }
}

impl Chooser for Redundant {
    /// Falls to [`BootState::fresh`] when neither copy is valid, as `boot.scr` does.
    fn load(&self) -> Result<BootState> {
        Ok(self.load_valid()?.unwrap_or_else(BootState::fresh))
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
    use crate::Slot;

    fn partition() -> (tempfile::TempDir, Redundant) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FIRMWARE), vec![0; 65536]).unwrap();
        let chooser = Redundant::new(DeviceFolder::shared(dir.path()));
        (dir, chooser)
    }

    fn content(chooser: &Redundant) -> Vec<u8> {
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

    #[test]
    fn an_unknown_chooser_is_named() {
        let error = open("grub", Path::new("/x")).err().unwrap().to_string();
        assert!(error.contains("grub") && error.contains("uboot"), "{error}");
    }
}
