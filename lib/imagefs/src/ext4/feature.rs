//! What mke2fs gives an ext4, in the bits of fs/ext4/ext4.h.

const HAS_JOURNAL: u32 = 0x4;
const EXT_ATTR: u32 = 0x8;
const RESIZE_INODE: u32 = 0x10;
const DIR_INDEX: u32 = 0x20;
pub const COMPAT: u32 = HAS_JOURNAL | EXT_ATTR | RESIZE_INODE | DIR_INDEX;

const FILETYPE: u32 = 0x2;
const EXTENTS: u32 = 0x40;
const BITS_64: u32 = 0x80;
const FLEX_BG: u32 = 0x200;
pub const INCOMPAT: u32 = FILETYPE | EXTENTS | BITS_64 | FLEX_BG;

const SPARSE_SUPER: u32 = 0x1;
const LARGE_FILE: u32 = 0x2;
const HUGE_FILE: u32 = 0x8;
const DIR_NLINK: u32 = 0x20;
const EXTRA_ISIZE: u32 = 0x40;
/// Usage by user is kept in a file that the superblock names.
pub const QUOTA: u32 = 0x100;
const METADATA_CSUM: u32 = 0x400;
pub const RO_COMPAT: u32 =
    SPARSE_SUPER | LARGE_FILE | HUGE_FILE | DIR_NLINK | EXTRA_ISIZE | METADATA_CSUM;
