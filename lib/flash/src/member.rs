//! Members of arrays, volume groups, pools and encrypted volumes that are not set up on this machine
//! now: the kernel knows nothing of them, and overwriting one loses what all of them hold together.
//! They are told by the signatures that their own tools look for, at the places where those do.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::machine::{Device, Machine};

/// A disk or partition with such a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The kernel's name of it.
    pub name: String,
    /// What it belongs to.
    pub kind: &'static str,
}

/// Where a signature lies, in bytes.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// From the start.
    Start(u64),
    /// So many bytes before the end, the end taken down to a multiple of the second number.
    End(u64, u64),
}

/// Bytes that all have to be there, at offsets from a place.
type Signature = &'static [(u64, &'static [u8])];

const LVM: &str = "an LVM volume group";
const MD: &str = "a Linux RAID array";
const FIRMWARE_RAID: &str = "a RAID array of a mainboard's firmware";
const LUKS: &str = "an encrypted volume (LUKS)";
const BCACHE: &str = "a bcache";
const ZFS: &str = "a ZFS pool";
const BTRFS: &str = "a Btrfs of several devices";

/// LVM2, `lib/format_text/layout.h`: `struct label_header` in one of the first four sectors.
const LVM_LABEL: Signature = &[(0, b"LABELONE"), (24, b"LVM2 001")];
/// Linux `include/uapi/linux/raid/md_p.h`: `MD_SB_MAGIC`, and the major version behind it.
const MD_1: Signature = &[(0, b"\xFC\x4E\x2B\xA9\x01\0\0\0")];
/// Version 0.90 is in the byte order of the machine that made it.
const MD_0: Signature = &[(0, b"\xFC\x4E\x2B\xA9\0\0\0\0")];
const MD_0_BIG: Signature = &[(0, b"\xA9\x2B\x4E\xFC\0\0\0\0")];
/// mdadm, `super-intel.c`: `MPB_SIGNATURE` in the last sector but one.
const INTEL: Signature = &[(0, b"Intel Raid ISM Cfg Sig. ")];
/// SNIA Common RAID DDF 2.0, 5.5: the anchor header in the last sector.
const DDF: Signature = &[(0, b"\xDE\x11\xDE\x11")];
/// LUKS1 and LUKS2 On-Disk Format: the first header, and LUKS2's second one.
const LUKS_1: Signature = &[(0, b"LUKS\xBA\xBE")];
const LUKS_2: Signature = &[(0, b"SKUL\xBA\xBE")];
/// Linux `drivers/md/bcache/bcache_ondisk.h`: `bcache_magic` of `struct cache_sb`, at sector 8.
const BCACHE_SB: Signature =
    &[(24, b"\xC6\x85\x73\xF6\x4E\x1A\x45\xCA\x82\x65\xF5\x7F\x48\xBA\x6D\x81")];

const SIGNATURES: [(&str, Place, Signature); 23] = [
    (LVM, Place::Start(0), LVM_LABEL),
    (LVM, Place::Start(512), LVM_LABEL),
    (LVM, Place::Start(1024), LVM_LABEL),
    (LVM, Place::Start(1536), LVM_LABEL),
    (MD, Place::Start(0), MD_1),
    (MD, Place::Start(4096), MD_1),
    (MD, Place::End(8192, 4096), MD_1),
    (MD, Place::End(65_536, 65_536), MD_0),
    (MD, Place::End(65_536, 65_536), MD_0_BIG),
    (FIRMWARE_RAID, Place::End(1024, 512), INTEL),
    (FIRMWARE_RAID, Place::End(512, 512), DDF),
    (LUKS, Place::Start(0), LUKS_1),
    // LUKS2 On-Disk Format, 2.1, table 1: where the second header may lie.
    (LUKS, Place::Start(0x4000), LUKS_2),
    (LUKS, Place::Start(0x8000), LUKS_2),
    (LUKS, Place::Start(0x1_0000), LUKS_2),
    (LUKS, Place::Start(0x2_0000), LUKS_2),
    (LUKS, Place::Start(0x4_0000), LUKS_2),
    (LUKS, Place::Start(0x8_0000), LUKS_2),
    (LUKS, Place::Start(0x10_0000), LUKS_2),
    (LUKS, Place::Start(0x20_0000), LUKS_2),
    (LUKS, Place::Start(0x40_0000), LUKS_2),
    (BCACHE, Place::Start(4096), BCACHE_SB),
    (BTRFS, Place::Start(BTRFS_SB), &[(0x40, b"_BHRfS_M")]),
];

