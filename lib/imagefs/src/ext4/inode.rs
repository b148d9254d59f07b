//! An inode's content, apart from its checksum.

use zerocopy::{FromZeros, transmute};

use super::block::BLOCK;
use crate::ext4_fs::{EXTENT_MAGIC, ExtentRoot};

const FLAG_EXTENTS: u32 = 0x8_0000;
/// Nobody but the kernel changes it.
pub const FLAG_IMMUTABLE: u32 = 0x10;

/// What an inode says.
pub struct Inode {
    /// Type and permissions, as `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead to it.
    pub links: u16,
    /// Bytes.
    pub size: u64,
    /// Blocks it occupies, those of its map counted.
    pub blocks: u32,
    /// `EXT4_…_FL`.
    pub flags: u32,
    /// Where the blocks are.
    pub map: [u8; 60],
}

impl Inode {
    /// Of root, with these blocks and no bytes beyond them.
    pub fn new(mode: u16, links: u16, first: u32, blocks: u32) -> Inode {
        let (size, map) = (u64::from(blocks) * BLOCK as u64, transmute!(extent(first, blocks)));
        Inode { mode, uid: 0, gid: 0, links, size, blocks, flags: FLAG_EXTENTS, map }
    }
}

/// An extent tree's root with one extent, which starts the file; with none for an empty one.
pub fn extent(first: u32, blocks: u32) -> ExtentRoot {
    let mut root = ExtentRoot::new_zeroed();
    root.header.eh_magic = EXTENT_MAGIC.into();
    root.header.eh_max = (root.extents.len() as u16).into();
    if blocks > 0 {
        root.header.eh_entries = 1.into();
        root.extents[0].ee_len = (blocks as u16).into();
        root.extents[0].ee_start_lo = first.into();
    }
    root
}
