//! How much each user's files take: the hidden file of inode 3, in the kernel's format "vfsv1"
//! (fs/quota/quota_tree.c, fs/quota/quotaio_v2.h, struct v2r1_disk_dqblk).
//!
//! A tree of blocks of 1024 bytes: block 0 is the header, block 1 the root. Four steps, each by one
//! byte of the user's number, highest first, lead to the block with the user's entry. There are no
//! limits in it: the device sets them when it knows how large it is.

use std::collections::BTreeMap;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of a block of the tree (`V2_DQBLKSIZE_BITS`).
const BLOCK: usize = 1024;
/// `V2_INITQMAGICS` and `V2_INITQVERSIONS` for users.
const MAGIC: u32 = 0xD9C0_1F11;
const VERSION: u32 = 1;
/// For how long a soft limit may be exceeded, in seconds: a week, as mke2fs has it. No soft limits
/// are set.
const GRACE: u32 = 7 * 24 * 3600;
/// The root of the tree (`QT_TREEOFF`).
const ROOT: u32 = 1;
const ENTRY: usize = size_of::<DiskQuota>();
const ENTRIES_AT: usize = size_of::<LeafHeader>();
/// Entries in a block.
const ENTRIES: usize = (BLOCK - ENTRIES_AT) / ENTRY;

/// `struct v2_disk_dqheader` and the `struct v2_disk_dqinfo` behind it.
#[derive(IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    dqh_magic: U32,
    dqh_version: U32,
    dqi_bgrace: U32,
    dqi_igrace: U32,
    dqi_flags: U32,
    dqi_blocks: U32,
    dqi_free_blk: U32,
    /// A leaf with room for another entry; 0 for none.
    dqi_free_entry: U32,
}

/// `struct qt_disk_dqdbheader`: the start of a block with entries.
#[derive(FromZeros, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct LeafHeader {
    dqdh_next_free: U32,
    dqdh_prev_free: U32,
    dqdh_entries: U16,
    dqdh_pad1: U16,
    dqdh_pad2: U32,
}

/// `struct v2r1_disk_dqblk`. One of zeros alone is not used; no user here takes nothing.
#[derive(FromZeros, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct DiskQuota {
    dqb_id: U32,
    dqb_pad: U32,
    dqb_ihardlimit: U64,
    dqb_isoftlimit: U64,
    dqb_curinodes: U64,
    dqb_bhardlimit: U64,
    dqb_bsoftlimit: U64,
    dqb_curspace: U64,
    dqb_btime: U64,
    dqb_itime: U64,
}

/// What one user's files take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of blocks.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// The file's bytes for these users.
pub fn file(users: &BTreeMap<u32, Usage>) -> Vec<u8> {
    let mut file = vec![0; 2 * BLOCK];
    let mut open = None;
    for (user, usage) in users {
        let reference = lead_to(&mut file, *user);
        // A leaf that is full is left behind; the next user's entry opens another one.
        let (leaf, entries) = match open {
            Some((leaf, entries)) if entries < ENTRIES => (leaf, entries),
            _ => (add_block(&mut file), 0),
        };
        put(&mut file, reference, &U32::from(leaf));
        let at = leaf as usize * BLOCK;
        let mut header = LeafHeader::new_zeroed();
        header.dqdh_entries = (entries as u16 + 1).into();
        put(&mut file, at, &header);
        let mut entry = DiskQuota::new_zeroed();
        entry.dqb_id = (*user).into();
        entry.dqb_curinodes = usage.inodes.into();
        entry.dqb_curspace = usage.bytes.into();
        put(&mut file, at + ENTRIES_AT + entries * ENTRY, &entry);
        open = Some((leaf, entries + 1));
    }
    let blocks = (file.len() / BLOCK) as u32;
    let with_room = open.filter(|(_, entries)| *entries < ENTRIES).map_or(0, |(leaf, _)| leaf);
    let header = Header {
        dqh_magic: MAGIC.into(),
        dqh_version: VERSION.into(),
        dqi_bgrace: GRACE.into(),
        dqi_igrace: GRACE.into(),
        dqi_flags: 0.into(),
        dqi_blocks: blocks.into(),
        dqi_free_blk: 0.into(),
        dqi_free_entry: with_room.into(),
    };
    put(&mut file, 0, &header);
    file
}

/// Makes the steps of the tree to this user, and returns where the reference to the leaf belongs.
fn lead_to(file: &mut Vec<u8>, user: u32) -> usize {
    let [first, second, third, last] = user.to_be_bytes();
    let mut block = ROOT;
    for step in [first, second, third] {
        let at = block as usize * BLOCK + usize::from(step) * 4;
        block = u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
        if block == 0 {
            block = add_block(file);
            put(file, at, &U32::from(block));
        }
    }
    block as usize * BLOCK + usize::from(last) * 4
}

fn add_block(file: &mut Vec<u8>) -> u32 {
    let number = (file.len() / BLOCK) as u32;
    file.resize(file.len() + BLOCK, 0);
    number
}

fn put(file: &mut [u8], at: usize, what: &(impl IntoBytes + Immutable)) {
    file[at..at + size_of_val(what)].copy_from_slice(what.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::super::external_tools;
    use super::*;

    #[test]
    fn an_empty_file_systems_is_what_mke2fs_makes() {
        let work = tempfile::tempdir().unwrap();
        let (image, to) = (work.path().join("image"), work.path().join("quota"));
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let args = "-q -F -t ext4 -b 4096 -O quota -E quotatype=usrquota";
        let args = args.split(' ').map(Into::into).chain([image.clone().into()]);
        external_tools::run("mke2fs", "e2fsprogs", &args.collect::<Vec<_>>());
        let dump = format!("dump <3> {}", to.display());
        external_tools::run("debugfs", "e2fsprogs", &["-R".into(), dump.into(), image.into()]);
        let ours = file(&BTreeMap::from([(0, Usage { bytes: 20_480, inodes: 2 })]));
        assert!(ours == std::fs::read(to).unwrap());
    }

    #[test]
    fn many_users_fill_several_leaves() {
        let users = (0..40).map(|n| (n * 70_001, Usage { bytes: 4096, inodes: 1 })).collect();
        let file = file(&users);
        let words = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        for user in users.keys() {
            let steps = user.to_be_bytes();
            let leaf = steps
                .iter()
                .fold(ROOT, |block, step| words(block as usize * BLOCK + usize::from(*step) * 4));
            let at = leaf as usize * BLOCK;
            let mut entries = (0..ENTRIES).map(|n| words(at + ENTRIES_AT + n * ENTRY));
            assert!(entries.any(|found| found == *user), "{user}");
        }
    }
}
