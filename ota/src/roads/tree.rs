//! The verity tree: computed from the root, when all of that is in place.

use std::convert::Infallible;

use slot::layout::BLOCK;
use slot::verity;

use crate::account::Road;
use crate::{Error, Result};

use super::Work;

/// Brings the chunks of the tree. Leaves them when the root is not what was signed.
pub fn bring(work: &Work<'_>) -> Result<()> {
    let manifest = work.manifest;
    let covered = work.covered();
    let chunks = work.chunks_of(covered..manifest.stream_size());
    let lacks: Vec<usize> = chunks.filter(|chunk| work.is_missing(*chunk)).collect();
    if lacks.is_empty() || !work.lacks_before_tree().is_empty() || manifest.root_size < 2 * BLOCK {
        return Ok(());
    }
    // The tail is not on the medium: its chunk's hash holds only together with the tree.
    let tail = work.tail.borrow();
    let tail_at = covered - tail.as_ref().map_or(0, |tail| tail.len() as u64);
    let mut broken = None;
    let read = |at: u64, buffer: &mut [u8]| -> std::result::Result<(), Infallible> {
        (work.beat)();
        let at = manifest.boot_size + at;
        let end = at + buffer.len() as u64;
        let on_medium = (tail_at.clamp(at, end) - at) as usize;
        let (medium, memory) = buffer.split_at_mut(on_medium);
        if let Err(error) = work.writer.read_unaligned(manifest, at, medium) {
            broken = Some(error);
        }
        if let (Some(tail), false) = (tail.as_ref(), memory.is_empty()) {
            let start = (at + on_medium as u64 - tail_at) as usize;
            memory.copy_from_slice(&tail[start..start + memory.len()]);
        }
        Ok(())
    };
    let tree = match verity::build_by_reading(manifest.root_size, &manifest.root_verity_salt, read)
    {
        Ok(tree) => tree,
        Err(never) => match never {},
    };
    if let Some(error) = broken {
        return Err(error);
    }
    if tree.root_hash != manifest.root_verity_hash
        || tree.bytes.len() as u64 != manifest.root_hash_size
    {
        work.account.left("tree", "the root is not the one that was signed");
        return Ok(());
    }
    let mut buffer = work.buffer();
    for chunk in lacks {
        let range = work.table.stream_range(chunk);
        let length = work.chunk_length(chunk);
        let bytes = &mut buffer.bytes_mut()[..length];
        let before = covered.saturating_sub(range.start) as usize;
        if before > 0 {
            let Some(tail) = tail.as_ref().filter(|tail| tail.len() == before) else { continue };
            bytes[..before].copy_from_slice(tail);
        }
        let from = range.start.saturating_sub(covered) as usize;
        let part = tree.bytes.get(from..from + length - before);
        bytes[before..].copy_from_slice(part.ok_or_else(|| Error::failed("the tree is short"))?);
        work.put(chunk, &buffer, Road::Tree)?;
    }
    Ok(())
}