/// Btrfs on-disk format: the first superblock, and in it the number of devices.
const BTRFS_SB: u64 = 64 << 10;
const BTRFS_DEVICES: u64 = 0x88;

/// ZFS On-Disk Specification, chapter 1: two labels at the start and two at the end of what the
/// device has in whole labels; the second half of each is its ring of uberblocks.
const ZFS_LABEL: u64 = 256 << 10;
const ZFS_RING: u64 = 128 << 10;
/// Uberblocks begin at multiples of this, or of a larger power of two.
const ZFS_STEP: usize = 1024;
const ZFS_MAGIC: u64 = 0x00BA_B10C;

/// The first member of something among a disk and its partitions, as far as they can be read: what
/// this user may not read he cannot write either.
pub fn of_disk(machine: &Machine, disk: &Device) -> Option<Member> {
    std::iter::once(disk).chain(machine.partitions(&disk.name)).find_map(|device| {
        let file = File::open(machine.node(device)).ok()?;
        let kind = kind(device.bytes, |at, out| file.read_exact_at(out, at))?;
        Some(Member { name: device.name.clone(), kind })
    })
}

/// What a device of `bytes` bytes is a member of. Places that cannot be read have no signature.
fn kind(
    bytes: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> Option<&'static str> {
    let mut holds = |at: u64, expected: &[u8]| {
        let mut found = vec![0; expected.len()];
        read(at, &mut found).is_ok() && found == expected
    };
    let found = SIGNATURES.iter().find(|(_, place, signature)| {
        place.offset(bytes).is_some_and(|at| signature.iter().all(|(on, b)| holds(at + on, b)))
    });
    match found {
        Some((BTRFS, ..)) => {
            let mut devices = [0; 8];
            read(BTRFS_SB + BTRFS_DEVICES, &mut devices).ok()?;
            (u64::from_le_bytes(devices) > 1).then_some(BTRFS)
        }
        Some((kind, ..)) => Some(kind),
        None => is_zfs(bytes, read).then_some(ZFS),
    }
}

