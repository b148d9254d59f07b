//! Which parts of the new image are like which of the old one: bsdiff's way, with the suffix array
//! of the old image.

use crate::segments::Segment;

/// The old image with its suffixes in order.
pub struct Index<'a> {
    old: &'a [u8],
    suffixes: &'a [i32],
    /// Bytes of a bucket's key.
    depth: usize,
    /// For each value of the first bytes, where its suffixes start; one more for the end.
    buckets: Vec<u32>,
}

/// Compared at most: longer is long enough, and an image has megabytes of zeros.
const ENOUGH: usize = 1 << 16;

impl<'a> Index<'a> {
    /// Takes the suffix array of `old`.
    pub fn new(old: &'a [u8], suffixes: &'a [i32]) -> Self {
        let depth = if old.len() < 1 << 20 { 2 } else { 3 };
        let mut buckets = vec![0u32; (1 << (8 * depth)) + 1];
        // The last suffixes are shorter than a key: they sort in front of their bucket.
        for at in 0..old.len() {
            buckets[key(&old[at..], depth) + 1] += 1;
        }
        let mut sum = 0u32;
        for bucket in &mut buckets {
            sum += *bucket;
            *bucket = sum;
        }
        Index { old, suffixes, depth, buckets }
    }

    /// The longest match of `new`'s start in the old image: (length, where).
    fn longest(&self, new: &[u8]) -> (usize, usize) {
        if new.len() < self.depth {
            return (0, 0);
        }
        let key = key(new, self.depth);
        let (mut low, mut high) = (self.buckets[key] as usize, self.buckets[key + 1] as usize);
        if low >= high {
            return (0, 0);
        }
        // Invariant: suffixes before `low` sort below `new`, those from `high` on above.
        let mut best = (0, 0);
        let (mut low_match, mut high_match) = (self.depth, self.depth);
        while low < high {
            let middle = low + (high - low) / 2;
            let at = self.suffixes[middle] as usize;
            let skip = low_match.min(high_match).min(self.old.len() - at);
            let length = skip + common(&self.old[at + skip..], &new[skip..]);
            if length > best.0 {
                best = (length, at);
            }
            let below = length < new.len()
                && length < ENOUGH
                && (at + length == self.old.len() || self.old[at + length] < new[length]);
            if length >= ENOUGH || length == new.len() {
                break;
            }
            if below {
                low = middle + 1;
                low_match = length;
            } else {
                high = middle;
                high_match = length;
            }
        }
        best
    }
}

/// The first `depth` bytes as a number; missing ones count as 0.
#[inline]
fn key(bytes: &[u8], depth: usize) -> usize {
    (0..depth).fold(0, |key, i| key << 8 | usize::from(bytes.get(i).copied().unwrap_or(0)))
}

/// How many first bytes are the same, up to [`ENOUGH`].
fn common(a: &[u8], b: &[u8]) -> usize {
    let most = a.len().min(b.len()).min(ENOUGH);
    let (a, b) = (&a[..most], &b[..most]);
    let mut length = 0;
    for (x, y) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        if x != y {
            break;
        }
        length += 8;
    }
    length + a[length..].iter().zip(&b[length..]).take_while(|(x, y)| x == y).count()
}

/// How many more bytes a new place has to match than the old one goes on to.
const BETTER_BY: usize = 10;

/// Aligns `new[from..to]`; positions of the segments are of the whole images.
pub fn align(index: &Index, new: &[u8], from: usize, to: usize) -> Vec<Segment> {
    let old = index.old;
    let target = &new[..to];
    let mut segments = Vec::new();
    let (mut scan, mut length, mut place) = (from, 0usize, 0usize);
    // Before anything is known: the same place as in the old image.
    let (mut last_scan, mut last_place) = (from, from.min(old.len()));
    let mut last_offset = last_place as isize - from as isize;
    // The byte that the running alignment puts opposite `at`.
    let opposite = |at: usize, offset: isize| {
        at.checked_add_signed(offset).and_then(|at| old.get(at)).copied()
    };
    while scan < to {
        // As in bsdiff: go on until a match is clearly better than where we are already.
        let mut old_score = 0usize;
        scan += length;
        let mut scored = scan;
        while scan < to {
            (length, place) = index.longest(&target[scan..]);
            while scored < scan + length {
                old_score += usize::from(opposite(scored, last_offset) == Some(new[scored]));
                scored += 1;
            }
            if (length == old_score && length != 0) || length > old_score + BETTER_BY {
                break;
            }
            if scored > scan {
                old_score -= usize::from(opposite(scan, last_offset) == Some(new[scan]));
            } else {
                scored = scan + 1;
            }
            scan += 1;
        }
        if length != old_score || scan >= to {
            let scan = scan.min(to);
            // Forward from the last match, as long as half of the bytes agree.
            let (mut same, mut best, mut forward) = (0isize, 0isize, 0usize);
            let mut i = 0;
            while last_scan + i < scan && last_place + i < old.len() {
                same += isize::from(old[last_place + i] == new[last_scan + i]);
                i += 1;
                if same * 2 - i as isize > best * 2 - forward as isize {
                    (best, forward) = (same, i);
                }
            }
            // Backward from the new one.
            let mut backward = 0usize;
            if scan < to {
                let (mut same, mut best) = (0isize, 0isize);
                let mut i = 1;
                while scan >= last_scan + i && place >= i {
                    same += isize::from(old[place - i] == new[scan - i]);
                    if same * 2 - i as isize > best * 2 - backward as isize {
                        (best, backward) = (same, i);
                    }
                    i += 1;
                }
            }
            // Where both reach, cut where it is best.
            if last_scan + forward > scan - backward {
                let overlap = last_scan + forward - (scan - backward);
                let (mut score, mut best, mut keep) = (0isize, 0isize, 0usize);
                for i in 0..overlap {
                    let ahead = last_scan + forward - overlap + i;
                    score += isize::from(new[ahead] == old[last_place + forward - overlap + i]);
                    score -= isize::from(new[scan - backward + i] == old[place - backward + i]);
                    if score > best {
                        (best, keep) = (score, i + 1);
                    }
                }
                forward = forward + keep - overlap;
                backward -= keep;
            }
            segments.push(Segment {
                new: last_scan as u32,
                old: last_place as u32,
                copy: forward as u32,
            });
            last_scan = scan - backward;
            last_place = place - backward;
            last_offset = place as isize - scan as isize;
        }
    }
    segments.retain(|segment| segment.copy > 0 || segment.new as usize == from);
    segments
}
