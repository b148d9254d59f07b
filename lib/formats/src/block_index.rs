//! The `.index` file: a short hash of each block of a slot stream, so that a device can put chunks
//! together from blocks that it has. The format is drawn in `docs/updates.md`.
//!
//! A short hash only says where to look: what is put together is compared with its chunk's signed
//! hash, so that two blocks with one short hash cost a fetch and nothing else.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::layout::BLOCK;
use crate::manifest::Manifest;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"FERRINDX";
const VERSION: u32 = 1;
/// Bytes before the bits of the zero blocks.
const FIXED: usize = 24;
/// Bytes of a short hash. With 2^18 blocks (1 GiB) on either side, one pair in 4096 images meets
/// by chance.
const SHORT: usize = 6;
/// The most blocks: 256 GiB, an index of 400 MB. No index of a real device comes near.
const MAX_BLOCKS: u64 = 1 << 26;
/// Bytes of the bits for which one rank is kept.
const RANKED: usize = 64;

/// The first bytes of a block's SHA-256.
pub type ShortHash = [u8; SHORT];

/// What an index says of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// It is all zeros.
    Zero,
    /// It has this short hash.
    Short(ShortHash),
}

impl Block {
    /// What an index would say of these bytes.
    pub fn of(bytes: &[u8]) -> Block {
        if bytes.iter().all(|byte| *byte == 0) {
            return Block::Zero;
        }
        let mut short = [0; SHORT];
        short.copy_from_slice(&Sha256::digest(bytes)[..SHORT]);
        Block::Short(short)
    }
}

/// Bytes of the stream that an index covers: boot image and root, the verity tree not.
pub fn covered(manifest: &Manifest) -> u64 {
    manifest.boot_size + manifest.root_size
}

/// The most bytes that the index over `covered` bytes can have.
pub fn max_size(covered: u64) -> u64 {
    let blocks = covered.div_ceil(BLOCK);
    FIXED as u64 + blocks.div_ceil(8) + blocks * SHORT as u64
}

/// Writes the index of a stream that is given in parts, each of whole blocks.
pub fn encode(parts: &[&[u8]]) -> Result<Vec<u8>> {
    if parts.iter().any(|part| !(part.len() as u64).is_multiple_of(BLOCK)) {
        return Err(Error::new("a block index needs whole blocks"));
    }
    let covered = parts.iter().map(|part| part.len() as u64).sum::<u64>();
    let count = block_count(covered)?;
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(BLOCK as u32).to_le_bytes());
    bytes.extend_from_slice(&covered.to_le_bytes());
    bytes.resize(FIXED + count.div_ceil(8), 0);
    let blocks = parts.iter().flat_map(|part| part.chunks_exact(BLOCK as usize));
    for (number, block) in blocks.enumerate() {
        match Block::of(block) {
            Block::Zero => bytes[FIXED + number / 8] |= 1 << (number % 8),
            Block::Short(hash) => bytes.extend_from_slice(&hash),
        }
    }
    Ok(bytes)
}

/// An index in memory, checked as a whole when it was opened.
#[derive(Debug, Clone)]
pub struct BlockIndex<'a> {
    count: usize,
    /// A bit for each block, lowest first: it is all zeros.
    zeros: &'a [u8],
    hashes: &'a [u8],
    /// How many blocks that are not zeros lie before each [`RANKED`] bytes of `zeros`.
    ranks: Vec<u32>,
}

