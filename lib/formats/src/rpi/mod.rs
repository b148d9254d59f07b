//! The Raspberry Pi's way to choose: its firmware reads `autoboot.txt` and nothing else, so the
//! initrd of `init` chooses and points that file to its choice. docs/choosers/rpi.md tells
//! the whole of it.
//!
//! The boot state is the same as with every other chooser and rules; `autoboot.txt` follows it.

use std::sync::Arc;

use crate::boot_state::BootState;
use crate::boot_state_store::{BootStateStore, RedundantStore, Running};
use crate::layout::{FIRMWARE, SECTOR};
use crate::medium::{Access, Partitions};
use crate::{Error, Result, Slot};

pub mod autoboot;
mod fat_sector;
pub mod plan;

use autoboot::Method;
use plan::Write;

/// Kernel argument that says which boot partition the kernel came from: the serial number of its
/// FAT volume, in hexadecimal. Both slots' partitions may have the same bytes, so a letter cannot
/// stand there.
pub const BOOT_VOLUME: &str = "ferrite.boot=";

/// The boot state, and `autoboot.txt` behind it.
#[derive(Debug, Clone)]
pub struct Rpi {
    state: RedundantStore,
    partitions: Arc<dyn Partitions>,
    method: Method,
}

impl Rpi {
    /// A chooser on these partitions.
    pub fn new(partitions: Arc<dyn Partitions>, method: Method) -> Rpi {
        Rpi { state: RedundantStore::new(partitions.clone()), partitions, method }
    }

    /// The same, on a device that runs already.
    #[must_use]
    pub fn while_running(self, running: Running) -> Rpi {
        Rpi { state: self.state.while_running(running), ..self }
    }

    /// How it boots a slot once.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The state; `None` when both copies are spoilt.
    pub fn state(&self) -> Result<Option<BootState>> {
        self.state.load_valid()
    }

    /// Where `autoboot.txt` points; `None` when it says nothing that we would have written.
    pub fn pointer(&self) -> Result<Option<Slot>> {
        let medium = self.partitions.open(FIRMWARE, Access::Read).map_err(|e| self.error(&e))?;
        let mut sector = [0; SECTOR as usize];
        let at = self.place(&*medium)?;
        medium.read_at(at, &mut sector).map_err(|e| self.error(&e))?;
        Ok(autoboot::read(self.method, &sector))
    }

    /// The slot whose boot partition has the serial number that the kernel's arguments name.
    /// Where both have it they are the same, and the slot that `autoboot.txt` names is meant.
    pub fn running(&self, cmdline: &str, pointer: Option<Slot>) -> Result<Slot> {
        let named = cmdline
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(BOOT_VOLUME))
            .filter(|number| number.len() == 8)
            .and_then(|number| u32::from_str_radix(number, 16).ok())
            .ok_or_else(|| {
                Error::new(["the kernel arguments lack ", BOOT_VOLUME, "XXXXXXXX"].concat())
            })?;
        let serial = |slot: Slot| {
            let medium = self.partitions.open(slot.boot_label(), Access::Read).ok()?;
            fat_sector::serial(&*medium).ok()
        };
        let is = |slot: &Slot| serial(*slot) == Some(named);
        let likely = pointer.unwrap_or(Slot::A);
        [likely, likely.other()].into_iter().find(is).ok_or_else(|| {
            Error::new("neither boot-a nor boot-b is what this kernel was started from")
        })
    }

    /// Carries out one write of a plan, and returns when it is on the medium.
    pub fn write(&self, write: &Write) -> Result<()> {
        match write {
            Write::State(state) => self.state.store(&mut state.clone()),
            Write::Pointer(slot) => self.point(*slot),
        }
    }

    /// Overwrites the one sector of `autoboot.txt`, flushes it and reads it back.
    fn point(&self, slot: Slot) -> Result<()> {
        let medium = self.partitions.open(FIRMWARE, Access::Write).map_err(|e| self.error(&e))?;
        let at = self.place(&*medium)?;
        let sector = autoboot::sector(self.method, slot);
        let mut written = [0; SECTOR as usize];
        medium
            .write_at(at, &sector)
            .and_then(|()| medium.flush())
            .and_then(|()| medium.forget_cached())
            .and_then(|()| medium.read_at(at, &mut written))
            .map_err(|e| self.error(&e))?;
        if written != sector {
            return Err(Error::new("autoboot.txt: the medium did not keep what was written"));
        }
        Ok(())
    }

    fn place(&self, medium: &dyn crate::medium::Medium) -> Result<u64> {
        let length = autoboot::text(self.method, Slot::A).len() as u64;
        fat_sector::find(medium, length).map_err(|e| e.within(FIRMWARE))
    }

    fn error(&self, error: &std::io::Error) -> Error {
        crate::error::io(&self.partitions.path(FIRMWARE), error)
    }
}

impl BootStateStore for Rpi {
    fn load(&self) -> Result<BootState> {
        self.state.load()
    }

    /// The state first: it rules, and the initrd points `autoboot.txt` where it says. A power
    /// cut between the two costs one more reset.
    fn store(&self, state: &mut BootState) -> Result<()> {
        self.state.store(state)?;
        self.sync_firmware(state)
    }

    fn sync_firmware(&self, state: &BootState) -> Result<()> {
        let slot = plan::resting(state);
        if self.pointer()? == Some(slot) {
            return Ok(());
        }
        self.point(slot)
    }
}

#[cfg(test)]
mod tests;
