//! The path through one group: which bytes are copies and which are literals. Written once for
//! both sides.

use std::ops::Range;

use crate::segments::Segment;

/// Bytes handled at once. Divides a group, so that pieces lie the same on both sides.
pub const PIECE: u32 = 64 * 1024;

/// A part of the new image that lies within one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nearly the same bytes as the old image's at `old`.
    Copy { old: u32, new: u32, length: u32 },
    /// Bytes without a likeness.
    Literals { new: u32, length: u32 },
}

/// The parts of `range`, in order; none is longer than [`PIECE`] or crosses a multiple of it.
pub fn parts(segments: &[Segment], range: Range<u32>) -> impl Iterator<Item = Part> + '_ {
    let first = segments.partition_point(|segment| segment.new <= range.start).saturating_sub(1);
    let mut index = first;
    let mut at = range.start;
    std::iter::from_fn(move || {
        while at < range.end {
            let segment = segments.get(index)?;
            let end = segments.get(index + 1).map_or(range.end, |next| next.new.min(range.end));
            if at >= end {
                index += 1;
                continue;
            }
            let piece_end = (at / PIECE + 1).saturating_mul(PIECE);
            let copied = at - segment.new;
            let part = if copied < segment.copy {
                let end = end.min(segment.new + segment.copy).min(piece_end);
                Part::Copy { old: segment.old + copied, new: at, length: end - at }
            } else {
                Part::Literals { new: at, length: end.min(piece_end) - at }
            };
            at += match part {
                Part::Copy { length, .. } | Part::Literals { length, .. } => length,
            };
            return Some(part);
        }
        None
    })
}

/// How many bytes of `range` are literals.
pub fn literal_bytes(segments: &[Segment], range: Range<u32>) -> usize {
    let lengths = parts(segments, range).map(|part| match part {
        Part::Literals { length, .. } => length as usize,
        Part::Copy { .. } => 0,
    });
    lengths.sum()
}
