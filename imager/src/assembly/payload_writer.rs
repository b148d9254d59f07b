//! Cuts a slot's images into chunks, compresses them and writes the `.update` file.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Result, anyhow};
use formats::payload::{Chunk, ChunkTable};
use sha2::{Digest, Sha256};

use super::frame_cache::frame;
use debian::cache::Cache;

/// Bytes of an uncompressed chunk: small enough that losing one in a broken download, or one block
/// of it that a device lacks, costs little. `docs/updates.md` has the sizes measured; this one also
/// makes the shortest payload, since zstd works harder on inputs of up to 256 KiB.
pub const CHUNK_SIZE: u64 = 256 << 10;

/// zstd level of a chunk. Above 15 a build gets slower by more than the payload gets smaller.
const LEVEL: i32 = 15;

/// A chunk's entry in the table and its frame, which is empty for zeros.
type Packed = (Chunk, Vec<u8>);

/// The chunks of a slot stream, compressed.
pub struct CompressedStream {
    /// The table.
    pub table: ChunkTable,
    frames: Vec<Vec<u8>>,
}

impl CompressedStream {
    /// Cuts `parts` (the boot image; the root with its hash tree), taken as one stream, into
    /// chunks and compresses them on all processors.
    pub fn new(parts: &[&[u8]], cache: &Cache) -> Result<CompressedStream> {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let count = formats::payload::chunk_count(size as u64, CHUNK_SIZE) as usize;
        let results: Mutex<Vec<Option<Packed>>> = Mutex::new(vec![None; count]);
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return;
                        }
                        match compress(&gather(parts, index), cache) {
                            Ok(done) => lock(&results)[index] = Some(done),
                            Err(error) => {
                                *lock(&failure) = Some(error);
                                next.store(count, Ordering::Relaxed);
                                return;
                            }
                        }
                    }
                });
            }
        });
        if let Some(error) = lock(&failure).take() {
            return Err(error);
        }
        let (mut chunks, mut frames) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for result in std::mem::take(&mut *lock(&results)) {
            let (chunk, frame) = result.context("a chunk was not compressed")?;
            chunks.push(chunk);
            frames.push(frame);
        }
        let table = ChunkTable::new(chunks, CHUNK_SIZE, size as u64).map_err(|e| anyhow!(e))?;
        Ok(CompressedStream { table, frames })
    }

    /// Writes the `.update` file: slot header, table, frames.
    pub fn write(&self, header: &[u8], out: &mut impl Write) -> std::io::Result<()> {
        out.write_all(header)?;
        out.write_all(&self.table.to_bytes())?;
        self.frames.iter().try_for_each(|frame| out.write_all(frame))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Chunk `index` of the parts' bytes taken as one stream.
fn gather(parts: &[&[u8]], index: usize) -> Vec<u8> {
    let (mut skip, mut chunk) =
        (index * CHUNK_SIZE as usize, Vec::with_capacity(CHUNK_SIZE as usize));
    for part in parts {
        let start = skip.min(part.len());
        skip -= start;
        let room = CHUNK_SIZE as usize - chunk.len();
        chunk.extend_from_slice(&part[start..part.len().min(start + room)]);
    }
    chunk
}

fn compress(chunk: &[u8], cache: &Cache) -> Result<Packed> {
    if chunk.iter().all(|byte| *byte == 0) {
        return Ok((Chunk { compressed: 0, sha256: hash_of_zeros(chunk) }, Vec::new()));
    }
    let sha256 = Sha256::digest(chunk).into();
    let frame = frame(chunk, &sha256, LEVEL, cache)?;
    Ok((Chunk { compressed: u32::try_from(frame.len())?, sha256 }, frame))
}

/// Most zeros come in whole chunks: those are hashed once.
fn hash_of_zeros(zeros: &[u8]) -> [u8; 32] {
    static WHOLE: OnceLock<[u8; 32]> = OnceLock::new();
    let hash = || Sha256::digest(zeros).into();
    if zeros.len() as u64 == CHUNK_SIZE { *WHOLE.get_or_init(hash) } else { hash() }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        (dir, cache)
    }

    fn stream(cache: &Cache) -> (Vec<u8>, CompressedStream) {
        let boot: Vec<u8> = (0..CHUNK_SIZE as usize + 4096).map(|i| (i / 7) as u8).collect();
        let root = vec![0; 2 * CHUNK_SIZE as usize];
        let stream = CompressedStream::new(&[&boot, &root], cache).unwrap();
        ([boot, root].concat(), stream)
    }

    #[test]
    fn the_frames_unpack_to_the_stream() {
        let (_dir, cache) = cache();
        let (bytes, stream) = stream(&cache);
        let mut file = Vec::new();
        stream.write(&[9; formats::manifest::HEADER_SIZE], &mut file).unwrap();
        assert_eq!(file.len() as u64, stream.table.file_size());
        for (index, chunk) in stream.table.chunks().iter().enumerate() {
            let stream_range = stream.table.stream_range(index);
            let expected = &bytes[stream_range.start as usize..stream_range.end as usize];
            let range = stream.table.file_range(index);
            let frame = &file[range.start as usize..range.end as usize];
            if chunk.compressed == 0 {
                assert!(expected.iter().all(|byte| *byte == 0));
                assert_eq!(chunk.sha256, <[u8; 32]>::from(Sha256::digest(expected)));
            } else {
                assert!(zstd::bulk::decompress(frame, CHUNK_SIZE as usize).unwrap() == expected);
            }
        }
    }

    #[test]
    fn a_second_build_gives_the_same() {
        let (_dir, cache) = cache();
        assert_eq!(stream(&cache).1.table, stream(&cache).1.table);
    }
}
