//! An ext4, empty or with a few files, that the kernel can grow while it is mounted
//! (Documentation/filesystems/ext4/ of Linux, fs/ext4/ext4.h, fs/jbd2).
//!
//! One block group of 4 KiB blocks:
//! ```text
//! 0        boot block and, from byte 1024, the superblock
//! 1        group descriptors
//! 2..      reserved for more group descriptors (RESERVED_GDT blocks, owned by inode 7)
//! ..       block bitmap, inode bitmap, inode table
//! ..       root directory (1), lost+found (4), resize inode's block (1), journal
//! ..       with quotas the file of what each user's files take
//! ..       the files, each in a row
//! ```
//! How it grows: `EXT4_IOC_RESIZE_FS` (fs/ext4/resize.c, `ext4_resize_fs`) takes a reserved block
//! for every 64 further groups (8 GiB). When those are used up it drops inode 7 and goes on with
//! meta block groups by itself. One of its transactions has to hold all reserved blocks (`credit`
//! in `ext4_flex_group_add`), and a journal of 1024 blocks allows a quarter of it: their number
//! must stay well below 256. 31 reach 256 GiB the well-trodden way, for 124 KiB.

mod contents;
mod directory;
mod feature;
mod inode;
mod quota;

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};

use self::contents::{Contents, Entry, links};
use self::inode::{FLAG_IMMUTABLE, Inode, extent};
use self::quota::Usage;
use super::crc32c;
use super::tree::{Kind, Tree};

const BLOCK: usize = 4096;
const BLOCKS_PER_GROUP: u32 = 8 * BLOCK as u32;
const RESERVED_GDT: u32 = 31;
/// One for each 16 KiB of the grown file system, as mke2fs has it, the first group's size
/// notwithstanding. Their table takes 2 MiB of each group's 128, and of the 16 that an image begins
/// with; half as many were used up by one workload's 4,067 empty files.
const INODES_PER_GROUP: u32 = 8192;
const INODE_SIZE: usize = 256;
const EXTRA_ISIZE: u16 = 32;
const DESCRIPTOR_SIZE: usize = 64;
/// JBD2_MIN_JOURNAL_BLOCKS; all that a file system of 16 MiB can spare. The largest transaction, a
/// chown with quotas, asks for 249 blocks (`ext4_setattr`) of the quarter that it may have.
const JOURNAL_BLOCKS: u32 = 1024;
/// Kept for root, so that `init` can still write when workloads have filled the rest. The kernel
/// scales it when it grows the file system.
const ROOT_PERCENT: u32 = 2;

const BITMAP_BLOCK: u32 = 2 + RESERVED_GDT;
const INODE_BITMAP: u32 = BITMAP_BLOCK + 1;
const INODE_TABLE: u32 = INODE_BITMAP + 1;
const TABLE_BLOCKS: u32 = INODES_PER_GROUP * INODE_SIZE as u32 / BLOCK as u32;
const ROOT_DIR: u32 = INODE_TABLE + TABLE_BLOCKS;
const LOST_FOUND: u32 = ROOT_DIR + 1;
const LOST_FOUND_BLOCKS: u32 = 4;
const RESIZE_BLOCK: u32 = LOST_FOUND + LOST_FOUND_BLOCKS;
const JOURNAL: u32 = RESIZE_BLOCK + 1;
const USED_BLOCKS: u32 = JOURNAL + JOURNAL_BLOCKS;

const ROOT_INO: u32 = 2;
const USER_QUOTA_INO: u32 = 3;
const RESIZE_INO: u32 = 7;
const JOURNAL_INO: u32 = 8;
const LOST_FOUND_INO: u32 = 11;
const USED_INODES: u32 = LOST_FOUND_INO;

const MODE_DIR: u16 = 0o040_000;
const MODE_FILE: u16 = 0o100_000;

/// Smallest image in bytes: with less than 2048 blocks half of it would be the journal.
pub const SIZE_MIN: u64 = 8 << 20;
/// Largest image in bytes: one block group. The device grows it, so that nothing larger has to be
/// made, shipped and written.
pub const SIZE_MAX: u64 = BLOCKS_PER_GROUP as u64 * BLOCK as u64;

