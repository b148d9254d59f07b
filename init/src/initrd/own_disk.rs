//! The disk that this kernel was started from: waited for, and no other one used. Which one that is
//! says `formats::origin`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use formats::boot_state_store::RedundantStore;
use formats::disk::{self, Disk, DiskNodes};
use formats::gpt::{self, Guid};
use formats::layout::SECTOR;
use formats::origin::{self, Candidate};
use formats::rpi::Rpi;
use formats::rpi::autoboot::Method;
use formats::{Error, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::console::say;
use crate::initrd::slot_selection::Choice;
use crate::uptime;

/// How long the disk may take to appear, in milliseconds: a slow SD card needs about two seconds.
const DISK_TIMEOUT: u64 = 15_000;
/// How long a better one than what is there may take, in milliseconds: nobody feeds the watchdog
/// meanwhile, and a Raspberry Pi's fires after as little as ten seconds.
const BETTER_DISK_TIMEOUT: u64 = 5_000;
const DEV: &str = "/dev";
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

/// Who started this kernel, and what is known of the disk from that.
pub enum StartedBy<'a> {
    /// A loader chose, counted, and may have named a partition.
    Loader(Choice, Option<Guid>),
    /// A Raspberry Pi's firmware started a slot: these are the kernel's arguments.
    Firmware(Method, &'a str),
}

/// The partition that was named: in the kernel's arguments, or by UEFI where the board has it.
pub fn named(chooser: &str, arguments: &str) -> Option<Guid> {
    let named = match chooser {
        "efi" => efi_variable(),
        _ => origin::from_cmdline(arguments),
    };
    if named.is_none() {
        say(&["nobody says which disk this is; the boot state has to tell"]);
    }
    named
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
pub fn wait(started_by: &StartedBy<'_>) -> Result<Disk> {
    let started = uptime::now();
    loop {
        let mut disks = disk::complete(Path::new("/sys/class/block"))?;
        let waited = uptime::now() - started;
        let look = |disk| look_at(Path::new(DEV), disk, started_by, boot_mode());
        let candidates: Vec<Candidate> = disks.iter().map(look).collect();
        if let Some(index) = origin::decide(&candidates, waited > BETTER_DISK_TIMEOUT) {
            say_neighbours(&disks, index);
            return Ok(disks.swap_remove(index));
        }
        if waited > DISK_TIMEOUT {
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

/// Of a disk that cannot be the one, nothing but the partition table is looked at (with a Raspberry
/// Pi, what says which version boots from it). `mode` is how that one was booted.
fn look_at(dev: &Path, disk: &Disk, started_by: &StartedBy<'_>, mode: Option<u32>) -> Candidate {
    let nodes = Arc::new(DiskNodes::new(dev, disk));
    let named = match started_by {
        StartedBy::Loader(_, guid) => guid.map(|guid| has_partition(dev, disk, guid)),
        StartedBy::Firmware(method, arguments) => {
            let rpi = Rpi::new(nodes.clone(), *method);
            let pointer = rpi.pointer().unwrap_or_default();
            Some(rpi.running(arguments, pointer).is_ok())
        }
    };
    if named == Some(false) {
        return Candidate { named, counted: false, generation: 0 };
    }
    let state = RedundantStore::new(nodes).load_valid().unwrap_or_default();
    let counted = match started_by {
        StartedBy::Loader(choice, _) => {
            state.as_ref().is_some_and(|state| origin::is_counted(state, choice.slot, choice.kind))
        }
        // Nobody has counted yet; the kind of disk is all that may tell two of them apart.
        StartedBy::Firmware(..) => origin::fits_boot_mode(mode, &disk.name),
    };
    Candidate { named, counted, generation: state.map_or(0, |state| state.generation) }
}

fn boot_mode() -> Option<u32> {
    let number = std::fs::read(BOOT_MODE).ok()?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

/// By what the kernel says of the partitions; by the table itself where an older one says nothing.
fn has_partition(dev: &Path, disk: &Disk, guid: Guid) -> bool {
    if !disk.guids.is_empty() {
        return disk.guids.contains(&guid);
    }
    let table = || {
        let mut node = File::open(dev.join(&disk.name)).ok()?;
        let sectors = node.seek(SeekFrom::End(0)).ok()? / SECTOR;
        gpt::read(sectors, |at, bytes| node.read_exact_at(bytes, at)).ok()
    };
    table().is_some_and(|table| table.partitions.iter().any(|p| p.guid == guid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::Slot;
    use formats::boot_state::{Boot, BootState};
    use formats::gpt::{Gpt, LINUX_DATA, Partition};
    use formats::layout::{BOOT_STATE_OFFSETS, FIRMWARE};
    use formats::rpi::BOOT_VOLUME;

    /// Files in place of device nodes.
    struct Dev(tempfile::TempDir);

    impl Dev {
        fn new() -> Dev {
            Dev(tempfile::tempdir().unwrap())
        }

        /// A disk whose partitions' GUIDs the kernel tells, with this boot state, its slot a made of a
        /// FAT with this serial number.
        fn disk(&self, name: &str, guid: u8, state: &BootState, serial: u32) -> Disk {
            let node = |label: &str| [name, "-", label].concat();
            let mut firmware = vec![0; 65536];
            firmware[BOOT_STATE_OFFSETS[0] as usize..][..512].copy_from_slice(&state.to_blob());
            std::fs::write(self.0.path().join(node(FIRMWARE)), firmware).unwrap();
            let mut boot = vec![0; 512];
            boot[22] = 1;
            boot[39..43].copy_from_slice(&serial.to_le_bytes());
            boot[510..].copy_from_slice(&[0x55, 0xAA]);
            std::fs::write(self.0.path().join(node("boot-a")), boot).unwrap();
            let partitions = [FIRMWARE, "boot-a", "boot-b"].map(|l| (l.to_string(), node(l)));
            let guids = vec![Guid::from_hash([guid; 16])];
            Disk { name: name.into(), partitions: partitions.into(), guids }
        }

        fn look(&self, disk: &Disk, started_by: &StartedBy<'_>, mode: Option<u32>) -> Candidate {
            look_at(self.0.path(), disk, started_by, mode)
        }
    }

    const ACTIVE: Choice = Choice { slot: Slot::A, kind: Boot::Active };

    #[test]
    fn a_loaders_disk_is_known_by_its_guid_and_its_count() {
        let dev = Dev::new();
        let settled = BootState { generation: 7, ..BootState::fresh() };
        let counted = BootState { generation: 8, strikes: 1, ..BootState::fresh() };
        let ours = dev.disk("vda", 1, &counted, 0);
        let twin = dev.disk("vdb", 1, &settled, 0);
        let other = dev.disk("vdc", 2, &counted, 0);
        let candidate = |named, counted, generation| Candidate { named, counted, generation };
        let named = StartedBy::Loader(ACTIVE, Some(Guid::from_hash([1; 16])));
        assert_eq!(dev.look(&ours, &named, None), candidate(Some(true), true, 8));
        assert_eq!(dev.look(&twin, &named, None), candidate(Some(true), false, 7));
        assert_eq!(dev.look(&other, &named, None), candidate(Some(false), false, 0));
        let unsaid = StartedBy::Loader(ACTIVE, None);
        assert_eq!(dev.look(&ours, &unsaid, None), candidate(None, true, 8));
        assert_eq!(dev.look(&twin, &unsaid, None), candidate(None, false, 7));
        // A disk that does not answer.
        std::fs::remove_file(dev.0.path().join("vda-firmware")).unwrap();
        assert_eq!(dev.look(&ours, &named, None), candidate(Some(true), false, 0));
    }

    #[test]
    fn an_older_kernel_says_no_guids_and_the_table_does() {
        let dev = Dev::new();
        let partition = Partition {
            kind: LINUX_DATA,
            guid: Guid::from_hash([5; 16]),
            first: 2048,
            last: 4095,
            attributes: 0,
            label: FIRMWARE.into(),
        };
        let table =
            Gpt { disk: Guid::from_hash([6; 16]), sectors: 8192, partitions: vec![partition] };
        let node = File::create(dev.0.path().join("sda")).unwrap();
        node.set_len(8192 * SECTOR).unwrap();
        table.writes().iter().for_each(|w| node.write_all_at(&w.bytes, w.offset).unwrap());
        let disk = Disk { name: "sda".into(), ..Disk::default() };
        assert!(has_partition(dev.0.path(), &disk, Guid::from_hash([5; 16])));
        assert!(!has_partition(dev.0.path(), &disk, Guid::from_hash([6; 16])));
        let gone = Disk { name: "sdb".into(), ..Disk::default() };
        assert!(!has_partition(dev.0.path(), &gone, Guid::from_hash([5; 16])));
    }

    #[test]
    fn a_raspberry_pis_disk_is_known_by_the_kernels_serial_number_and_its_kind() {
        let dev = Dev::new();
        let state = BootState { generation: 3, ..BootState::fresh() };
        let card = dev.disk("mmcblk0", 1, &state, 0xABCD);
        let stick = dev.disk("sda", 1, &state, 0xABCD);
        let older = dev.disk("sdb", 1, &state, 0x1234);
        let arguments = [BOOT_VOLUME, "0000abcd"].concat();
        let started_by = StartedBy::Firmware(Method::Pointer, &arguments);
        let look = |disk| {
            let Candidate { named, counted, .. } = dev.look(disk, &started_by, Some(1));
            (named, counted)
        };
        assert_eq!(look(&card), (Some(true), true));
        assert_eq!(look(&stick), (Some(true), false), "a card was booted");
        assert_eq!(look(&older), (Some(false), false), "of another version");
        assert!(dev.look(&stick, &started_by, None).counted, "a firmware that says nothing");
    }
}
