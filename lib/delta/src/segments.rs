//! What the new image is made of: runs of the old image that are nearly the same, and bytes of its
//! own between them.

use crate::coder::BitCoder;
use crate::mix::{Mix, Tables, hash};
use crate::{Error, Result};

/// The most segments a delta may have: 16 bytes of memory each on the device.
pub const MAX_SEGMENTS: u32 = 1 << 18;

/// `copy` bytes at `new` are nearly those at `old`; what follows, up to the next segment's `new`,
/// are literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where the copy starts in the new image.
    pub new: u32,
    /// Where the copy starts in the old image.
    pub old: u32,
    /// Bytes of the copy; may be 0.
    pub copy: u32,
}

/// Codes the control part: for each segment copy length, literal length and jump in the old image.
pub struct NumberModel {
    mix: Mix<3>,
    last: [u32; 3],
}

impl NumberModel {
    pub fn new() -> Self {
        NumberModel { mix: Mix::new(12, 3 * 10, 255), last: [0; 3] }
    }

    /// One number of column `field`, as LEB128 bytes: at most ten.
    fn number<C: BitCoder>(&mut self, coder: &mut C, tables: &Tables, field: usize, n: u64) -> u64 {
        let mut rest = n;
        let mut coded = 0u64;
        let mut before = 0u32;
        for index in 0..10usize {
            let more = rest >> 7 != 0;
            let byte = (rest as u8 & 0x7f) | if more { 0x80 } else { 0 };
            let place = (field * 16 + index) as u32;
            let contexts = [
                place,
                hash(place, before),
                hash(place, hash(self.last[field] << 8 | self.last[(field + 2) % 3], before)),
            ];
            let byte = self.mix.byte(coder, tables, &contexts, field * 10 + index, byte);
            coded |= u64::from(byte & 0x7f).checked_shl(7 * index as u32).unwrap_or(0);
            before = before << 8 | u32::from(byte);
            rest >>= 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        self.last[field] = (64 - coded.leading_zeros()).min(31);
        coded
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Codes all segments. `given` is what the encoder knows; the decoder passes zeroed ones.
///
/// Fails when the segments leave one of the images or do not cover the new one.
pub fn code<C: BitCoder>(
    coder: &mut C,
    tables: &Tables,
    given: impl Iterator<Item = Segment>,
    count: u32,
    old_size: u32,
    new_size: u32,
) -> Result<Vec<Segment>> {
    let mut model = NumberModel::new();
    let mut given = given.peekable();
    let mut segments: Vec<Segment> = Vec::new();
    let (mut new, mut old) = (0u64, 0i64);
    for index in 0..count {
        let this = given.next().unwrap_or(Segment { new: 0, old: 0, copy: 0 });
        let end = given.peek().map_or(new_size, |next| next.new);
        let literals = u64::from(end.saturating_sub(this.new).saturating_sub(this.copy));
        let jump = model.number(coder, tables, 0, zigzag(i64::from(this.old) - old));
        let copy = model.number(coder, tables, 1, u64::from(this.copy));
        let literals = model.number(coder, tables, 2, literals);
        let start = old.checked_add(unzigzag(jump)).filter(|start| *start >= 0);
        let bad = || Error::new(format!("delta: segment {index} lies outside the images"));
        let start = start.ok_or_else(bad)? as u64;
        let old_end = start.checked_add(copy).filter(|end| *end <= u64::from(old_size));
        let new_end = new.checked_add(copy).and_then(|end| end.checked_add(literals));
        let new_end = new_end.filter(|end| *end <= u64::from(new_size));
        old = old_end.ok_or_else(bad)? as i64;
        segments.push(Segment { new: new as u32, old: start as u32, copy: copy as u32 });
        new = new_end.ok_or_else(bad)?;
    }
    if new != u64::from(new_size) {
        return Err(Error::new("delta: the segments do not make the whole new image"));
    }
    Ok(segments)
}

/// Where bytes of the old image have gone: the inverse of the segments.
pub struct Shifts {
    /// (old start, new start - old start) of segments worth following, by old start.
    starts: Vec<(u32, i32)>,
}

/// A shorter copy may be chance.
const FOLLOWED: u32 = 32;

impl Shifts {
    /// Sorts the segments by where they lie in the old image.
    pub fn new(segments: &[Segment]) -> Self {
        let mut starts: Vec<(u32, i32)> = segments
            .iter()
            .filter(|segment| segment.copy >= FOLLOWED)
            .map(|segment| (segment.old, segment.new.wrapping_sub(segment.old) as i32))
            .collect();
        starts.sort_unstable();
        Shifts { starts }
    }

    /// How far the byte at `old` has moved, as far as the segment at or before it tells; 0 where
    /// none does.
    #[inline]
    pub fn at(&self, old: u32) -> i32 {
        let after = self.starts.partition_point(|(start, _)| *start <= old);
        if after == 0 { 0 } else { self.starts[after - 1].1 }
    }
}