impl<'a> BlockIndex<'a> {
    /// Reads an index over `covered` bytes, which is what [`covered`] says of the signed manifest.
    ///
    /// Call it only on bytes whose signed hash was compared. Every length has to follow from
    /// `covered` and the bits; at most one byte is allocated for each 100 of `bytes`.
    pub fn parse(bytes: &'a [u8], covered: u64) -> Result<BlockIndex<'a>> {
        let count = block_count(covered)?;
        let bits = count.div_ceil(8);
        let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else {
            return Err(Error::new("the block index ends within its header"));
        };
        let mut expected = Vec::with_capacity(FIXED);
        expected.extend_from_slice(MAGIC);
        expected.extend_from_slice(&VERSION.to_le_bytes());
        expected.extend_from_slice(&(BLOCK as u32).to_le_bytes());
        if fixed[..16] != expected[..] {
            return Err(Error::new("this is no block index of a form that this program reads"));
        }
        if fixed[16..] != covered.to_le_bytes() {
            return Err(Error::new("the block index is of a stream of another size"));
        }
        let Some((zeros, hashes)) = rest.split_at_checked(bits) else {
            return Err(Error::new("the block index ends within its zero bits"));
        };
        let mut ranks = Vec::with_capacity(bits.div_ceil(RANKED));
        let mut all_zeros = 0;
        for (group, bits) in zeros.chunks(RANKED).enumerate() {
            ranks.push((group * RANKED * 8 - all_zeros) as u32);
            all_zeros += bits.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
        }
        let spare = bits * 8 - count;
        if zeros.last().is_some_and(|last| last.leading_zeros() < spare as u32) {
            return Err(Error::new("the block index has bits for blocks that do not exist"));
        }
        if hashes.len() != (count - all_zeros) * SHORT {
            return Err(Error::new("the block index has the wrong number of hashes"));
        }
        Ok(BlockIndex { count, zeros, hashes, ranks })
    }

    /// How many blocks it covers.
    pub fn block_count(&self) -> usize {
        self.count
    }

    /// How many of them are not all zeros.
    pub fn hash_count(&self) -> usize {
        self.hashes.len() / SHORT
    }

    /// What it says of the blocks with these numbers, in order; numbers behind the last block are
    /// left out.
    pub fn blocks(&self, numbers: Range<usize>) -> impl Iterator<Item = Block> + '_ {
        let range = numbers.start.min(self.count)..numbers.end.min(self.count);
        let mut hash = self.rank(range.start);
        range.map(move |number| {
            if self.is_zero(number) {
                return Block::Zero;
            }
            let mut short = [0; SHORT];
            short.copy_from_slice(&self.hashes[hash * SHORT..][..SHORT]);
            hash += 1;
            Block::Short(short)
        })
    }

    fn is_zero(&self, number: usize) -> bool {
        self.zeros[number / 8] >> (number % 8) & 1 == 1
    }

    /// How many blocks before this one are not zeros.
    fn rank(&self, number: usize) -> usize {
        let group = number / (RANKED * 8);
        let Some(before) = self.ranks.get(group) else { return self.hash_count() };
        let start = group * RANKED * 8;
        *before as usize + (start..number).filter(|number| !self.is_zero(*number)).count()
    }
}

