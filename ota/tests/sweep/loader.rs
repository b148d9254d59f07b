//! Who chooses the slot after a reset: U-Boot's script, our EFI program, or a Raspberry Pi's firmware together with
//! the initrd of `init`. The rules are those of docs/choosers/; what writes is the real code
//! where it is code of ours.

use std::sync::Arc;

use formats::Slot;
use formats::boot_state::{BLOB_SIZE, Boot};
use formats::boot_state_store::{BootStateStore, RedundantStore};
use formats::layout::{BOOT_STATE_OFFSETS, FIRMWARE, SECTOR};
use formats::loader::{self, Started};
use formats::medium::{Access, Partitions};
use formats::rpi::Rpi;
use formats::rpi::autoboot::{self, Method};
use formats::rpi::plan::{Found, Then, plan};

use crate::board::boot_state;
use crate::disk::{Disk, Image};

/// Sectors of `firmware` up to the file in the volume that [`Loader::firmware`] makes: reserved
/// ones, one of FAT, one of root directory.
const RPI_SECTORS: usize = 32 + 1 + 1;
/// Sectors of `firmware` on the other disks: nothing but the state is there, and the number tells
/// them apart.
const UBOOT_SECTORS: usize = 32;
const EFI_SECTORS: usize = 33;
/// More lives in a row than any choice takes.
const MOST_LIVES: usize = 4;

/// How a board's slot is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    Uboot,
    Efi,
    Rpi,
}

impl Loader {
    /// The one of the board that this disk belongs to.
    pub fn of(image: &Image) -> Loader {
        match image.partitions[FIRMWARE].len() / SECTOR as usize {
            UBOOT_SECTORS => Loader::Uboot,
            EFI_SECTORS => Loader::Efi,
            _ => Loader::Rpi,
        }
    }

    /// What `system.conf` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Loader::Uboot => "uboot",
            Loader::Efi => "efi",
            Loader::Rpi => "rpi",
        }
    }

    /// The `firmware` partition without a boot state.
    pub fn firmware(self) -> Vec<u8> {
        let sector = SECTOR as usize;
        match self {
            Loader::Uboot => return vec![0; UBOOT_SECTORS * sector],
            Loader::Efi => return vec![0; EFI_SECTORS * sector],
            Loader::Rpi => {}
        }
        let text = autoboot::text(Method::Pointer, Slot::A);
        let mut bytes = vec![0; RPI_SECTORS * sector];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(11, &(SECTOR as u16).to_le_bytes());
        put(13, &[1, 32, 0, 1, 16, 0]);
        put(22, &[1, 0]);
        put(510, &[0x55, 0xAA]);
        put(33 * sector, b"AUTOBOOTTXT\x20");
        put(33 * sector + 26, &[2, 0]);
        put(33 * sector + 28, &(text.len() as u32).to_le_bytes());
        bytes.extend(autoboot::sector(Method::Pointer, Slot::A));
        bytes
    }

    /// The chooser that `init` and `ota` use on it.
    pub fn chooser(self, partitions: Arc<dyn Partitions>) -> Box<dyn BootStateStore> {
        match self {
            Loader::Uboot | Loader::Efi => Box::new(RedundantStore::new(partitions)),
            Loader::Rpi => Box::new(Rpi::new(partitions, Method::Pointer)),
        }
    }

    /// The slot that a Raspberry Pi's firmware boots by itself; without a pointer the first one
    /// with firmware files.
    pub fn firmware_boots(self, image: &Image) -> Option<Slot> {
        (self == Loader::Rpi).then(|| {
            let sector = &image.partitions[FIRMWARE][RPI_SECTORS * SECTOR as usize..];
            autoboot::read(Method::Pointer, sector).unwrap_or(Slot::A)
        })
    }

    /// What happens after a reset until a slot goes on: which, and as what.
    pub fn reset(self, disk: &Disk) -> Result<(Slot, Boot), String> {
        match self {
            Loader::Uboot => uboot(disk),
            Loader::Efi => efi(disk),
            Loader::Rpi => rpi(disk),
        }
    }
}

/// What the script does (docs/choosers/uboot.md): counts, and starts a slot. Its write is not
/// flushed.
fn uboot(disk: &Disk) -> Result<(Slot, Boot), String> {
    let (ruling, mut state) =
        boot_state(&disk.image()).ok_or("both copies of the boot state are lost")?;
    let (slot, boot) = state.next();
    state.count(boot);
    state.generation += 1;
    let blob: [u8; BLOB_SIZE] = state.to_blob();
    let firmware = disk.open(FIRMWARE, Access::Write).map_err(|e| e.to_string())?;
    firmware.write_at(BOOT_STATE_OFFSETS[1 - ruling], &blob).map_err(|e| e.to_string())?;
    Ok((slot, boot))
}

/// The real choices of the EFI program, on this disk. Its flush is left out: not every firmware's
/// driver hands one on to the medium.
fn efi(disk: &Disk) -> Result<(Slot, Boot), String> {
    struct Board<'a>(&'a Disk);
    impl loader::Board for Board<'_> {
        fn read(&mut self, copy: usize) -> Option<[u8; BLOB_SIZE]> {
            let mut blob = [0; BLOB_SIZE];
            let firmware = self.0.open(FIRMWARE, Access::Read).ok()?;
            firmware.read_at(BOOT_STATE_OFFSETS[copy], &mut blob).ok().map(|()| blob)
        }

        fn write(&mut self, copy: usize, blob: &[u8; BLOB_SIZE]) -> bool {
            self.0
                .open(FIRMWARE, Access::Write)
                .and_then(|firmware| firmware.write_at(BOOT_STATE_OFFSETS[copy], blob))
                .is_ok()
        }

        fn start(&mut self, _: Slot, _: Boot) -> Started {
            Started::Yes
        }

        fn say(&mut self, _: &str) {}
    }
    boot_state(&disk.image()).ok_or("both copies of the boot state are lost")?;
    loader::choose(&mut Board(disk)).ok_or_else(|| "nothing can be started".to_owned())
}

/// Initrds, until one goes on (docs/choosers/rpi.md).
fn rpi(disk: &Disk) -> Result<(Slot, Boot), String> {
    let rpi = Rpi::new(Arc::new(disk.clone()), Method::Pointer);
    for _ in 0..MOST_LIVES {
        let running = Loader::Rpi.firmware_boots(&disk.image()).unwrap_or(Slot::A);
        let found = Found {
            method: Method::Pointer,
            state: rpi.state().map_err(|e| e.to_string())?,
            pointer: rpi.pointer().map_err(|e| e.to_string())?,
            running,
            flagged: false,
        };
        let plan = plan(&found).map_err(|e| e.to_string())?;
        for write in &plan.writes {
            rpi.write(write).map_err(|e| e.to_string())?;
        }
        if let Then::Boot(boot) = plan.then {
            return Ok((running, boot));
        }
    }
    Err(format!("no slot goes on after {MOST_LIVES} resets"))
}