fn is_zfs(bytes: u64, mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> bool {
    let end = bytes / ZFS_LABEL * ZFS_LABEL;
    let labels =
        [Some(0), Some(ZFS_LABEL), end.checked_sub(2 * ZFS_LABEL), end.checked_sub(ZFS_LABEL)];
    let mut ring = vec![0; ZFS_RING as usize];
    labels.into_iter().flatten().any(|label| {
        read(label + ZFS_RING, &mut ring).is_ok()
            && ring.chunks_exact(ZFS_STEP).any(|block| {
                block.starts_with(&ZFS_MAGIC.to_le_bytes())
                    || block.starts_with(&ZFS_MAGIC.to_be_bytes())
            })
    })
}

impl Place {
    fn offset(self, bytes: u64) -> Option<u64> {
        match self {
            Place::Start(at) => Some(at),
            Place::End(back, unit) => (bytes / unit * unit).checked_sub(back),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 9 << 20;

    /// The kind of a device of [`SIZE`] bytes with these bytes on it.
    fn with(size: u64, pieces: &[(u64, &[u8])]) -> Option<&'static str> {
        let mut disk = vec![0; size as usize];
        for (at, bytes) in pieces {
            disk[*at as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        kind(size, |at, out| {
            let end = at as usize + out.len();
            out.copy_from_slice(disk.get(at as usize..end).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    #[test]
    fn lvm_is_told_by_its_label() {
        for sector in 0..4 {
            let label: &[u8] = b"LABELONE\x01\0\0\0\0\0\0\0\x12\x34\x56\x78\x20\0\0\0LVM2 001";
            assert_eq!(with(SIZE, &[(sector * 512, label)]), Some(LVM));
        }
        assert_eq!(with(SIZE, &[(512, b"LABELONE")]), None, "LVM1, or something else");
    }

    #[test]
    fn md_is_told_in_all_its_versions() {
        let magic: &[u8] = b"\xFC\x4E\x2B\xA9\x01\0\0\0";
        assert_eq!(with(SIZE, &[(0, magic)]), Some(MD), "1.1");
        assert_eq!(with(SIZE, &[(4096, magic)]), Some(MD), "1.2");
        // 1.0: 16 sectors before the end, down to a multiple of 8 of them.
        assert_eq!(with(SIZE, &[(SIZE - 8192, magic)]), Some(MD), "1.0");
        let odd = SIZE + 3 * 512;
        let sectors = (odd / 512 - 16) & !7;
        assert_eq!(with(odd, &[(sectors * 512, magic)]), Some(MD), "1.0");
        // 0.90: MD_NEW_SIZE_SECTORS.
        let at = ((odd / 512) & !127) * 512 - 65_536;
        assert_eq!(with(odd, &[(at, b"\xFC\x4E\x2B\xA9\0\0\0\0\x5A")]), Some(MD), "0.90");
        assert_eq!(with(odd, &[(at, b"\xA9\x2B\x4E\xFC\0\0\0\0\0\0\0\x5A")]), Some(MD), "0.90");
        assert_eq!(with(SIZE, &[(512, magic)]), None);
    }

    #[test]
    fn a_mainboards_raid_is_told() {
        assert_eq!(
            with(SIZE, &[(SIZE - 1024, b"Intel Raid ISM Cfg Sig. 1.3.00")]),
            Some(FIRMWARE_RAID)
        );
        assert_eq!(with(SIZE, &[(SIZE - 512, b"\xDE\x11\xDE\x11")]), Some(FIRMWARE_RAID));
    }

    #[test]
    fn luks_is_told_by_either_header() {
        assert_eq!(with(SIZE, &[(0, b"LUKS\xBA\xBE\0\x01")]), Some(LUKS));
        assert_eq!(with(SIZE, &[(0, b"LUKS\xBA\xBE\0\x02")]), Some(LUKS));
        for at in [0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000]
        {
            assert_eq!(with(SIZE, &[(at, b"SKUL\xBA\xBE\0\x02")]), Some(LUKS), "{at:#x}");
        }
        assert_eq!(with(SIZE, &[(0, b"LUKS")]), None);
    }

    #[test]
    fn zfs_is_told_by_any_label() {
        let odd = SIZE + 100 * 512;
        for label in [0, 256 << 10, SIZE - (512 << 10), SIZE - (256 << 10)] {
            for magic in [0x00BA_B10Cu64.to_le_bytes(), 0x00BA_B10Cu64.to_be_bytes()] {
                let at = label + (128 << 10) + 7 * 4096;
                assert_eq!(with(odd, &[(at, &magic)]), Some(ZFS), "{label:#x}");
            }
        }
        assert_eq!(
            with(SIZE, &[(4096, &0x00BA_B10Cu64.to_le_bytes())]),
            None,
            "no uberblock's place"
        );
    }

    #[test]
    fn bcache_and_btrfs_over_several_devices_are_told() {
        let bcache: &[u8] = BCACHE_SB[0].1;
        assert_eq!(with(SIZE, &[(4096 + 24, bcache)]), Some(BCACHE));
        let btrfs = |devices: u64| {
            with(SIZE, &[(0x1_0040, b"_BHRfS_M"), (0x1_0088, &devices.to_le_bytes())])
        };
        assert_eq!(btrfs(2), Some(BTRFS));
        assert_eq!(btrfs(1), None, "a file system like any other");
    }

    #[test]
    fn small_and_empty_devices_have_none() {
        for size in [0, 512, 4096, 65_536, 1 << 20] {
            assert_eq!(with(size, &[]), None, "{size}");
        }
    }
}
