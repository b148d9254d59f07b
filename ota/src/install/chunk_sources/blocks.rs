//! Chunks put together from 4 KiB blocks of the running slot, wherever they lie there.

use formats::block_index::{Block, BlockIndex, ShortHash};
use formats::layout::BLOCK;

use crate::install::progress::Source;
use crate::slot::slot_reader::SlotReader;

use super::companion::Companion;
use super::work::{Abort, Work};

/// Bytes of the running slot that are read at once.
const PIECE: u64 = 64 * BLOCK;

/// Brings every chunk whose blocks are all there.
pub fn supply(work: &Work<'_>, old: &SlotReader, index: &Companion) -> Result<(), Abort> {
    if index.length > formats::block_index::max_size(work.covered()) {
        return Err(Abort::next_source("the index is longer than it can be"));
    }
    let bytes = work.cache.get_or_fetch(
        &index.resource,
        0..index.length,
        &index.sha256,
        &work.progress.index,
    );
    let bytes = bytes.map_err(Abort::next_source)?;
    let index = BlockIndex::parse(&bytes, work.covered()).map_err(Abort::next_source)?;
    let chunks = work.lacks_before_tree();
    let blocks = |chunk: usize| {
        let range = work.table.stream_range(chunk);
        let blocks = range.start / BLOCK..range.end.min(work.covered()) / BLOCK;
        index.blocks(blocks.start as usize..blocks.end as usize)
    };
    let wanted = chunks.iter().flat_map(|chunk| blocks(*chunk));
    let mut places = Places::of(wanted.filter_map(|block| match block {
        Block::Short(hash) => Some(hash),
        Block::Zero => None,
    }));
    scan(work, old, &mut places);

    let mut buffer = work.buffer();
    for chunk in chunks {
        (work.beat)();
        let range = work.table.stream_range(chunk);
        let length = (range.end.min(work.covered()) - range.start) as usize;
        let bytes = &mut buffer.bytes_mut()[..length];
        let mut parts = blocks(chunk).zip(bytes.chunks_exact_mut(BLOCK as usize));
        let all = parts.all(|(block, part)| match block {
            Block::Zero => {
                part.fill(0);
                true
            }
            Block::Short(hash) => places.place(&hash).is_some_and(|place| {
                let start = u64::from(place) * BLOCK;
                old.read(start..start + BLOCK, part).is_ok()
            }),
        });
        if !all {
            continue;
        }
        if range.end > work.covered() {
            let tail = buffer.bytes()[..length].to_vec();
            work.tail.replace(Some(tail));
        } else {
            work.put(chunk, &buffer, Source::Blocks)?;
        }
    }
    work.idle.flush(work.beat)?;
    Ok(())
}

/// Looks through the running slot for what is wanted.
fn scan(work: &Work<'_>, old: &SlotReader, places: &mut Places) {
    let mut piece = vec![0; PIECE as usize];
    for start in (0..old.covered()).step_by(PIECE as usize) {
        (work.beat)();
        let end = (start + PIECE).min(old.covered());
        let bytes = &mut piece[..(end - start) as usize];
        // What cannot be read is not there.
        if old.read(start..end, bytes).is_err() {
            continue;
        }
        for (at, block) in (start / BLOCK..).zip(bytes.chunks_exact(BLOCK as usize)) {
            if let (Block::Short(hash), Ok(at)) = (Block::of(block), u32::try_from(at)) {
                places.found(&hash, at);
            }
        }
    }
}

/// Where blocks lie, by their short hash: 10 bytes for each that is wanted.
struct Places {
    hashes: Vec<ShortHash>,
    blocks: Vec<u32>,
}

/// No block of an image has this number: that would be at 16 TiB.
const NOWHERE: u32 = u32::MAX;

impl Places {
    fn of(wanted: impl Iterator<Item = ShortHash>) -> Places {
        let mut hashes: Vec<ShortHash> = wanted.collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.shrink_to_fit();
        let blocks = vec![NOWHERE; hashes.len()];
        Places { hashes, blocks }
    }

    fn found(&mut self, hash: &ShortHash, block: u32) {
        if let Ok(index) = self.hashes.binary_search(hash) {
            self.blocks[index] = block;
        }
    }

    fn place(&self, hash: &ShortHash) -> Option<u32> {
        let index = self.hashes.binary_search(hash).ok()?;
        Some(self.blocks[index]).filter(|block| *block != NOWHERE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn places_are_found_as_in_a_map(
            wanted in proptest::collection::vec(0u8..40, 0..60),
            there in proptest::collection::vec((0u8..40, 0u32..1000), 0..60)
        ) {
            let hash = |n: u8| [n, 0, 0, 0, 0, n];
            let mut places = Places::of(wanted.iter().map(|n| hash(*n)));
            let mut map = BTreeMap::new();
            for (n, block) in there {
                places.found(&hash(n), block);
                map.insert(n, block);
            }
            for n in 0..40 {
                let expected = map.get(&n).copied().filter(|_| wanted.contains(&n));
                prop_assert_eq!(places.place(&hash(n)), expected);
            }
        }
    }
}
