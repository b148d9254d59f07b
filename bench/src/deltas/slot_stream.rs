//! What an update writes, chunk by chunk, and what a device fetches of it without a delta: by the
//! block index, or as the whole payload.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use formats::block_index::{self, Block};
use formats::manifest::{HEADER_SIZE, Header};
use formats::payload::{self, ChunkTable};

/// Bytes of a chunk, and the zstd level of its frame, as `imager build` makes them.
const CHUNK_SIZE: usize = 256 << 10;
const LEVEL: i32 = 15;
const BLOCK: usize = 4096;

/// What an update writes, and what its chunks cost.
pub struct SlotStream {
    /// Boot image and root: the verity tree, which a device computes, is left out.
    pub covered: Vec<u8>,
    /// Bytes of each chunk's frame; 0: all zeros. Those of the tree are the last.
    pub frames: Vec<u32>,
}

impl SlotStream {
    /// Reads an update that this bench has built: its signature is not looked at again.
    pub fn read(update: &Path) -> Result<SlotStream> {
        let bytes = fs::read(update).with_context(|| update.display().to_string())?;
        SlotStream::parse(&bytes).with_context(|| update.display().to_string())
    }

    fn parse(bytes: &[u8]) -> Result<SlotStream> {
        let head = bytes.get(..HEADER_SIZE).context("it ends within its header")?;
        let manifest = Header::new(head).and_then(|header| header.verified_before());
        let manifest = manifest.map_err(|e| anyhow!(e))?;
        let table_size = payload::table_size(&manifest).map_err(|e| anyhow!(e))?;
        let table = bytes.get(HEADER_SIZE..HEADER_SIZE + table_size);
        let table = ChunkTable::parse(table.context("it ends within its table")?, &manifest);
        let table = table.map_err(|e| anyhow!(e))?;
        let mut covered = Vec::new();
        for index in 0..table.chunks().len() {
            let (range, stream) = (table.file_range(index), table.stream_range(index));
            let length = (stream.end - stream.start) as usize;
            if range.is_empty() {
                covered.resize(covered.len() + length, 0);
                continue;
            }
            let frame = bytes.get(range.start as usize..range.end as usize);
            let chunk = zstd::bulk::decompress(frame.context("it ends within a chunk")?, length);
            covered.append(&mut chunk.with_context(|| format!("chunk {index}"))?);
        }
        ensure!(manifest.chunk_size == CHUNK_SIZE as u64, "its chunks are of another size");
        covered.truncate(block_index::covered(&manifest) as usize);
        let frames = table.chunks().iter().map(|chunk| chunk.compressed).collect();
        Ok(SlotStream { covered, frames })
    }

    /// As if an image of another kind were an update.
    pub fn of(image: Vec<u8>) -> Result<SlotStream> {
        let frame = |chunk: &[u8]| match chunk.iter().all(|byte| *byte == 0) {
            true => Ok(0),
            false => zstd::bulk::compress(chunk, LEVEL).map(|frame| frame.len() as u32),
        };
        let frames = image.chunks(CHUNK_SIZE).map(frame).collect::<Result<_, _>>();
        Ok(SlotStream { frames: frames.context("zstd")?, covered: image })
    }

    /// Bytes of all chunks' frames.
    pub fn payload(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(*frame)).sum()
    }

    /// Bytes of the index and of the frames of chunks that cannot be put together from blocks of
    /// `old`.
    pub fn by_index(&self, old: &[u8]) -> Result<u64> {
        let index = block_index::encode(&[&self.covered]).map_err(|e| anyhow!(e))?;
        let blocks = |bytes: &[u8]| bytes.chunks(BLOCK).map(Block::of).collect::<Vec<_>>();
        let there: HashSet<[u8; 6]> = blocks(old).iter().filter_map(short).collect();
        let missing = |chunk: &[u8]| {
            blocks(chunk).iter().filter_map(short).any(|hash| !there.contains(&hash))
        };
        let chunks = self.covered.chunks(CHUNK_SIZE).zip(&self.frames);
        let frames = chunks.filter(|(chunk, _)| missing(chunk));
        Ok(index.len() as u64 + frames.map(|(_, frame)| u64::from(*frame)).sum::<u64>())
    }

    /// Bytes of the frames that cover these parts of the stream, but for those that `old` holds at
    /// the same place.
    pub fn missing(&self, old: &[u8], parts: &[Range<u64>]) -> u64 {
        let size = CHUNK_SIZE as u64;
        let chunks = self.covered.chunks(CHUNK_SIZE).zip(&self.frames).enumerate();
        let wanted = chunks.filter(|(index, (chunk, _))| {
            let start = *index as u64 * size;
            let wanted = parts.iter().any(|part| part.start < start + size && start < part.end);
            wanted && old.get(start as usize..start as usize + chunk.len()) != Some(*chunk)
        });
        wanted.map(|(_, (_, frame))| u64::from(*frame)).sum()
    }
}

fn short(block: &Block) -> Option<[u8; 6]> {
    match block {
        Block::Zero => None,
        Block::Short(hash) => Some(*hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that do not compress.
    fn noise(seed: u32, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let step = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        };
        std::iter::repeat_with(step).take(length).collect()
    }

    #[test]
    fn blocks_that_moved_cost_nothing_and_new_ones_their_chunk() {
        let old = noise(3, 4 * CHUNK_SIZE);
        let mut new = old.clone();
        new.rotate_right(BLOCK);
        let index = block_index::encode(&[&new]).unwrap().len() as u64;
        assert_eq!(SlotStream::of(new.clone()).unwrap().by_index(&old).unwrap(), index);
        new[CHUNK_SIZE + 5] ^= 1;
        new.extend(vec![0; CHUNK_SIZE]);
        let stream = SlotStream::of(new.clone()).unwrap();
        let index = block_index::encode(&[&new]).unwrap().len() as u64;
        assert_eq!(stream.by_index(&old).unwrap(), index + u64::from(stream.frames[1]));
        assert_eq!(stream.frames[4], 0);
        assert_eq!(stream.payload(), stream.frames.iter().map(|f| u64::from(*f)).sum::<u64>());
    }

    #[test]
    fn what_lies_at_its_place_is_not_missing() {
        let old = noise(7, 3 * CHUNK_SIZE);
        let mut new = old.clone();
        new[CHUNK_SIZE] ^= 1;
        new[2 * CHUNK_SIZE] ^= 1;
        let stream = SlotStream::of(new).unwrap();
        let first_two = 0..2 * CHUNK_SIZE as u64;
        assert_eq!(stream.missing(&old, &[first_two]), u64::from(stream.frames[1]));
        assert_eq!(stream.missing(&old, &[]), 0);
    }
}
