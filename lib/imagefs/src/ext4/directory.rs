//! The blocks of directories.

use zerocopy::IntoBytes;

use super::block::BLOCK;
use super::contents::{Entry, entry_length};
use crate::crc32c;
use crate::ext4_fs::{DIR_TAIL, DirEntry, DirEntryTail};

/// A directory's one block: `.`, `..`, and the entries of both lists. `seed` is
/// what the checksums of its inode's blocks start from.
pub fn block(seed: u32, number: u32, parent: u32, a: &[Entry], b: &[Entry]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let (mut at, mut last) = (0, 0);
    let own = [(number, ".", true), (parent, "..", true)];
    let others = a.iter().chain(b).map(|entry| (entry.inode, entry.name, entry.is_dir));
    for (inode, name, is_dir) in own.into_iter().chain(others) {
        let length = entry_length(name);
        let entry = DirEntry {
            inode: inode.into(),
            rec_len: (length as u16).into(),
            name_len: name.len() as u8,
            file_type: if is_dir { 2 } else { 1 },
        };
        block[at..at + 8].copy_from_slice(entry.as_bytes());
        block[at + 8..at + 8 + name.len()].copy_from_slice(name.as_bytes());
        (last, at) = (at, at + length);
    }
    // The last entry reaches to the checksum.
    let rest = (BLOCK - DIR_TAIL - last) as u16;
    block[last + 4..last + 6].copy_from_slice(&rest.to_le_bytes());
    seal(seed, block)
}

/// A directory's further block, with no name in it. `seed` as in [`block`].
pub fn empty_block(seed: u32) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[4..6].copy_from_slice(&((BLOCK - DIR_TAIL) as u16).to_le_bytes());
    seal(seed, block)
}

fn seal(seed: u32, mut block: Vec<u8>) -> Vec<u8> {
    let tail = BLOCK - DIR_TAIL;
    let checksum = crc32c::update(seed, &block[..tail]);
    let seal = DirEntryTail {
        det_reserved_zero1: 0.into(),
        det_rec_len: (DIR_TAIL as u16).into(),
        det_reserved_zero2: 0,
        det_reserved_ft: 0xDE,
        det_checksum: checksum.into(),
    };
    block[tail..].copy_from_slice(seal.as_bytes());
    block
}
