//! A workload's last output: a byte ring with a fixed limit.
//!
//! Readers hold an absolute position (bytes since the workload's first output), so that following
//! a log needs no buffer of its own and a slow reader only loses what the ring has dropped.

/// The last `limit` bytes somebody wrote.
#[derive(Debug)]
pub struct LogRing {
    bytes: Vec<u8>,
    limit: usize,
    /// Absolute position of the next byte written.
    end: u64,
}

/// The ring grows in these steps, so that a quiet workload costs no memory.
const GROWTH: usize = 4096;

impl LogRing {
    /// An empty ring that will hold at most `limit` bytes (at least one).
    pub fn new(limit: usize) -> LogRing {
        LogRing { bytes: Vec::new(), limit: limit.max(1), end: 0 }
    }

    /// Adds `data`, dropping the oldest bytes where the limit is reached.
    pub fn push(&mut self, data: &[u8]) {
        let skipped = data.len().saturating_sub(self.limit);
        self.end += skipped as u64;
        let mut rest = &data[skipped..];
        while !rest.is_empty() {
            if self.bytes.len() < self.limit {
                let room = (self.limit - self.bytes.len()).min(rest.len());
                if self.bytes.capacity() - self.bytes.len() < room {
                    self.bytes.reserve_exact(room.max(GROWTH).min(self.limit - self.bytes.len()));
                }
                if self.end as usize % self.limit == self.bytes.len() {
                    self.bytes.extend_from_slice(&rest[..room]);
                    self.end += room as u64;
                    rest = &rest[room..];
                    continue;
                }
                // A single write longer than the ring moved the end past the part that is filled.
                self.bytes.resize(self.limit, b'\n');
            }
            let at = (self.end % self.limit as u64) as usize;
            let run = rest.len().min(self.limit - at);
            self.bytes[at..at + run].copy_from_slice(&rest[..run]);
            self.end += run as u64;
            rest = &rest[run..];
        }
    }

    /// Absolute position of the oldest byte still held.
    pub fn start(&self) -> u64 {
        self.end - self.end.min(self.bytes.len() as u64)
    }

    /// Absolute position after the newest byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The longest run of bytes from absolute position `from` that lies in one piece, and the
    /// position it starts at: later than `from` if the ring has dropped that part.
    pub fn read(&self, from: u64) -> (u64, &[u8]) {
        let from = from.clamp(self.start(), self.end);
        let at = (from % self.limit as u64) as usize;
        let run = ((self.end - from) as usize).min(self.bytes.len().saturating_sub(at));
        (from, self.bytes.get(at..at + run).unwrap_or(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(ring: &LogRing) -> Vec<u8> {
        let (mut at, mut out) = (0, Vec::new());
        loop {
            let (start, run) = ring.read(at);
            if run.is_empty() {
                return out;
            }
            out.extend_from_slice(run);
            at = start + run.len() as u64;
        }
    }

    #[test]
    fn a_reader_that_was_too_slow_is_told_where_the_ring_starts() {
        let mut ring = LogRing::new(4);
        ring.push(b"abcdef");
        assert_eq!(ring.read(0).0, 2);
        assert_eq!(all(&ring), b"cdef");
    }

    #[test]
    fn a_quiet_workload_costs_no_memory() {
        let mut ring = LogRing::new(1 << 20);
        ring.push(b"one line\n");
        assert!(ring.bytes.capacity() <= 2 * GROWTH, "{} bytes", ring.bytes.capacity());
    }

    proptest! {
        #[test]
        fn it_holds_exactly_the_tail_of_what_was_written(
            limit in 1usize..64,
            writes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..30),
        ) {
            let mut ring = LogRing::new(limit);
            let mut all_written: Vec<u8> = Vec::new();
            for write in writes {
                ring.push(&write);
                all_written.extend_from_slice(&write);
                prop_assert_eq!(ring.end(), all_written.len() as u64);
                let tail = &all_written[all_written.len().saturating_sub(limit)..];
                prop_assert_eq!(all(&ring), tail);
                prop_assert!(ring.bytes.len() <= limit);
            }
        }
    }
}
