//! The `.update` file: slot header, chunk table, then one zstd frame a chunk.
//!
//! The slot stream (boot image, root, verity tree) is cut into chunks of equal size; the table
//! gives each chunk's compressed length and hash, so that every offset follows from signed
//! numbers, any chunk can be fetched alone, and what already lies on the medium is recognised.

use sha2::{Digest, Sha256};

use crate::manifest::{HEADER_SIZE, Manifest, Sha256Digest};
use crate::{Error, Result, Slot};

/// Bytes of one entry of the chunk table.
pub const ENTRY_SIZE: usize = 4 + 32;
/// The most chunks a payload may have: a table of 36 MiB would no longer be a small read.
pub const MAX_CHUNKS: u64 = 262_144;

/// One entry of the chunk table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Length of its zstd frame in bytes; 0 means the chunk is all zeros and has no frame.
    pub compressed: u32,
    /// SHA-256 of the uncompressed chunk.
    pub sha256: Sha256Digest,
}

/// The chunk table with what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkTable {
    chunk_size: u64,
    stream_size: u64,
    chunks: Vec<Chunk>,
    /// Byte offset of each frame in the `.update` file, and of the end.
    offsets: Vec<u64>,
}

/// How many chunks a stream is cut into.
pub fn chunk_count(stream_size: u64, chunk_size: u64) -> u64 {
    stream_size.div_ceil(chunk_size)
}

/// Bytes of the chunk table that follows this manifest's header.
///
/// Fails when the manifest asks for more than [`MAX_CHUNKS`] chunks.
pub fn table_size(manifest: &Manifest) -> Result<usize> {
    let count = chunk_count(manifest.stream_size(), manifest.chunk_size);
    if count > MAX_CHUNKS {
        return Err(Error::new("the payload has more than 262144 chunks"));
    }
    Ok(count as usize * ENTRY_SIZE)
}

impl ChunkTable {
    /// Checks the table's bytes against the manifest's hash of it, then parses them.
    pub fn parse(bytes: &[u8], manifest: &Manifest) -> Result<ChunkTable> {
        if bytes.len() != table_size(manifest)? {
            return Err(Error::new("the chunk table has the wrong length"));
        }
        if Sha256::digest(bytes)[..] != manifest.chunk_table_sha256 {
            return Err(Error::new("the chunk table is not the signed one"));
        }
        let chunks = bytes
            .chunks_exact(ENTRY_SIZE)
            .map(|entry| {
                let (mut length, mut sha256) = ([0; 4], [0; 32]);
                length.copy_from_slice(&entry[..4]);
                sha256.copy_from_slice(&entry[4..]);
                Chunk { compressed: u32::from_le_bytes(length), sha256 }
            })
            .collect();
        ChunkTable::new(chunks, manifest.chunk_size, manifest.stream_size())
    }

    /// A table from its entries, for the writer of a payload.
    ///
    /// Fails when a frame is longer than zstd could ever make it.
    pub fn new(chunks: Vec<Chunk>, chunk_size: u64, stream_size: u64) -> Result<ChunkTable> {
        if chunk_count(stream_size, chunk_size) != chunks.len() as u64 {
            return Err(Error::new("the chunk table does not cover the slot stream"));
        }
        let longest = max_frame(chunk_size);
        let mut at = (HEADER_SIZE + chunks.len() * ENTRY_SIZE) as u64;
        let mut offsets = Vec::with_capacity(chunks.len() + 1);
        for chunk in &chunks {
            if u64::from(chunk.compressed) > longest {
                return Err(Error::new("a chunk is longer compressed than it can be"));
            }
            offsets.push(at);
            at += u64::from(chunk.compressed);
        }
        offsets.push(at);
        Ok(ChunkTable { chunk_size, stream_size, chunks, offsets })
    }

    /// The table's bytes, as they stand in the file and as the manifest hashes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.chunks.len() * ENTRY_SIZE);
        for chunk in &self.chunks {
            bytes.extend_from_slice(&chunk.compressed.to_le_bytes());
            bytes.extend_from_slice(&chunk.sha256);
        }
        bytes
    }

    /// The entries, in stream order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Where chunk `index` lies in the `.update` file.
    pub fn file_range(&self, index: usize) -> std::ops::Range<u64> {
        self.offsets[index]..self.offsets[index + 1]
    }

    /// Length of the whole `.update` file.
    pub fn file_size(&self) -> u64 {
        self.offsets[self.chunks.len()]
    }

    /// Where chunk `index` lies in the slot stream. Only the last one may be short.
    pub fn stream_range(&self, index: usize) -> std::ops::Range<u64> {
        let start = index as u64 * self.chunk_size;
        start..(start + self.chunk_size).min(self.stream_size)
    }
}

/// The longest zstd frame of a chunk: zstd's own bound (ZSTD_COMPRESSBOUND of RFC 8878's
/// reference implementation) and room for a frame header.
pub fn max_frame(chunk_size: u64) -> u64 {
    chunk_size + (chunk_size >> 8) + 1024
}