/// What a file system is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes; a multiple of 4096 from [`SIZE_MIN`] to [`SIZE_MAX`].
    pub size: u64,
    /// Identity; the directories' hash seed comes from it too.
    pub uuid: [u8; 16],
    /// Up to 16 bytes of name.
    pub label: String,
    /// When it counts as made and last checked, in seconds of the Unix epoch.
    pub time: u32,
    /// Keep account of what each user's files take, so that the device can set limits. A kernel
    /// without the format `vfsv1` (CONFIG_QFMT_V2) does not mount it.
    pub quotas: bool,
}

fn refuse<T>(reason: String) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// Writes an empty file system at `out`'s current position: only blocks that are not zero, so that
/// `out` has to read as zeros there (a new file of the right length does). Fails on a size or label
/// that [`Options`] does not allow, and when `out` fails.
pub fn write(options: &Options, out: &mut (impl Write + Seek)) -> io::Result<()> {
    let start = out.stream_position()?;
    for (at, bytes) in blocks(options, &Tree::new(0))? {
        out.seek(SeekFrom::Start(start + at))?;
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// The file system with the files and directories of `tree`: each run of blocks that is not zero,
/// with its byte offset. All else has to read as zeros.
///
/// Fails as [`write()`] does, and when the tree has other nodes or does not fit.
pub fn blocks(options: &Options, tree: &Tree) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let size = options.size;
    if !size.is_multiple_of(BLOCK as u64) || !(SIZE_MIN..=SIZE_MAX).contains(&size) {
        return refuse(format!(
            "an ext4 of {size} bytes cannot be made here: give {SIZE_MIN} to {SIZE_MAX} bytes in \
             whole blocks of {BLOCK}; the device grows it"
        ));
    }
    if options.label.len() > 16 {
        return refuse(format!("the ext4 label {} has more than 16 bytes", options.label));
    }
    let quota_blocks = if options.quotas { quota_blocks(tree) } else { 0 };
    let contents = Contents::place(tree, ROOT_INO, USED_INODES + 1, USED_BLOCKS + quota_blocks)?;
    let layout = Layout::new(options, contents, quota_blocks);
    // What is kept for root stays free, or the device could not write down anything.
    let kept = (layout.blocks * ROOT_PERCENT).div_ceil(100);
    let room = layout.blocks.saturating_sub(USED_BLOCKS + quota_blocks + kept);
    if layout.contents.blocks > room || layout.used_inodes() > INODES_PER_GROUP {
        return refuse(format!(
            "the files need {} bytes and a file system of {size} bytes has room for {}",
            u64::from(layout.contents.blocks) * BLOCK as u64,
            u64::from(room) * BLOCK as u64
        ));
    }
    let runs = layout.blocks().into_iter();
    Ok(runs.map(|(block, bytes)| (u64::from(block) * BLOCK as u64, bytes)).collect())
}

/// Whether the file system with this superblock keeps account of what each user's files take.
pub fn has_quotas(superblock: &[u8; 1024]) -> bool {
    let features = [superblock[0x64], superblock[0x65], superblock[0x66], superblock[0x67]];
    u32::from_le_bytes(features) & feature::QUOTA != 0
}

struct Layout<'a> {
    options: &'a Options,
    contents: Contents<'a>,
    blocks: u32,
    /// Blocks of the file of quotas, which come before the contents.
    quota_blocks: u32,
    /// CRC of the UUID, which every other checksum continues.
    seed: u32,
}

/// Blocks that the file of quotas takes, which knows root and every owner.
fn quota_blocks(tree: &Tree) -> u32 {
    let mut users = BTreeMap::from([(0, Usage::default())]);
    users.extend(tree.iter().map(|(_, node)| (node.uid, Usage::default())));
    (quota::file(&users).len().div_ceil(BLOCK)) as u32
}

