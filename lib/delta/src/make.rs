//! The build host's side: two images → a delta.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::align::{Index, align};
use crate::apply::{LITERALS_MODELLED, LITERALS_PACKED};
use crate::coder::Encoder;
use crate::group::{Part, literal_bytes, parts};
use crate::header::{BLOCK, Group, Header, MAX_GROUP_SIZE, MAX_IMAGE, MAX_REACH, max_frame};
use crate::literals;
use crate::mix::Tables;
use crate::model::Model;
use crate::segments::{self, MAX_SEGMENTS, Segment, Shifts};
use crate::{Error, Result, sys};

/// What a maker may choose.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// MiB of output that one group makes. Larger groups save table entries and make a longer way
    /// back after a cut.
    pub group_mib: u32,
    /// Threads to use; the delta is the same whatever their number.
    pub threads: usize,
    /// What each group costs from another source, in bytes: a frame that is not shorter is left out.
    /// Groups behind the end of these are always in.
    pub elsewhere: &'a [u32],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { group_mib: 1, threads: 2, elsewhere: &[] }
    }
}

/// Makes the delta from `old` to `new`. The same images and options give the same bytes.
///
/// Takes 5 bytes of memory for each byte of `old`, and both images. Fails when an image is 2 GiB or
/// larger or memory is short.
pub fn make(old: &[u8], new: &[u8], options: &Options<'_>) -> Result<Vec<u8>> {
    for (image, which) in [(old, "old"), (new, "new")] {
        if image.len() > MAX_IMAGE as usize {
            return Err(Error::new(format!("delta: the {which} image is 2 GiB or larger")));
        }
    }
    let segments = find_segments(old, new, options)?;
    let tables = Tables::new();
    let mut encoder = Encoder::new();
    let count = segments.len() as u32;
    let (old_size, new_size) = (old.len() as u32, new.len() as u32);
    segments::code(&mut encoder, &tables, segments.iter().copied(), count, old_size, new_size)?;
    let control = encoder.finish();
    let group_size = options.group_mib.checked_mul(BLOCK);
    let group_size = group_size
        .filter(|size| (BLOCK..=MAX_GROUP_SIZE).contains(size))
        .ok_or_else(|| Error::new("delta: a group is 1 to 4 MiB"))?;
    let mut header = Header {
        old_size,
        new_size,
        group_size,
        segments: count,
        control: control.len() as u32,
        groups: Vec::new(),
    };
    let ranges: Vec<_> = (0..u64::from(new_size).div_ceil(group_size.into()))
        .map(|i| header.range(i as usize))
        .collect();
    let shifts = Shifts::new(&segments);
    let pair = Pair { old, new, segments: &segments, shifts: &shifts };
    let frames = in_parallel(options.threads, &ranges, |range| pair.group(range.clone()));
    let mut frames = frames.into_iter().collect::<Result<Vec<Coded>>>()?;
    for (index, coded) in frames.iter_mut().enumerate() {
        let Coded { frame, reach } = coded;
        let elsewhere = options.elsewhere.get(index).copied().unwrap_or(u32::MAX);
        if frame.len() >= elsewhere as usize {
            frame.clear();
            *reach = 0;
        }
        if frame.len() > max_frame(group_size) as usize {
            return Err(Error::new(format!("delta: group {index} cannot be coded")));
        }
        let sha256 = Sha256::digest(&*frame).into();
        header.groups.push(Group { length: frame.len() as u32, reach: *reach, sha256 });
    }
    let mut delta = header.to_bytes();
    delta.extend_from_slice(&control);
    for coded in &frames {
        delta.extend_from_slice(&coded.frame);
    }
    Ok(delta)
}

/// The new image is aligned in pieces of this size, so that threads share the work and the result
/// does not depend on their number.
const STRETCH: usize = 16 << 20;

