//! The disk's partitions, the two slots, and the paths on the device that more than one program
//! knows. Each name is written here once.

use crate::{Error, Result};

/// Bytes of a disk sector, as GPT and the boot state count them.
pub const SECTOR: u64 = 512;
/// Partitions start at multiples of this many bytes.
pub const ALIGNMENT: u64 = 1 << 20;
/// Bytes of a block of the root file system and of its verity tree.
pub const BLOCK: u64 = 4096;

/// Partition label of the loader's FAT partition, which also keeps the boot state.
pub const FIRMWARE: &str = "firmware";
/// Partition label of the data partition.
pub const DATA: &str = "data";
/// Every partition label, in the order of the partition table.
pub const LABELS: [&str; 6] = [FIRMWARE, "boot-a", "boot-b", "root-a", "root-b", DATA];

/// Byte offsets of the two boot state copies in the `firmware` partition. They lie in the FAT's
/// reserved sectors, 4 KiB apart so that a torn write of a large physical sector spoils only one.
pub const BOOT_STATE_OFFSETS: [u64; 2] = [8192, 12288];
/// Sectors the `firmware` FAT must reserve so that the boot state lies before its tables.
pub const FIRMWARE_RESERVED_SECTORS: u16 = 32;

/// The group that may write the idle slot, and read the running one.
pub const GROUP_SLOTS: u32 = 901;
/// The group that may read both slots, through the nodes in [`DEVICES_TO_READ`].
pub const GROUP_SLOTS_READ: u32 = 902;
/// The group that may talk to `init`'s control socket.
pub const GROUP_CTL: u32 = 900;

/// The group that may use what is kept free of the data partition (`resgid=` of ext4): the update
/// client, so that a full partition does not keep the cure out.
pub const GROUP_RESERVE: u32 = 909;

/// Where `init` links the partitions' device nodes by label.
pub const DEVICES: &str = "/dev/ferrite";
/// Where `init` makes nodes of the slots' partitions that [`GROUP_SLOTS_READ`] may read.
pub const DEVICES_TO_READ: &str = "/dev/ferrite/read";
/// What is running: conf form, written by the initrd of `init`.
pub const RUN_SLOT: &str = "/run/ferrite/slot";
/// The running slot's header, verified by the initrd of `init`.
pub const RUN_SLOT_HEADER: &str = "/run/ferrite/slot-header";
/// Why the last boot failed, when it did: conf form, `slot x` and `reason …`.
pub const RUN_LAST_FAILURE: &str = "/run/ferrite/last-failure";
/// What a time server said since this boot: conf form, [`crate::network_time`].
pub const RUN_NETWORK_TIME: &str = "/run/ferrite/network-time";
/// `flock`ed while the boot state is read, changed and written.
pub const RUN_BOOT_STATE_LOCK: &str = "/run/ferrite/boot-state.lock";
/// What became of the data partition: conf form, [`crate::data_state`].
pub const RUN_DATA: &str = "/run/ferrite/data";
/// Where `init` mounts USB sticks, each on a folder of its own; only in images that use them.
pub const RUN_MEDIA: &str = "/run/media";
/// `init`'s folder on `/run`. A workload that others talk to has one below it, named like itself.
pub const RUN: &str = "/run/ferrite";
/// The socket of the workload that writes updates into the idle slot.
pub const WRITER_SOCKET: &str = "/run/ferrite/ota-writer/socket";
/// The control socket of `init`.
pub const CTL_SOCKET: &str = "/run/ferrite/ctl.sock";
/// What this device has and its image does not: conf form, [`crate::settings`].
pub const SETTINGS: &str = "/data/ferrite/settings";
/// The wireless network's passphrase, readable for root only.
pub const WIFI_PASSPHRASE: &str = "/data/ferrite/secrets/wifi-passphrase";
/// The wireless network and its passphrase, as the workload that joins it reads them.
pub const RUN_WIFI_CONF: &str = "/run/ferrite/wifi.conf";
/// The SSH keys that root may log in with, in debug images with a server; readable for root only.
pub const RUN_SSH_KEYS: &str = "/run/ferrite/ssh/authorized_keys";
/// Each workload's own folder lies below this one.
pub const WORKLOADS: &str = "/data/workloads";
/// Conf form: what the initrd needs. In the initramfs.
pub const BOOT_CONF: &str = "/etc/ferrite/boot.conf";
/// Conf form: what the rootfs needs. On the root.
pub const SYSTEM_CONF: &str = "/etc/ferrite/system.conf";
/// Public keys that sign slot manifests, one file of hexadecimal each. On the root.
pub const MANIFEST_KEYS: &str = "/etc/ferrite/manifest-keys";
/// `ota`'s settings. On the root.
pub const OTA_SETTINGS: &str = "/etc/ferrite/ota.json";
/// The repository's root metadata that the device starts from. On the root.
pub const TUF_ROOT: &str = "/etc/ferrite/tuf-root.json";

/// Roots of the certificates that the repository's server may have (PEM). On the root.
pub const TLS_ROOTS: &str = "/etc/ferrite/tls-roots.pem";

/// One of the two halves of the disk that a version can live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Partitions `boot-a` and `root-a`.
    A,
    /// Partitions `boot-b` and `root-b`.
    B,
}

impl Slot {
    /// The slot that is not this one.
    #[must_use]
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// `a` or `b`.
    pub fn letter(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    /// Label of the partition with the kernel and the initramfs.
    pub fn boot_label(self) -> &'static str {
        match self {
            Slot::A => "boot-a",
            Slot::B => "boot-b",
        }
    }

    /// Label of the partition with the root file system.
    pub fn root_label(self) -> &'static str {
        match self {
            Slot::A => "root-a",
            Slot::B => "root-b",
        }
    }

    /// Parses `a` or `b`.
    pub fn parse(text: &str) -> Result<Slot> {
        match text {
            "a" => Ok(Slot::A),
            "b" => Ok(Slot::B),
            _ => Err(Error::new("a slot is `a` or `b`")),
        }
    }

    /// The slot named on the kernel command line (`ferrite.slot=`), if any.
    pub fn from_cmdline(cmdline: &str) -> Option<Slot> {
        cmdline
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix("ferrite.slot="))
            .and_then(|letter| Slot::parse(letter).ok())
    }
}

impl core::fmt::Display for Slot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.letter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_of_the_other_is_itself() {
        for slot in [Slot::A, Slot::B] {
            assert_ne!(slot.other(), slot);
            assert_eq!(slot.other().other(), slot);
            assert_eq!(Slot::parse(slot.letter()), Ok(slot));
            assert!(LABELS.contains(&slot.boot_label()) && LABELS.contains(&slot.root_label()));
        }
    }

    #[test]
    fn the_boot_state_lies_in_the_reserved_sectors() {
        for offset in BOOT_STATE_OFFSETS {
            assert!(offset + SECTOR <= u64::from(FIRMWARE_RESERVED_SECTORS) * SECTOR);
        }
    }

    #[test]
    fn reads_the_slot_from_the_kernel_arguments() {
        assert_eq!(Slot::from_cmdline("quiet ferrite.slot=b ferrite.trial=1\n"), Some(Slot::B));
        assert_eq!(Slot::from_cmdline("ferrite.slot=c"), None);
        assert_eq!(Slot::from_cmdline(""), None);
    }
}
