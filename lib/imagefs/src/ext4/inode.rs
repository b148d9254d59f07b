//! An inode's content, apart from its checksum.

use super::BLOCK;

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
        let (size, map) = (u64::from(blocks) * BLOCK as u64, extent(first, blocks));
        Inode { mode, uid: 0, gid: 0, links, size, blocks, flags: FLAG_EXTENTS, map }
    }
}

/// An extent tree's root with one extent, which starts the file; with none for an empty one.
pub fn extent(first: u32, blocks: u32) -> [u8; 60] {
    let mut map = [0; 60];
    map[..2].copy_from_slice(&0xF30Au16.to_le_bytes());
    map[4..6].copy_from_slice(&4u16.to_le_bytes()); // room for
    if blocks == 0 {
        return map;
    }
    map[2..4].copy_from_slice(&1u16.to_le_bytes()); // extents in use
    map[16..18].copy_from_slice(&(blocks as u16).to_le_bytes());
    map[20..24].copy_from_slice(&first.to_le_bytes());
    map
}