/// A piece of one partition: `length` bytes at byte `offset` of the partition `label`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The partition's label.
    pub label: &'static str,
    /// Where in the partition, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// The one or two pieces of a slot's partitions that a range of the slot stream lies in.
pub fn pieces(manifest: &Manifest, slot: Slot, range: std::ops::Range<u64>) -> Vec<Piece> {
    let boot = manifest.boot_size;
    let mut pieces = Vec::with_capacity(2);
    if range.start < boot {
        pieces.push(Piece {
            label: slot.boot_label(),
            offset: range.start,
            length: range.end.min(boot) - range.start,
        });
    }
    if range.end > boot {
        let start = range.start.max(boot);
        pieces.push(Piece {
            label: slot.root_label(),
            offset: start - boot,
            length: range.end - start,
        });
    }
    pieces
}

/// Byte offset of the slot header in a root partition of `partition_size` bytes.
pub fn header_offset(partition_size: u64) -> Result<u64> {
    partition_size
        .checked_sub(HEADER_SIZE as u64)
        .ok_or_else(|| Error::new("the root partition is smaller than a slot header"))
}

/// Refuses a manifest whose images do not fit partitions of these sizes (bytes).
pub fn check_fits(manifest: &Manifest, boot_partition: u64, root_partition: u64) -> Result<()> {
    let root_room = header_offset(root_partition)?;
    let root = manifest.root_size.saturating_add(manifest.root_hash_size);
    for (what, size, room) in [
        ("its boot image is larger than the boot partition", manifest.boot_size, boot_partition),
        ("its root is larger than the root partition", root, root_room),
    ] {
        if size > room {
            let (size, room) = ((size >> 10).to_string(), (room >> 10).to_string());
            return Err(Error::new(
                [what, ": ", &size, " KiB, where there is room for ", &room, " KiB"].concat(),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest(boot: u64, root: u64, tree: u64) -> Manifest {
        Manifest {
            board: "b".into(),
            name: "n".into(),
            version: "1".into(),
            sequence: 1,
            rollback_floor: 0,
            root_size: root * 4096,
            root_hash_size: tree * 4096,
            root_verity_hash: [0; 32],
            root_verity_salt: [0; 32],
            boot_size: boot * 4096,
            chunk_size: 65536,
            chunk_table_sha256: [0; 32],
            boot_files: vec![],
            models: vec![],
        }
    }

    proptest! {
        #[test]
        fn the_pieces_of_all_chunks_cover_the_slot_once(boot in 1u64..200, root in 1u64..200, tree in 1u64..20) {
            let manifest = manifest(boot, root, tree);
            let count = chunk_count(manifest.stream_size(), manifest.chunk_size) as usize;
            let chunks = vec![Chunk { compressed: 5, sha256: [0; 32] }; count];
            let table = ChunkTable::new(chunks, manifest.chunk_size, manifest.stream_size()).unwrap();
            let mut next = [("boot-b", 0), ("root-b", 0)];
            for i in 0..count {
                for piece in pieces(&manifest, Slot::B, table.stream_range(i)) {
                    let partition = next.iter_mut().find(|(l, _)| *l == piece.label).unwrap();
                    prop_assert_eq!(partition.1, piece.offset);
                    partition.1 += piece.length;
                }
            }
            prop_assert_eq!(next, [("boot-b", manifest.boot_size), ("root-b", manifest.root_size + manifest.root_hash_size)]);
            prop_assert_eq!(table.file_size(), (HEADER_SIZE + count * ENTRY_SIZE + count * 5) as u64);
        }
    }

    #[test]
    fn a_changed_table_is_refused() {
        let mut m = manifest(1, 1, 1);
        let table = ChunkTable::new(
            vec![Chunk { compressed: 9, sha256: [7; 32] }],
            m.chunk_size,
            m.stream_size(),
        )
        .unwrap();
        let mut bytes = table.to_bytes();
        m.chunk_table_sha256.copy_from_slice(&Sha256::digest(&bytes));
        assert_eq!(ChunkTable::parse(&bytes, &m).unwrap(), table);
        bytes[0] ^= 1;
        assert!(ChunkTable::parse(&bytes, &m).is_err());
        assert!(ChunkTable::parse(&bytes[1..], &m).is_err());
    }

    #[test]
    fn a_frame_longer_than_possible_is_refused() {
        let chunks = vec![Chunk { compressed: u32::MAX, sha256: [0; 32] }];
        assert!(ChunkTable::new(chunks, 65536, 4096).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let m = manifest(2, 10, 1);
        let room = 11 * 4096 + HEADER_SIZE as u64;
        assert!(check_fits(&m, 8192, room).is_ok());
        let message = check_fits(&m, 8191, room).unwrap_err().to_string();
        assert!(message.ends_with("boot partition: 8 KiB, where there is room for 7 KiB"));
        let message = check_fits(&m, 8192, room - 1).unwrap_err().to_string();
        assert!(message.ends_with("root partition: 44 KiB, where there is room for 43 KiB"));
        assert!(check_fits(&m, 8192, 0).is_err());
    }
}
