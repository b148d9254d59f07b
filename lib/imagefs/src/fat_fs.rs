//! The structures of a FAT on disk, with the names of the kernel's include/uapi/linux/msdos_fs.h
//! (Microsoft's "FAT: General Overview of On-Disk Format" 1.03 gives the same fields).

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Ends a boot sector and an FSInfo sector.
pub const BOOT_SIGN: [u8; 2] = [0x55, 0xAA];
/// `signature` of [`VolumeInfo`] where the serial number, the label and the type follow it.
pub const EXTENDED_SIGNATURE: u8 = 0x29;
/// `FAT_FSINFO_SIG1`
pub const FSINFO_SIG1: [u8; 4] = *b"RRaA";
/// `FAT_FSINFO_SIG2`
pub const FSINFO_SIG2: [u8; 4] = *b"rrAa";
/// `ATTR_VOLUME`: the entry is the volume's label.
pub const ATTR_VOLUME: u8 = 0x08;
/// `ATTR_DIR`
pub const ATTR_DIR: u8 = 0x10;
/// `ATTR_ARCH`: a file that was written since the last archive.
pub const ATTR_ARCH: u8 = 0x20;
/// `ATTR_EXT`: the entry is a [`DirectorySlot`].
pub const ATTR_EXT: u8 = 0x0F;
/// `DELETED_FLAG`: the first byte of an entry that is free.
pub const DELETED: u8 = 0xE5;

/// `struct fat_boot_sector` up to its union.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootSectorHead {
    /// A jump over the parameters, which readers look for.
    pub jump: [u8; 3],
    pub system_id: [u8; 8],
    pub sector_size: U16,
    pub sec_per_clus: u8,
    pub reserved: U16,
    pub fats: u8,
    pub dir_entries: U16,
    /// 0 where `total_sect` has them.
    pub sectors: U16,
    pub media: u8,
    /// Sectors of a FAT; 0 on FAT32.
    pub fat_length: U16,
    pub secs_track: U16,
    pub heads: U16,
    pub hidden: U32,
    pub total_sect: U32,
}

/// What both halves of the union of `struct fat_boot_sector` end with.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VolumeInfo {
    pub drive_number: u8,
    pub state: u8,
    pub signature: u8,
    pub vol_id: U32,
    pub vol_label: [u8; 11],
    pub fs_type: [u8; 8],
}

/// `struct fat_boot_sector` of FAT16.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootSector16 {
    pub head: BootSectorHead,
    pub volume: VolumeInfo,
    pub boot_code: [u8; 448],
    pub boot_sign: [u8; 2],
}

/// `struct fat_boot_sector` of FAT32.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootSector32 {
    pub head: BootSectorHead,
    /// Sectors of a FAT.
    pub length: U32,
    pub flags: U16,
    pub version: U16,
    pub root_cluster: U32,
    pub info_sector: U16,
    pub backup_boot: U16,
    pub reserved2: [u8; 12],
    pub volume: VolumeInfo,
    pub boot_code: [u8; 420],
    pub boot_sign: [u8; 2],
}

/// `struct fat_boot_fsinfo`, and what fills its sector.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FsInfo {
    pub signature1: [u8; 4],
    pub reserved1: [u8; 480],
    pub signature2: [u8; 4],
    pub free_clusters: U32,
    /// The cluster that was given out last.
    pub next_cluster: U32,
    pub reserved2: [u8; 14],
    pub boot_sign: [u8; 2],
}

/// `struct msdos_dir_entry`
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DirectoryEntry {
    pub name: [u8; 11],
    pub attr: u8,
    pub lcase: u8,
    pub ctime_cs: u8,
    pub ctime: U16,
    pub cdate: U16,
    pub adate: U16,
    /// Upper half of the first cluster; of no meaning on FAT16.
    pub starthi: U16,
    pub time: U16,
    pub date: U16,
    pub start: U16,
    pub size: U32,
}

/// `struct msdos_dir_slot`: 13 units of a long name.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DirectorySlot {
    /// Which piece of the name, from 1; the last one has [`LAST_SLOT`] added.
    pub id: u8,
    pub name0_4: [U16; 5],
    pub attr: u8,
    pub reserved: u8,
    pub alias_checksum: u8,
    pub name5_10: [U16; 6],
    pub start: U16,
    pub name11_12: [U16; 2],
}

/// Added to [`DirectorySlot::id`] of a name's last piece, which comes first.
pub const LAST_SLOT: u8 = 0x40;

impl DirectorySlot {
    /// The 13 units in their order.
    pub fn units(&self) -> impl Iterator<Item = u16> {
        let units = self.name0_4.iter().chain(&self.name5_10).chain(&self.name11_12);
        units.map(|unit| unit.get())
    }

    /// The same, to be written.
    pub fn units_mut(&mut self) -> impl Iterator<Item = &mut U16> {
        self.name0_4.iter_mut().chain(&mut self.name5_10).chain(&mut self.name11_12)
    }
}

const _: () = {
    assert!(size_of::<BootSector16>() == 512);
    assert!(size_of::<BootSector32>() == 512);
    assert!(size_of::<FsInfo>() == 512);
    assert!(size_of::<DirectoryEntry>() == 32);
    assert!(size_of::<DirectorySlot>() == 32);
};
