//! The verity tree: computed from the root, when all of that is in place.

use formats::layout::BLOCK;
use formats::verity;

use crate::Result;
use crate::install::progress::Source;

use super::work::Work;

/// Brings the chunks of the tree. Leaves them when the root is not what was signed.
pub fn supply(work: &Work<'_>) -> Result<()> {
    let manifest = work.manifest;
    let covered = work.covered();
    let chunks = work.chunks_of(covered..manifest.stream_size());
    let lacks: Vec<usize> = chunks.filter(|chunk| work.is_missing(*chunk)).collect();
    if lacks.is_empty() || !work.lacks_before_tree().is_empty() || manifest.root_size < 2 * BLOCK {
        return Ok(());
    }
    // The tail is not on the medium: its chunk's hash holds only together with the tree.
    let tail = work.tail.borrow();
    let tail = tail.as_deref().unwrap_or_default();
    let tail_at = covered - tail.len() as u64;
    let read = |at: u64, buffer: &mut [u8]| -> Result<()> {
        (work.beat)();
        let at = manifest.boot_size + at;
        let end = at + buffer.len() as u64;
        let on_medium = (tail_at.clamp(at, end) - at) as usize;
        let (medium, memory) = buffer.split_at_mut(on_medium);
        work.idle.read(at, medium)?;
        if !memory.is_empty() {
            let start = (at + on_medium as u64 - tail_at) as usize;
            memory.copy_from_slice(&tail[start..start + memory.len()]);
        }
        Ok(())
    };
    let (size, salt) = (manifest.root_size, &manifest.root_verity_salt);
    let upper = verity::upper_size(size);
    if verity::tree_size(size) != manifest.root_hash_size {
        work.progress.gave_up("tree", "its size is not the one that was signed");
        return Ok(());
    }
    // The upper levels stand first and are known last: what shares a chunk with them waits.
    let first = work.table.stream_range(covered as usize / manifest.chunk_size as usize).start;
    let upper_end = covered + upper;
    let held_end = upper_end.next_multiple_of(manifest.chunk_size).min(manifest.stream_size());
    let mut held = vec![0; (held_end - first) as usize];
    let mut buffer = work.buffer();
    let mut at = upper_end;
    let tree = verity::lowest_by_reading(size, salt, read, |block| {
        if at < held_end {
            let start = (at - first) as usize;
            held[start..start + block.len()].copy_from_slice(block);
        } else {
            let chunk = (at / manifest.chunk_size) as usize;
            let start = (at % manifest.chunk_size) as usize;
            buffer.bytes_mut()[start..start + block.len()].copy_from_slice(block);
            if start + block.len() == work.chunk_length(chunk) && work.is_missing(chunk) {
                work.put(chunk, &buffer, Source::Tree)?;
            }
        }
        at += block.len() as u64;
        Ok(())
    })?;
    if tree.root_hash != manifest.root_verity_hash {
        work.progress.gave_up("tree", "the root is not the one that was signed");
        return Ok(());
    }
    let upper_at = (covered - first) as usize;
    held[upper_at - tail.len()..upper_at].copy_from_slice(tail);
    held[upper_at..upper_at + tree.bytes.len()].copy_from_slice(&tree.bytes);
    for chunk in work.chunks_of(first..held_end) {
        let start = (work.table.stream_range(chunk).start - first) as usize;
        let length = work.chunk_length(chunk);
        buffer.bytes_mut()[..length].copy_from_slice(&held[start..start + length]);
        // Without its tail, the chunk in which the tree begins is not this source's to bring.
        if work.is_missing(chunk) {
            work.put(chunk, &buffer, Source::Tree)?;
        }
    }
    Ok(())
}
