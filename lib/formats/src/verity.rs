//! The dm-verity hash tree: SHA-256, 4096-byte blocks, hash format 1 (salt first), no superblock.
//!
//! Source: Linux `Documentation/admin-guide/device-mapper/verity.rst`. The tree is written as the
//! kernel reads it: the highest level first, the level of the data blocks' hashes last.

use sha2::{Digest, Sha256};

use crate::layout::BLOCK;
use crate::manifest::Sha256Digest;

const BLOCK_SIZE: usize = BLOCK as usize;
const HASHES_PER_BLOCK: usize = BLOCK_SIZE / 32;
/// Bytes read at once.
const PIECE: usize = 64 * BLOCK_SIZE;

/// A finished hash tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The bytes that follow the data on the partition; whole blocks.
    pub bytes: Vec<u8>,
    /// The root hash.
    pub root_hash: Sha256Digest,
}

/// Builds the tree over `data`: two or more whole blocks. (The kernel has no tree for one block.)
pub fn build(data: &[u8], salt: &[u8; 32]) -> Tree {
    assert!(
        data.len() >= 2 * BLOCK_SIZE && data.len().is_multiple_of(BLOCK_SIZE),
        "verity hashes two or more whole blocks"
    );
    let salted = Sha256::new_with_prefix(salt);
    finish(hash_level(data, &salted), &salted)
}

