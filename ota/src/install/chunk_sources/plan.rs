//! Which chunk sources are worth their bytes: pure decisions over lengths.

use delta::Header;
use formats::payload::ChunkTable;

use super::companion::Companion;

/// An index is fetched when it is shorter than this part of the missing frames: 4 KiB blocks of a
/// running slot make between a tenth (another kernel) and nearly all (another model) of the new one.
const INDEX_SHARE: u64 = 4;
/// The longest frame of a delta that is fetched, in bytes: one is fetched twice when the power goes.
/// A group with a longer one comes as chunks, which are shorter.
const LONGEST_FRAME: u32 = 640 << 10;

/// A delta from what runs.
#[derive(Clone, Copy, Debug)]
pub struct Delta<'a> {
    /// The delta's file.
    pub companion: &'a Companion,
    /// Bytes of its head.
    pub head_length: u64,
    /// SHA-256 of its head, in hex.
    pub head_sha256: &'a str,
}

/// Bytes of these chunks' frames.
pub fn frames(table: &ChunkTable, chunks: &[usize]) -> u64 {
    chunks.iter().map(|chunk| u64::from(table.chunks()[*chunk].compressed)).sum()
}

/// Whether a delta is worth its head, of which `cached` bytes are here: what it costs for the missing
/// share of the chunks, taken to be an even share of its frames, against those chunks' own frames.
pub fn takes_delta(table: &ChunkTable, missing: &[usize], delta: &Delta<'_>, cached: u64) -> bool {
    let of_frames = delta.companion.length.saturating_sub(delta.head_length);
    let all = table.chunks().iter().filter(|chunk| chunk.compressed > 0).count().max(1) as u64;
    let lacking = missing.iter().filter(|c| table.chunks()[**c].compressed > 0).count() as u64;
    let share = (u128::from(of_frames) * u128::from(lacking) / u128::from(all)) as u64;
    let cost = delta.head_length.saturating_sub(cached).saturating_add(share);
    cost < frames(table, missing)
}

/// Whether an index of which `left` bytes are still to fetch is worth it.
pub fn takes_index(table: &ChunkTable, missing: &[usize], left: u64) -> bool {
    left.saturating_mul(INDEX_SHARE) < frames(table, missing)
}

/// Where one group of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Nothing of it is missing.
    Whole,
    /// Its frame is in the delta and cheaper.
    Frame,
    /// Its missing chunks are.
    Chunks,
}

/// Where group `index` comes from, of which the chunks `missing` are missing.
pub fn group(header: &Header, index: usize, table: &ChunkTable, missing: &[usize]) -> Group {
    let length = header.groups[index].length;
    match () {
        () if missing.is_empty() => Group::Whole,
        () if length == 0 || length > LONGEST_FRAME => Group::Chunks,
        () if u64::from(length) >= frames(table, missing) => Group::Chunks,
        () => Group::Frame,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::resource::Resource;
    use formats::payload::Chunk;

    fn table(frames: &[u32]) -> ChunkTable {
        let chunks = frames.iter().map(|n| Chunk { compressed: *n, sha256: [0; 32] }).collect();
        ChunkTable::new(chunks, 65536, 65536 * frames.len() as u64).unwrap()
    }

    fn companion(length: u64) -> Companion {
        Companion { resource: Resource::File("x".into()), length, sha256: String::new() }
    }

    fn delta(companion: &Companion) -> Delta<'_> {
        Delta { companion, head_length: 100, head_sha256: "" }
    }

    #[test]
    fn a_delta_has_to_be_shorter_than_what_is_missing() {
        let table = table(&[1000, 1000, 0, 1000, 1000]);
        let all = [0, 1, 3, 4];
        assert!(takes_delta(&table, &all, &delta(&companion(3999)), 0));
        assert!(!takes_delta(&table, &all, &delta(&companion(4000)), 0));
        assert!(!takes_delta(&table, &[], &delta(&companion(200)), 0));
    }

    #[test]
    fn what_is_there_already_is_counted_on_both_sides() {
        let table = table(&[1000, 1000, 0, 1000, 1000]);
        // One of four chunks is missing: a quarter of the frames and the head.
        assert!(takes_delta(&table, &[4], &delta(&companion(3600)), 0));
        assert!(!takes_delta(&table, &[4], &delta(&companion(3700)), 0));
        assert!(takes_delta(&table, &[4], &delta(&companion(4000)), 100), "its head is here");
    }

    #[test]
    fn an_index_has_to_be_much_shorter() {
        let table = table(&[1000; 4]);
        assert!(takes_index(&table, &[0, 1, 2, 3], 999));
        assert!(!takes_index(&table, &[0, 1, 2, 3], 1000));
        assert!(!takes_index(&table, &[], 0));
    }

    #[test]
    fn groups() {
        let table = table(&[1000; 4]);
        let header = |length| Header {
            old_size: 0,
            new_size: 4 * 65536,
            group_size: 1 << 20,
            segments: 0,
            control: 0,
            groups: vec![delta::header::Group { length, reach: 0, sha256: [0; 32] }],
        };
        assert_eq!(group(&header(500), 0, &table, &[]), Group::Whole);
        assert_eq!(group(&header(500), 0, &table, &[1]), Group::Frame);
        assert_eq!(group(&header(1000), 0, &table, &[1]), Group::Chunks);
        assert_eq!(group(&header(1000), 0, &table, &[1, 2]), Group::Frame);
        assert_eq!(group(&header(0), 0, &table, &[1, 2]), Group::Chunks, "not in the delta");
    }
}
