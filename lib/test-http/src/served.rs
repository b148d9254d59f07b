//! What a server has sent, as it counted it.

use std::ops::Range;

/// What was served for one path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// Requests, wrongly answered ones included.
    pub requests: usize,
    /// Bytes of bodies handed to the network.
    pub bytes: u64,
    /// The ranges of bytes asked for, in order; one without an end reaches to `u64::MAX`.
    pub ranges: Vec<Range<u64>>,
    /// How many ranges each request named, in order.
    pub ranges_each: Vec<usize>,
}

impl Served {
    /// How many different bytes the ranges name: less than what was sent if some came twice.
    pub fn different(&self) -> u64 {
        let mut ranges = self.ranges.clone();
        ranges.sort_by_key(|range| range.start);
        let mut counted_to = 0;
        let new = |range: &Range<u64>| {
            let from = range.start.max(counted_to);
            counted_to = counted_to.max(range.end);
            range.end.saturating_sub(from)
        };
        ranges.iter().map(new).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_asked_for_twice_counts_once() {
        let different = |ranges: &[Range<u64>]| {
            Served { ranges: ranges.to_vec(), ..Served::default() }.different()
        };
        assert_eq!(different(&[]), 0);
        assert_eq!(different(&[10..20, 0..5]), 15);
        assert_eq!(different(&[0..20, 5..10, 15..30, 30..31]), 31);
        assert_eq!(different(&[7..u64::MAX, 0..9]), u64::MAX);
    }
}