/// As [`build`] for `size` bytes that are read piece by piece, on one processor and in little
/// memory: 32 bytes for each block. `read` fills the buffer from an offset.
pub fn build_by_reading<E>(
    size: u64,
    salt: &[u8; 32],
    read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<Tree, E> {
    let above = upper_size(size) as usize;
    let mut bytes = Vec::with_capacity(tree_size(size) as usize);
    bytes.resize(above, 0);
    let upper = lowest_by_reading(size, salt, read, |block| {
        bytes.extend_from_slice(block);
        Ok(())
    })?;
    bytes[..above].copy_from_slice(&upper.bytes);
    Ok(Tree { bytes, root_hash: upper.root_hash })
}

/// As [`build_by_reading`] in memory that hardly grows with `size` (64 bytes for each MiB): each block of the lowest level goes to `emit`, in order; given back are the levels
/// above it, which stand before it, and the root hash.
pub fn lowest_by_reading<E>(
    size: u64,
    salt: &[u8; 32],
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    mut emit: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Tree, E> {
    assert!(size >= 2 * BLOCK && size.is_multiple_of(BLOCK), "verity hashes two or more blocks");
    let salted = Sha256::new_with_prefix(salt);
    let mut piece = vec![0; PIECE];
    let (mut lowest, mut above) = (Vec::with_capacity(BLOCK_SIZE), Vec::new());
    for at in (0..size).step_by(PIECE) {
        let length = (size - at).min(PIECE as u64) as usize;
        read(at, &mut piece[..length])?;
        let last = at + length as u64 == size;
        let blocks = length / BLOCK_SIZE;
        for (number, block) in piece[..length].chunks_exact(BLOCK_SIZE).enumerate() {
            lowest.extend_from_slice(&hash_block(block, &salted));
            if lowest.len() == BLOCK_SIZE || last && number + 1 == blocks {
                lowest.resize(BLOCK_SIZE, 0);
                emit(&lowest)?;
                above.extend_from_slice(&hash_block(&lowest, &salted));
                lowest.clear();
            }
        }
    }
    // One block in the lowest level is the top: its hash is the root's.
    if let Ok(root_hash) = above.as_slice().try_into() {
        return Ok(Tree { bytes: Vec::new(), root_hash });
    }
    above.resize(above.len().next_multiple_of(BLOCK_SIZE), 0);
    Ok(finish(above, &salted))
}

/// Bytes of the levels above the lowest one.
pub fn upper_size(data_size: u64) -> u64 {
    tree_size(data_size) - (data_size / BLOCK).div_ceil(HASHES_PER_BLOCK as u64) * BLOCK
}

/// The levels above the lowest one.
fn finish(lowest: Vec<u8>, salted: &Sha256) -> Tree {
    let mut levels = vec![lowest];
    while levels[levels.len() - 1].len() > BLOCK_SIZE {
        let next = hash_level(&levels[levels.len() - 1], salted);
        levels.push(next);
    }
    let top = &levels[levels.len() - 1];
    Tree {
        root_hash: hash_block(top, salted),
        bytes: levels.iter().rev().flatten().copied().collect(),
    }
}

/// Bytes of the tree over `data_size` bytes.
pub fn tree_size(data_size: u64) -> u64 {
    let mut blocks = data_size / BLOCK;
    let mut total = 0;
    loop {
        blocks = blocks.div_ceil(HASHES_PER_BLOCK as u64);
        total += blocks;
        if blocks <= 1 {
            return total * BLOCK;
        }
    }
}

/// In how many parts [`part_is_whole`] looks at `data_size` bytes: one for each block of the lowest
/// level.
pub fn parts(data_size: u64) -> u64 {
    (data_size / BLOCK).div_ceil(HASHES_PER_BLOCK as u64)
}

/// Whether part `part` of the data, the block of the lowest level that has its hashes, and all
/// blocks above that are what `root_hash` says. All parts are whole: so are data and tree.
///
/// `read` fills the buffer from an offset; the tree lies right behind the `data_size` bytes.
pub fn part_is_whole<E>(
    data_size: u64,
    salt: &[u8; 32],
    root_hash: &Sha256Digest,
    part: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<bool, E> {
    let salted = Sha256::new_with_prefix(salt);
    let per_block = HASHES_PER_BLOCK as u64;
    // Blocks of each level, the lowest first, and where each begins: the highest stands first.
    let mut levels = vec![parts(data_size)];
    while levels[levels.len() - 1] > 1 {
        levels.push(levels[levels.len() - 1].div_ceil(per_block));
    }
    let mut start = data_size;
    let mut starts = vec![0; levels.len()];
    for (level, blocks) in levels.iter().enumerate().rev() {
        starts[level] = start;
        start += blocks * BLOCK;
    }
    let first = part * per_block;
    let blocks = per_block.min((data_size / BLOCK).saturating_sub(first)) as usize;
    let mut data = vec![0; blocks * BLOCK_SIZE];
    read(first * BLOCK, &mut data)?;
    let mut hashes = vec![0; BLOCK_SIZE];
    read(starts[0] + part * BLOCK, &mut hashes)?;
    let mut lowest = data.chunks_exact(BLOCK_SIZE).zip(hashes.chunks_exact(32));
    if !lowest.all(|(block, hash)| hash_block(block, &salted)[..] == *hash) {
        return Ok(false);
    }
    let mut index = part;
    for start in &starts[1..] {
        let hash = hash_block(&hashes, &salted);
        let at = (index % per_block) as usize * 32;
        index /= per_block;
        read(start + index * BLOCK, &mut hashes)?;
        if hashes[at..at + 32] != hash {
            return Ok(false);
        }
    }
    Ok(hash_block(&hashes, &salted) == *root_hash)
}

/// The hashes of all blocks of one level, padded with zeros to whole blocks.
fn hash_level(level: &[u8], salted: &Sha256) -> Vec<u8> {
    let blocks = level.len() / BLOCK_SIZE;
    let mut hashes = vec![0; blocks.div_ceil(HASHES_PER_BLOCK) * BLOCK_SIZE];
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let share = blocks.div_ceil(workers).max(1);
    std::thread::scope(|scope| {
        for (blocks, out) in level.chunks(share * BLOCK_SIZE).zip(hashes.chunks_mut(share * 32)) {
            scope.spawn(move || {
                for (block, hash) in blocks.chunks_exact(BLOCK_SIZE).zip(out.chunks_exact_mut(32)) {
                    hash.copy_from_slice(&hash_block(block, salted));
                }
            });
        }
    });
    hashes
}

fn hash_block(block: &[u8], salted: &Sha256) -> Sha256Digest {
    let mut hash = salted.clone();
    hash.update(block);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_known_before_the_tree() {
        for blocks in [2, 127, 128, 129, 16384, 16385] {
            let data = vec![1; blocks * BLOCK_SIZE];
            let tree = build(&data, &[0; 32]);
            assert_eq!(tree.bytes.len() as u64, tree_size(data.len() as u64), "{blocks} blocks");
            let read = |at: u64, buffer: &mut [u8]| {
                let at = at as usize;
                buffer.copy_from_slice(data.get(at..at + buffer.len()).ok_or("read too far")?);
                Ok::<(), &str>(())
            };
            let size = data.len() as u64;
            assert_eq!(build_by_reading(size, &[0; 32], read), Ok(tree), "{blocks} blocks");
            assert_eq!(build_by_reading(size + BLOCK, &[0; 32], read), Err("read too far"));
        }
    }

    #[test]
    fn each_part_tells_its_own_damage() {
        let salt = [3; 32];
        for blocks in [2u64, 127, 128, 129, 16_384, 16_385, 16_600] {
            let size = (blocks * BLOCK) as usize;
            let mut medium: Vec<u8> = (0..size).map(|n| (n / 4096 % 251) as u8).collect();
            let tree = build(&medium, &salt);
            medium.extend_from_slice(&tree.bytes);
            let whole = |medium: &[u8], part: u64| {
                part_is_whole(size as u64, &salt, &tree.root_hash, part, |at, buffer| {
                    let at = at as usize;
                    buffer.copy_from_slice(medium.get(at..at + buffer.len()).ok_or("too far")?);
                    Ok::<(), &str>(())
                })
                .unwrap()
            };
            let parts = parts(size as u64);
            let damaged = |medium: &[u8]| -> Vec<u64> {
                (0..parts).filter(|part| !whole(medium, *part)).collect()
            };
            assert_eq!(damaged(&medium), [] as [u64; 0], "{blocks} blocks");
            for block in [0, blocks / 2, blocks - 1] {
                let at = (block * BLOCK + 9) as usize;
                medium[at] ^= 1;
                assert_eq!(damaged(&medium), [block / 128], "block {block} of {blocks}");
                medium[at] ^= 1;
            }
            // The top of the tree is everybody's, the last byte is the lowest level's padding.
            medium[size] ^= 1;
            assert_eq!(damaged(&medium).len() as u64, parts, "{blocks} blocks");
            medium[size] ^= 1;
            let last = medium.len() - 1;
            medium[last] ^= 1;
            assert_eq!(damaged(&medium), [parts - 1], "{blocks} blocks");
        }
    }

    #[test]
    fn every_block_matters() {
        let mut data = vec![0; 200 * BLOCK_SIZE];
        let root = build(&data, &[5; 32]).root_hash;
        for block in [0, 1, 127, 128, 199] {
            data[block * BLOCK_SIZE + 17] ^= 1;
            assert_ne!(build(&data, &[5; 32]).root_hash, root, "block {block}");
            data[block * BLOCK_SIZE + 17] ^= 1;
        }
        assert_eq!(build(&data, &[5; 32]).root_hash, root);
        assert_ne!(build(&data, &[6; 32]).root_hash, root);
    }
}