impl<'a> Layout<'a> {
    fn new(options: &'a Options, contents: Contents<'a>, quota_blocks: u32) -> Layout<'a> {
        let blocks = (options.size / BLOCK as u64) as u32;
        let seed = crc32c::update(!0, &options.uuid);
        Layout { options, contents, blocks, quota_blocks, seed }
    }

    fn used_blocks(&self) -> u32 {
        USED_BLOCKS + self.quota_blocks + self.contents.blocks
    }

    /// The file of quotas: what root and every owner of the contents have.
    fn quotas(&self) -> Vec<u8> {
        // Root's own are the root directory and lost+found; the reserved inodes do not count.
        let own = Usage { bytes: u64::from(1 + LOST_FOUND_BLOCKS) * BLOCK as u64, inodes: 2 };
        let mut users = BTreeMap::from([(0, own)]);
        for placed in &self.contents.placed {
            let usage = users.entry(placed.node.uid).or_default();
            usage.bytes += u64::from(placed.blocks) * BLOCK as u64;
            usage.inodes += 1;
        }
        quota::file(&users)
    }

    fn used_inodes(&self) -> u32 {
        USED_INODES + self.contents.placed.len() as u32
    }

    /// Every run of blocks that is not zero, with the number of its first block.
    fn blocks(&self) -> Vec<(u32, Vec<u8>)> {
        let inode_bitmap = bitmap(self.used_inodes(), INODES_PER_GROUP);
        let bitmap = bitmap(self.used_blocks(), self.blocks);
        let mut first = vec![0; 2 * BLOCK];
        first[1024..2048].copy_from_slice(&self.superblock());
        first[BLOCK..BLOCK + DESCRIPTOR_SIZE]
            .copy_from_slice(&self.descriptor(&bitmap, &inode_bitmap));
        let mut blocks = vec![
            (0, first),
            (BITMAP_BLOCK, bitmap),
            (INODE_BITMAP, inode_bitmap),
            (INODE_TABLE, self.inode_table()),
            (ROOT_DIR, self.root_directory()),
            (LOST_FOUND, self.directory(LOST_FOUND_INO, ROOT_INO, &[], &[])),
        ];
        for block in 1..LOST_FOUND_BLOCKS {
            blocks.push((LOST_FOUND + block, self.empty_directory_block(LOST_FOUND_INO)));
        }
        blocks.push((RESIZE_BLOCK, resize_block()));
        blocks.push((JOURNAL, journal_superblock()));
        if self.quota_blocks > 0 {
            let mut bytes = self.quotas();
            bytes.resize(self.quota_blocks as usize * BLOCK, 0);
            blocks.push((USED_BLOCKS, bytes));
        }
        for placed in self.contents.placed.iter().filter(|placed| placed.blocks > 0) {
            let bytes = match &placed.node.kind {
                Kind::File(content) => {
                    let mut bytes = content.bytes().to_vec();
                    bytes.resize(placed.blocks as usize * BLOCK, 0);
                    bytes
                }
                _ => self.directory(placed.inode, placed.parent, &[], &placed.entries),
            };
            blocks.push((placed.first, bytes));
        }
        blocks
    }

    fn root_directory(&self) -> Vec<u8> {
        let lost_found = Entry { inode: LOST_FOUND_INO, name: "lost+found", is_dir: true };
        self.directory(ROOT_INO, ROOT_INO, &[lost_found], &self.contents.root)
    }

    fn superblock(&self) -> [u8; 1024] {
        let mut bytes = [0; 1024];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let time = self.options.time.to_le_bytes();
        put(0x00, &INODES_PER_GROUP.to_le_bytes()); // inodes: one group
        put(0x04, &self.blocks.to_le_bytes());
        put(0x08, &(self.blocks * ROOT_PERCENT).div_ceil(100).to_le_bytes());
        put(0x0C, &(self.blocks - self.used_blocks()).to_le_bytes());
        put(0x10, &(INODES_PER_GROUP - self.used_inodes()).to_le_bytes());
        put(0x18, &2u32.to_le_bytes()); // block size: 1024 << 2
        put(0x1C, &2u32.to_le_bytes()); // cluster size, the same
        put(0x20, &BLOCKS_PER_GROUP.to_le_bytes());
        put(0x24, &BLOCKS_PER_GROUP.to_le_bytes()); // clusters
        put(0x28, &INODES_PER_GROUP.to_le_bytes());
        put(0x30, &time); // last written
        put(0x36, &u16::MAX.to_le_bytes()); // no check after a number of mounts
        put(0x38, &0xEF53u16.to_le_bytes());
        put(0x3A, &1u16.to_le_bytes()); // cleanly unmounted
        put(0x3C, &1u16.to_le_bytes()); // on errors: go on, as mke2fs has it
        put(0x40, &time); // last checked
        put(0x4C, &1u32.to_le_bytes()); // revision with the fields below
        put(0x54, &LOST_FOUND_INO.to_le_bytes()); // first inode that is not reserved
        put(0x58, &(INODE_SIZE as u16).to_le_bytes());
        put(0x5C, &feature::COMPAT.to_le_bytes());
        put(0x60, &feature::INCOMPAT.to_le_bytes());
        let quotas = if self.quota_blocks > 0 { feature::QUOTA } else { 0 };
        put(0x64, &(feature::RO_COMPAT | quotas).to_le_bytes());
        put(0x68, &self.options.uuid);
        put(0x78, self.options.label.as_bytes());
        put(0xCE, &(RESERVED_GDT as u16).to_le_bytes());
        put(0xE0, &JOURNAL_INO.to_le_bytes());
        put(0xEC, &self.hash_seed());
        put(0xFC, &[1, 1]); // half-MD4 directory hash; the journal's map is saved at 0x10C
        put(0xFE, &(DESCRIPTOR_SIZE as u16).to_le_bytes());
        put(0x100, &0xCu32.to_le_bytes()); // extended attributes and ACLs, as mke2fs has it
        put(0x108, &time); // made
        put(0x10C, &extent(JOURNAL, JOURNAL_BLOCKS));
        put(0x10C + 64, &(JOURNAL_BLOCKS * BLOCK as u32).to_le_bytes()); // size; its high half is 0
        put(0x15C, &EXTRA_ISIZE.to_le_bytes());
        put(0x15E, &EXTRA_ISIZE.to_le_bytes());
        put(0x160, &1u32.to_le_bytes()); // the hash takes names as signed characters
        if self.quota_blocks > 0 {
            put(0x240, &USER_QUOTA_INO.to_le_bytes());
        }
        put(0x174, &[4, 1]); // 16 groups in a flexible one; checksums are CRC-32C
        let checksum = crc32c::update(!0, &bytes[..0x3FC]);
        bytes[0x3FC..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The UUID with its bits turned over: another value, of the form of a random UUID.
    fn hash_seed(&self) -> [u8; 16] {
        let mut seed = self.options.uuid.map(|byte| !byte);
        seed[6] = seed[6] & 0x0F | 0x40;
        seed[8] = seed[8] & 0x3F | 0x80;
        seed
    }

    fn descriptor(&self, bitmap: &[u8], inode_bitmap: &[u8]) -> [u8; DESCRIPTOR_SIZE] {
        const INODES_ZEROED: u16 = 4;
        let mut bytes = [0; DESCRIPTOR_SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let bitmap_sum = crc32c::update(self.seed, &bitmap[..BLOCKS_PER_GROUP as usize / 8]);
        let inodes = &inode_bitmap[..INODES_PER_GROUP as usize / 8];
        let inode_sum = crc32c::update(self.seed, inodes);
        put(0x00, &BITMAP_BLOCK.to_le_bytes());
        put(0x04, &INODE_BITMAP.to_le_bytes());
        put(0x08, &INODE_TABLE.to_le_bytes());
        put(0x0C, &((self.blocks - self.used_blocks()) as u16).to_le_bytes());
        put(0x0E, &((INODES_PER_GROUP - self.used_inodes()) as u16).to_le_bytes());
        put(0x10, &((2 + self.contents.directories()) as u16).to_le_bytes());
        put(0x12, &INODES_ZEROED.to_le_bytes());
        put(0x18, &(bitmap_sum as u16).to_le_bytes());
        put(0x1A, &(inode_sum as u16).to_le_bytes());
        put(0x1C, &((INODES_PER_GROUP - self.used_inodes()) as u16).to_le_bytes()); // never used
        put(0x38, &((bitmap_sum >> 16) as u16).to_le_bytes());
        put(0x3A, &((inode_sum >> 16) as u16).to_le_bytes());
        // Of the group's number (0) and the descriptor, with its own field at 0x1E zero.
        let checksum = crc32c::update(crc32c::update(self.seed, &[0; 4]), &bytes);
        bytes[0x1E..0x20].copy_from_slice(&(checksum as u16).to_le_bytes());
        bytes
    }

    fn inode_table(&self) -> Vec<u8> {
        let root_links = links(&self.contents.root) + 1; // lost+found's `..`
        let root = Inode::new(MODE_DIR | 0o755, root_links, ROOT_DIR, 1);
        let lost_found = Inode::new(MODE_DIR | 0o700, 2, LOST_FOUND, LOST_FOUND_BLOCKS);
        let journal = Inode::new(MODE_FILE | 0o600, 1, JOURNAL, JOURNAL_BLOCKS);
        // Block-mapped, as the kernel expects of inode 7: its double-indirect block alone, and the
        // size of all that direct, indirect and double-indirect blocks could map.
        let mut map = [0; 60];
        map[13 * 4..14 * 4].copy_from_slice(&RESIZE_BLOCK.to_le_bytes());
        let pointers = BLOCK as u64 / 4;
        let size = 12 + pointers + pointers * pointers;
        let size = size * BLOCK as u64;
        let resize = Inode::new(MODE_FILE | 0o600, 1, 0, 1 + RESERVED_GDT);
        let resize = Inode { flags: 0, size, map, ..resize };

        let files = self.contents.placed.iter().map(|placed| {
            let mode = placed.node.st_mode();
            let inode = Inode::new(mode, placed.links(), placed.first, placed.blocks);
            let (uid, gid) = (placed.node.uid, placed.node.gid);
            (placed.inode, Inode { uid, gid, size: placed.size(), ..inode })
        });
        let quotas = Inode::new(MODE_FILE | 0o600, 1, USED_BLOCKS, self.quota_blocks);
        let quotas = Inode {
            flags: quotas.flags | FLAG_IMMUTABLE,
            size: if self.quota_blocks > 0 { self.quotas().len() as u64 } else { 0 },
            ..quotas
        };
        let quotas = (self.quota_blocks > 0).then_some((USER_QUOTA_INO, quotas));
        let own = [
            (ROOT_INO, root),
            (RESIZE_INO, resize),
            (JOURNAL_INO, journal),
            (LOST_FOUND_INO, lost_found),
        ];
        let mut table = vec![0; self.used_inodes() as usize * INODE_SIZE];
        for (number, inode) in own.into_iter().chain(quotas).chain(files) {
            let at = (number as usize - 1) * INODE_SIZE;
            table[at..at + INODE_SIZE].copy_from_slice(&self.inode(number, &inode));
        }
        table
    }

    fn inode(&self, number: u32, inode: &Inode) -> [u8; INODE_SIZE] {
        let mut bytes = [0; INODE_SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let time = self.options.time.to_le_bytes();
        put(0x00, &inode.mode.to_le_bytes());
        put(0x02, &(inode.uid as u16).to_le_bytes());
        put(0x04, &(inode.size as u32).to_le_bytes());
        for at in [0x08, 0x0C, 0x10, 0x90] {
            put(at, &time); // access, change, modification, creation
        }
        put(0x18, &(inode.gid as u16).to_le_bytes());
        put(0x1A, &inode.links.to_le_bytes());
        put(0x1C, &(inode.blocks * (BLOCK as u32 / 512)).to_le_bytes());
        put(0x20, &inode.flags.to_le_bytes());
        put(0x28, &inode.map);
        put(0x6C, &((inode.size >> 32) as u32).to_le_bytes());
        put(0x78, &((inode.uid >> 16) as u16).to_le_bytes());
        put(0x7A, &((inode.gid >> 16) as u16).to_le_bytes());
        put(0x80, &EXTRA_ISIZE.to_le_bytes());
        let checksum = crc32c::update(self.inode_seed(number), &bytes);
        bytes[0x7C..0x7E].copy_from_slice(&(checksum as u16).to_le_bytes());
        bytes[0x82..0x84].copy_from_slice(&((checksum >> 16) as u16).to_le_bytes());
        bytes
    }

    /// What checksums of an inode and its blocks start from: its number and generation (0).
    fn inode_seed(&self, number: u32) -> u32 {
        crc32c::update(crc32c::update(self.seed, &number.to_le_bytes()), &[0; 4])
    }
}

/// The first `used` bits set, and all from `end` on, which are outside the file system.
fn bitmap(used: u32, end: u32) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    for bit in (0..used).chain(end..8 * BLOCK as u32) {
        bytes[bit as usize / 8] |= 1 << (bit % 8);
    }
    bytes
}

/// The double-indirect block of inode 7. Its entry for each future descriptor block names the block
/// kept for it; those, as indirect blocks, list the copies in other groups: none yet.
fn resize_block() -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    for index in 1..=RESERVED_GDT {
        let at = index as usize * 4;
        bytes[at..at + 4].copy_from_slice(&(1 + index).to_le_bytes());
    }
    bytes
}

/// An empty journal's first block (struct journal_superblock_s; big-endian).
fn journal_superblock() -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    for (at, value) in [
        (0x00, 0xC03B_3998),
        (0x04, 4), // superblock, version 2
        (0x0C, BLOCK as u32),
        (0x10, JOURNAL_BLOCKS),
        (0x14, 1), // first block of the log
        (0x18, 1), // first sequence
        (0x40, 1), // file systems that use it
    ] {
        bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
    }
    bytes
}

#[cfg(test)]
mod tests;