fn block_count(covered: u64) -> Result<usize> {
    if !covered.is_multiple_of(BLOCK) {
        return Err(Error::new("a block index needs whole blocks"));
    }
    match covered / BLOCK {
        count @ 0..=MAX_BLOCKS => Ok(count as usize),
        _ => Err(Error::new("the stream has more blocks than a block index takes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;
    use proptest::prelude::*;

    const SIZE: usize = BLOCK as usize;

    /// Ten blocks: 0 and 9 are zeros, the others filled with their number.
    fn stream() -> Vec<u8> {
        (0..10).flat_map(|number| vec![number % 9; SIZE]).collect()
    }

    /// The hashes by coreutils: `head -c 4096 /dev/zero | tr '\\0' '\\N' | sha256sum | cut -c1-12`
    /// for N from 1 to 10 (octal).
    const VECTOR: &str = concat!(
        "46455252494e4458", // FERRINDX
        "01000000",         // version
        "00100000",         // block size
        "00a0000000000000", // 40960 bytes
        "0102",             // blocks 0 and 9 are zeros
        "343138372151",
        "30d6bc164ea5",
        "4539cc1fbc3c",
        "39c080da1146",
        "fb7363f1f02c",
        "300149a02cb8",
        "c9ac7b062482",
        "1e640ad0fd3b",
    );

    fn vector() -> Vec<u8> {
        hex::decode::<74>(VECTOR).unwrap().to_vec()
    }

    #[test]
    fn the_documented_bytes() {
        let stream = stream();
        assert_eq!(hex::encode(&encode(&[&stream]).unwrap()), VECTOR);
        let (boot, root) = stream.split_at(3 * SIZE);
        assert_eq!(
            hex::encode(&encode(&[boot, root]).unwrap()),
            VECTOR,
            "parts make no difference"
        );
        let bytes = vector();
        let index = BlockIndex::parse(&bytes, 40960).unwrap();
        let read: Vec<Block> = index.blocks(0..10).collect();
        assert_eq!((read[0], read[9]), (Block::Zero, Block::Zero));
        assert_eq!(read[8], Block::Short([0x1e, 0x64, 0x0a, 0xd0, 0xfd, 0x3b]));
        assert!(max_size(40960) >= bytes.len() as u64);
    }

    #[test]
    fn what_does_not_follow_from_the_size_is_refused() {
        let bytes = vector();
        let why =
            |bytes: &[u8], covered| BlockIndex::parse(bytes, covered).unwrap_err().to_string();
        for length in 0..bytes.len() {
            assert!(BlockIndex::parse(&bytes[..length], 40960).is_err(), "length {length}");
        }
        assert!(why(&[&bytes[..], &[0]].concat(), 40960).contains("number of hashes"));
        assert!(why(&bytes, 36864).contains("another size"));
        assert!(why(&bytes, 40961).contains("whole blocks"));
        assert!(why(&bytes, (MAX_BLOCKS + 1) * BLOCK).contains("more blocks"));
        for (at, reason) in [(0, "form"), (8, "form"), (12, "form"), (16, "another size")] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(why(&bad, 40960).contains(reason), "byte {at}");
        }
        let mut bad = bytes.clone();
        bad[24] ^= 2;
        assert!(why(&bad, 40960).contains("number of hashes"));
        bad = bytes;
        bad[25] |= 4;
        assert!(why(&bad, 40960).contains("do not exist"));
        assert!(encode(&[&[0; 4095]]).is_err());
    }

    #[test]
    fn a_stream_of_nothing_and_one_of_zeros() {
        for blocks in [0, 1, 8, 9, 513] {
            let bytes = encode(&[&vec![0; blocks * SIZE]]).unwrap();
            let index = BlockIndex::parse(&bytes, (blocks * SIZE) as u64).unwrap();
            assert_eq!((index.block_count(), index.hash_count()), (blocks, 0));
            assert!(index.blocks(0..usize::MAX).all(|block| block == Block::Zero));
            assert_eq!(index.blocks(0..usize::MAX).count(), blocks);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            fills in proptest::collection::vec(0u8..4, 0..1300),
            start in 0usize..1400, length in 0usize..1400,
        ) {
            // Whole blocks of hashes would make this slow: the index is put together as the
            // documentation has it.
            let hash = |fill: u8| [fill; SHORT];
            let mut bytes = encode(&[]).unwrap();
            let covered = fills.len() as u64 * BLOCK;
            bytes[16..24].copy_from_slice(&covered.to_le_bytes());
            bytes.resize(FIXED + fills.len().div_ceil(8), 0);
            for (number, fill) in fills.iter().enumerate() {
                match fill {
                    0 => bytes[FIXED + number / 8] |= 1 << (number % 8),
                    _ => bytes.extend(hash(*fill)),
                }
            }
            let index = BlockIndex::parse(&bytes, covered).unwrap();
            let expected: Vec<Block> = fills
                .iter()
                .skip(start)
                .take(length)
                .map(|fill| if *fill == 0 { Block::Zero } else { Block::Short(hash(*fill)) })
                .collect();
            prop_assert_eq!(index.blocks(start..start + length).collect::<Vec<_>>(), expected);
            prop_assert!(bytes.len() as u64 <= max_size(covered));
        }

        #[test]
        fn the_writer_and_the_reader_agree(fills in proptest::collection::vec(0u8..4, 0..40)) {
            let stream: Vec<u8> = fills.iter().flat_map(|fill| vec![*fill; SIZE]).collect();
            let bytes = encode(&[&stream]).unwrap();
            let index = BlockIndex::parse(&bytes, stream.len() as u64).unwrap();
            let expected: Vec<Block> = stream.chunks(SIZE).map(Block::of).collect();
            prop_assert_eq!(index.blocks(0..fills.len()).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn damaged_bytes_are_refused_or_read_within_bounds(
            blocks in 0u64..70, tail in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = encode(&[]).unwrap();
            bytes[16..24].copy_from_slice(&(blocks * BLOCK).to_le_bytes());
            bytes.extend(tail);
            if let Ok(index) = BlockIndex::parse(&bytes, blocks * BLOCK) {
                prop_assert_eq!(index.blocks(0..usize::MAX).count() as u64, blocks);
            }
        }
    }
}
