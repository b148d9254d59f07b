//! The blocks of directories.

use super::contents::{Entry, entry_length};
use super::{BLOCK, Layout};
use crate::crc32c;

/// Bytes at a directory block's end that look like an unused entry and hold its checksum.
pub const DIR_TAIL: usize = 12;

impl Layout<'_> {
    /// A directory's one block: `.`, `..`, and the entries of both lists.
    pub(super) fn directory(&self, number: u32, parent: u32, a: &[Entry], b: &[Entry]) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let (mut at, mut last) = (0, 0);
        let own = [(number, ".", true), (parent, "..", true)];
        let others = a.iter().chain(b).map(|entry| (entry.inode, entry.name, entry.is_dir));
        for (inode, name, is_dir) in own.into_iter().chain(others) {
            let length = entry_length(name);
            block[at..at + 4].copy_from_slice(&inode.to_le_bytes());
            block[at + 4..at + 6].copy_from_slice(&(length as u16).to_le_bytes());
            block[at + 6] = name.len() as u8;
            block[at + 7] = if is_dir { 2 } else { 1 };
            block[at + 8..at + 8 + name.len()].copy_from_slice(name.as_bytes());
            (last, at) = (at, at + length);
        }
        // The last entry reaches to the checksum.
        let rest = (BLOCK - DIR_TAIL - last) as u16;
        block[last + 4..last + 6].copy_from_slice(&rest.to_le_bytes());
        self.seal_directory(number, block)
    }

    pub(super) fn empty_directory_block(&self, number: u32) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[4..6].copy_from_slice(&((BLOCK - DIR_TAIL) as u16).to_le_bytes());
        self.seal_directory(number, block)
    }

    fn seal_directory(&self, number: u32, mut block: Vec<u8>) -> Vec<u8> {
        let tail = BLOCK - DIR_TAIL;
        let checksum = crc32c::update(self.inode_seed(number), &block[..tail]);
        block[tail + 4..tail + 6].copy_from_slice(&(DIR_TAIL as u16).to_le_bytes());
        block[tail + 7] = 0xDE;
        block[tail + 8..].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}