fn find_segments(old: &[u8], new: &[u8], options: &Options<'_>) -> Result<Vec<Segment>> {
    let suffixes = sys::suffix_array(old)?;
    let index = Index::new(old, &suffixes);
    let starts: Vec<usize> = (0..new.len()).step_by(STRETCH).collect();
    let stretches = in_parallel(options.threads, &starts, |start| {
        align(&index, new, *start, new.len().min(start + STRETCH))
    });
    let mut segments: Vec<Segment> = stretches.into_iter().flatten().collect();
    if segments.is_empty() && !new.is_empty() {
        segments.push(Segment { new: 0, old: 0, copy: 0 });
    }
    // More than a device takes: the shortest copies become literals.
    let mut least = 1;
    while segments.len() > MAX_SEGMENTS as usize {
        least *= 2;
        segments.retain(|segment| segment.copy >= least || segment.new == 0);
    }
    Ok(segments)
}

/// With fewer literals than this packing them gains nothing.
const WORTH_PACKING: usize = 64 << 10;

/// A group of next to nothing but literals is packed even where that takes one part in so many
/// more: it unpacks ten times as fast, and a new file is many such groups.
const MORE_FOR_SPEED: usize = 12;

/// A group's frame, and how far back it needs the new image.
struct Coded {
    frame: Vec<u8>,
    reach: u32,
}

/// Where a group's literals are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Literals {
    Modelled,
    Packed,
}

/// Both images and how one is made of the other.
struct Pair<'a> {
    old: &'a [u8],
    new: &'a [u8],
    segments: &'a [Segment],
    shifts: &'a Shifts,
}

impl Pair<'_> {
    /// The group's frame: literals packed where that is smaller, or little larger and so faster.
    fn group(&self, range: Range<u32>) -> Result<Coded> {
        let mut frame = vec![LITERALS_MODELLED];
        frame.append(&mut self.code(range.clone(), Literals::Modelled));
        let modelled = Coded { frame, reach: 0 };
        if literal_bytes(self.segments, range.clone()) < WORTH_PACKING {
            return Ok(modelled);
        }
        // Whole MiB: `range.start` is a multiple of them.
        let reach = range.start.min(MAX_REACH);
        let before = &self.new[(range.start - reach) as usize..range.start as usize];
        let mut bytes = Vec::new();
        for part in parts(self.segments, range.clone()) {
            if let Part::Literals { new, length } = part {
                bytes.extend_from_slice(&self.new[new as usize..(new + length) as usize]);
            }
        }
        let mut packed = literals::pack(&bytes, before)?;
        let mut frame = vec![LITERALS_PACKED];
        frame.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        frame.append(&mut packed);
        frame.append(&mut self.code(range.clone(), Literals::Packed));
        let length = modelled.frame.len();
        let allowed = match bytes.len() as u32 >= (range.end - range.start) / 8 * 7 {
            true => length / MORE_FOR_SPEED,
            false => length / 128,
        };
        if frame.len() <= length + allowed {
            return Ok(Coded { frame, reach });
        }
        Ok(modelled)
    }

    /// The arithmetic code of a group's copies, and of its literals if they are to be modelled.
    fn code(&self, range: Range<u32>, literals: Literals) -> Vec<u8> {
        let mut encoder = Encoder::new();
        let mut model = Model::new();
        for part in parts(self.segments, range) {
            match part {
                Part::Copy { old: at, new: to, length } => {
                    let old_bytes = &self.old[at as usize..(at + length) as usize];
                    let mut bytes = self.new[to as usize..(to + length) as usize].to_vec();
                    model.copy(&mut encoder, self.shifts, (at, old_bytes), (to, &mut bytes));
                }
                Part::Literals { new: to, length } if literals == Literals::Modelled => {
                    let mut bytes = self.new[to as usize..(to + length) as usize].to_vec();
                    model.literals(&mut encoder, to, &mut bytes);
                }
                Part::Literals { .. } => {}
            }
        }
        encoder.finish()
    }
}

/// `work` for each item, on so many threads; the results in the items' order.
fn in_parallel<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    done.lock().unwrap_or_else(|poison| poison.into_inner()).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|poison| poison.into_inner());
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
