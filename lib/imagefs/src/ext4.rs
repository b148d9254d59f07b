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

mod block;
mod contents;
mod directory;
mod feature;
mod inode;
mod quota;

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::mem::offset_of;

use zerocopy::{FromZeros, IntoBytes, transmute_ref};

use self::block::{BLOCK, refuse};
use self::contents::{Contents, Entry, links};
use self::inode::{FLAG_IMMUTABLE, Inode, extent};
use self::quota::Usage;
use super::crc32c;
use super::ext4_fs::{
    self, GroupDesc, JOURNAL_MAGIC, JournalBackup, JournalSuperBlock, SUPER_MAGIC, SuperBlock,
};
use super::tree::{Kind, Tree};

const BLOCKS_PER_GROUP: u32 = 8 * BLOCK as u32;
const RESERVED_GDT: u32 = 31;
/// One for each 16 KiB of the grown file system, as mke2fs has it, the first group's size
/// notwithstanding. Their table takes 2 MiB of each group's 128, and of the 16 that an image begins
/// with; half as many were used up by one workload's 4,067 empty files.
const INODES_PER_GROUP: u32 = 8192;
const INODE_SIZE: usize = 256;
const EXTRA_ISIZE: u16 = 32;
const DESCRIPTOR_SIZE: usize = size_of::<GroupDesc>();
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
    let superblock: &SuperBlock = transmute_ref!(superblock);
    superblock.s_feature_ro_compat.get() & feature::QUOTA != 0
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
        first[1024..2048].copy_from_slice(self.superblock().as_bytes());
        first[BLOCK..BLOCK + DESCRIPTOR_SIZE]
            .copy_from_slice(self.descriptor(&bitmap, &inode_bitmap).as_bytes());
        let mut blocks = vec![
            (0, first),
            (BITMAP_BLOCK, bitmap),
            (INODE_BITMAP, inode_bitmap),
            (INODE_TABLE, self.inode_table()),
            (ROOT_DIR, self.root_directory()),
            (LOST_FOUND, self.directory(LOST_FOUND_INO, ROOT_INO, &[], &[])),
        ];
        for block in 1..LOST_FOUND_BLOCKS {
            blocks.push((
                LOST_FOUND + block,
                directory::empty_block(self.inode_seed(LOST_FOUND_INO)),
            ));
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

    fn directory(&self, number: u32, parent: u32, a: &[Entry], b: &[Entry]) -> Vec<u8> {
        directory::block(self.inode_seed(number), number, parent, a, b)
    }

    fn root_directory(&self) -> Vec<u8> {
        let lost_found = Entry { inode: LOST_FOUND_INO, name: "lost+found", is_dir: true };
        self.directory(ROOT_INO, ROOT_INO, &[lost_found], &self.contents.root)
    }

    fn superblock(&self) -> SuperBlock {
        let time = self.options.time.into();
        let mut label = [0; 16];
        label[..self.options.label.len()].copy_from_slice(self.options.label.as_bytes());
        let (quotas, usr_quota_inum) = match self.quota_blocks {
            0 => (0, 0),
            _ => (feature::QUOTA, USER_QUOTA_INO),
        };
        let mut sb = SuperBlock {
            s_inodes_count: INODES_PER_GROUP.into(), // one group
            s_blocks_count_lo: self.blocks.into(),
            s_r_blocks_count_lo: (self.blocks * ROOT_PERCENT).div_ceil(100).into(),
            s_free_blocks_count_lo: (self.blocks - self.used_blocks()).into(),
            s_free_inodes_count: (INODES_PER_GROUP - self.used_inodes()).into(),
            s_log_block_size: 2.into(), // 1024 << 2
            s_log_cluster_size: 2.into(),
            s_blocks_per_group: BLOCKS_PER_GROUP.into(),
            s_clusters_per_group: BLOCKS_PER_GROUP.into(),
            s_inodes_per_group: INODES_PER_GROUP.into(),
            s_wtime: time,
            s_max_mnt_count: u16::MAX.into(), // no check after a number of mounts
            s_magic: SUPER_MAGIC.into(),
            s_state: 1.into(),  // cleanly unmounted
            s_errors: 1.into(), // go on, as mke2fs has it
            s_lastcheck: time,
            s_rev_level: 1.into(), // with the fields below
            s_first_ino: LOST_FOUND_INO.into(),
            s_inode_size: (INODE_SIZE as u16).into(),
            s_feature_compat: feature::COMPAT.into(),
            s_feature_incompat: feature::INCOMPAT.into(),
            s_feature_ro_compat: (feature::RO_COMPAT | quotas).into(),
            s_uuid: self.options.uuid,
            s_volume_name: label,
            s_reserved_gdt_blocks: (RESERVED_GDT as u16).into(),
            s_journal_inum: JOURNAL_INO.into(),
            s_hash_seed: self.hash_seed(),
            s_def_hash_version: 1, // half-MD4
            s_jnl_backup_type: 1,  // the journal's inode is in s_jnl_blocks
            s_desc_size: (DESCRIPTOR_SIZE as u16).into(),
            s_default_mount_opts: 0xC.into(), // extended attributes and ACLs, as mke2fs has it
            s_mkfs_time: time,
            s_jnl_blocks: JournalBackup {
                i_block: extent(JOURNAL, JOURNAL_BLOCKS),
                i_size_high: 0.into(),
                i_size_lo: (JOURNAL_BLOCKS * BLOCK as u32).into(),
            },
            s_min_extra_isize: EXTRA_ISIZE.into(),
            s_want_extra_isize: EXTRA_ISIZE.into(),
            s_flags: 1.into(), // the hash takes names as signed characters
            s_log_groups_per_flex: 4,
            s_checksum_type: 1, // CRC-32C
            s_usr_quota_inum: usr_quota_inum.into(),
            ..FromZeros::new_zeroed()
        };
        let checksum = crc32c::update(!0, &sb.as_bytes()[..offset_of!(SuperBlock, s_checksum)]);
        sb.s_checksum = checksum.into();
        sb
    }

    /// The UUID with its bits turned over: another value, of the form of a random UUID.
    fn hash_seed(&self) -> [u8; 16] {
        let mut seed = self.options.uuid.map(|byte| !byte);
        seed[6] = seed[6] & 0x0F | 0x40;
        seed[8] = seed[8] & 0x3F | 0x80;
        seed
    }

    fn descriptor(&self, bitmap: &[u8], inode_bitmap: &[u8]) -> GroupDesc {
        const INODES_ZEROED: u16 = 4;
        let bitmap_sum = crc32c::update(self.seed, &bitmap[..BLOCKS_PER_GROUP as usize / 8]);
        let inodes = &inode_bitmap[..INODES_PER_GROUP as usize / 8];
        let inode_sum = crc32c::update(self.seed, inodes);
        let free_inodes = (INODES_PER_GROUP - self.used_inodes()) as u16;
        let mut descriptor = GroupDesc {
            bg_block_bitmap_lo: BITMAP_BLOCK.into(),
            bg_inode_bitmap_lo: INODE_BITMAP.into(),
            bg_inode_table_lo: INODE_TABLE.into(),
            bg_free_blocks_count_lo: ((self.blocks - self.used_blocks()) as u16).into(),
            bg_free_inodes_count_lo: free_inodes.into(),
            bg_used_dirs_count_lo: ((2 + self.contents.directories()) as u16).into(),
            bg_flags: INODES_ZEROED.into(),
            bg_block_bitmap_csum_lo: (bitmap_sum as u16).into(),
            bg_inode_bitmap_csum_lo: (inode_sum as u16).into(),
            bg_itable_unused_lo: free_inodes.into(),
            bg_block_bitmap_csum_hi: ((bitmap_sum >> 16) as u16).into(),
            bg_inode_bitmap_csum_hi: ((inode_sum >> 16) as u16).into(),
            ..FromZeros::new_zeroed()
        };
        // Of the group's number (0) and the descriptor, with its own field zero.
        let seed = crc32c::update(self.seed, &[0; 4]);
        descriptor.bg_checksum = (crc32c::update(seed, descriptor.as_bytes()) as u16).into();
        descriptor
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
        let time = self.options.time.into();
        let mut raw = ext4_fs::Inode {
            i_mode: inode.mode.into(),
            i_uid: (inode.uid as u16).into(),
            i_size_lo: (inode.size as u32).into(),
            i_atime: time,
            i_ctime: time,
            i_mtime: time,
            i_gid: (inode.gid as u16).into(),
            i_links_count: inode.links.into(),
            i_blocks_lo: (inode.blocks * (BLOCK as u32 / 512)).into(),
            i_flags: inode.flags.into(),
            i_block: inode.map,
            i_size_high: ((inode.size >> 32) as u32).into(),
            l_i_uid_high: ((inode.uid >> 16) as u16).into(),
            l_i_gid_high: ((inode.gid >> 16) as u16).into(),
            i_extra_isize: EXTRA_ISIZE.into(),
            i_crtime: time,
            ..FromZeros::new_zeroed()
        };
        let mut bytes = [0; INODE_SIZE];
        let end = size_of_val(&raw);
        bytes[..end].copy_from_slice(raw.as_bytes());
        let checksum = crc32c::update(self.inode_seed(number), &bytes);
        raw.l_i_checksum_lo = (checksum as u16).into();
        raw.i_checksum_hi = ((checksum >> 16) as u16).into();
        bytes[..end].copy_from_slice(raw.as_bytes());
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

/// An empty journal's first block.
fn journal_superblock() -> Vec<u8> {
    let superblock = JournalSuperBlock {
        h_magic: JOURNAL_MAGIC.into(),
        h_blocktype: 4.into(), // superblock, version 2
        s_blocksize: (BLOCK as u32).into(),
        s_maxlen: JOURNAL_BLOCKS.into(),
        s_first: 1.into(),
        s_sequence: 1.into(),
        s_nr_users: 1.into(),
        ..FromZeros::new_zeroed()
    };
    let mut bytes = vec![0; BLOCK];
    bytes[..size_of_val(&superblock)].copy_from_slice(superblock.as_bytes());
    bytes
}

#[cfg(test)]
mod tests;
