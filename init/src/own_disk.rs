//! The disk that this kernel was started from: waited for, and no other one used. Which one that is
//! says `slot::origin`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};
use slot::chooser::Redundant;
use slot::disk::{self, Disk, DiskNodes};
use slot::gpt::{self, Guid};
use slot::layout::SECTOR;
use slot::origin::{self, Candidate};
use slot::rpi::autoboot::Method;
use slot::rpi::Rpi;
use slot::{Error, Result};

use crate::choosing::Choice;
use crate::console::say;
use crate::uptime;

/// How long the disk may take to appear, in milliseconds: a slow SD card needs about two seconds.
const DISK_PATIENCE: u64 = 15_000;
/// How long a better one than what is there may take, in milliseconds: less than the watchdog's
/// time, which nobody feeds meanwhile.
const BETTER_DISK_PATIENCE: u64 = 10_000;
const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";
/// What systemd's stub says of the partition that it was loaded from (systemd-stub(7), "EFI
/// variables"): a volatile variable, set by the slot's own signed image.
const STUB_PARTITION: &str =
    "/sys/firmware/efi/efivars/StubDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// More than a GUID takes, in bytes.
const MAX_VARIABLE: u64 = 256;
/// The way a Raspberry Pi was booted: a big-endian number (Raspberry Pi documentation, "Common
/// bootloader properties").
const BOOT_MODE: &str = "/proc/device-tree/chosen/bootloader/boot-mode";

/// What is known of the disk.
pub enum Told<'a> {
    /// A loader chose, counted, and may have named a partition.
    ByLoader(Choice, Option<Guid>),
    /// A Raspberry Pi's firmware started a slot: these are the kernel's arguments.
    ByFirmware(Method, &'a str),
}

/// The partition that was named: in the kernel's arguments, or by UEFI where the board has it.
pub fn named(chooser: &str, arguments: &str) -> Option<Guid> {
    match chooser {
        "efi" => efi_variable(),
        _ => origin::from_cmdline(arguments),
    }
}

/// Without the file system or the variable the count in the boot state has to do.
fn efi_variable() -> Option<Guid> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(e) = mount("efivarfs", EFI_VARIABLES, "efivarfs", flags, c"") {
        say(&["EFI variables: ", &e.to_string()]);
        return None;
    }
    let mut bytes = Vec::new();
    let read =
        File::open(STUB_PARTITION).and_then(|file| file.take(MAX_VARIABLE).read_to_end(&mut bytes));
    let _ = unmount(EFI_VARIABLES, UnmountFlags::DETACH);
    read.ok().and_then(|_| origin::from_efi_variable(&bytes))
}

/// Waits for the disk; drivers may take a while to find it.
///
/// Fails when it does not come. That others are there is no reason to take one of them.
pub fn wait(told: &Told<'_>) -> Result<Disk> {
    let started = uptime::now();
    loop {
        let mut disks = disk::complete(Path::new("/sys/class/block"))?;
        let waited = uptime::now() - started;
        let candidates: Vec<Candidate> = disks.iter().map(|disk| look_at(disk, told)).collect();
        if let Some(index) = origin::decide(&candidates, waited > BETTER_DISK_PATIENCE) {
            say_neighbours(&disks, index);
            return Ok(disks.swap_remove(index));
        }
        if waited > DISK_PATIENCE {
            return Err(Error::new(match disks.first() {
                None => "no disk with all of Ferrite's partitions appeared within 15 s; \
                     does the board file name its driver?"
                    .into(),
                Some(other) => [
                    "the disk that this kernel was started from did not appear within 15 s; ",
                    &other.name,
                    " is another one with Ferrite on it",
                ]
                .concat(),
            }));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn say_neighbours(disks: &[Disk], own: usize) {
    for (index, disk) in disks.iter().enumerate() {
        if index != own {
            say(&[&disk.name, " has Ferrite on it too and is left alone"]);
        }
    }
}

/// Of a disk that cannot be the one, nothing but the partition table is looked at.
fn look_at(disk: &Disk, told: &Told<'_>) -> Candidate {
    let nodes = Arc::new(DiskNodes::new(Path::new("/dev"), disk));
    let named = match told {
        Told::ByLoader(_, guid) => guid.map(|guid| has_partition(disk, guid)),
        Told::ByFirmware(method, arguments) => {
            let rpi = Rpi::new(nodes.clone(), *method);
            let pointer = rpi.pointer().unwrap_or_default();
            Some(rpi.running(arguments, pointer).is_ok())
        }
    };
    if named == Some(false) {
        return Candidate { named, counted: false, generation: 0 };
    }
    let state = Redundant::new(nodes).load_valid().unwrap_or_default();
    let counted = match told {
        Told::ByLoader(choice, _) => {
            state.as_ref().is_some_and(|state| origin::is_counted(state, choice.slot, choice.kind))
        }
        // Nobody has counted yet; the kind of disk is all that may tell two of them apart.
        Told::ByFirmware(..) => origin::fits_boot_mode(boot_mode(), &disk.name),
    };
    Candidate { named, counted, generation: state.map_or(0, |state| state.generation) }
}

fn boot_mode() -> Option<u32> {
    let number = std::fs::read(BOOT_MODE).ok()?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

/// By what the kernel says of the partitions; by the table itself where an older one says nothing.
fn has_partition(disk: &Disk, guid: Guid) -> bool {
    if !disk.guids.is_empty() {
        return disk.guids.contains(&guid);
    }
    let table = || {
        let mut node = File::open(["/dev/", &disk.name].concat()).ok()?;
        let sectors = node.seek(SeekFrom::End(0)).ok()? / SECTOR;
        gpt::read(sectors, |at, bytes| node.read_exact_at(bytes, at)).ok()
    };
    table().is_some_and(|table| table.partitions.iter().any(|p| p.guid == guid))
}
