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

/// Bytes that the last line is looked for in.
const TAIL: u64 = 1024;
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

    /// The last line with something in it of what was written from `from` on, as far as it is among
    /// the newest [`TAIL`] bytes.
    pub fn last_line(&self, from: u64) -> Vec<u8> {
        let mut at = from.max(self.end.saturating_sub(TAIL));
        let mut tail = Vec::new();
        // Two pieces where the ring turns over.
        loop {
            let (start, piece) = self.read(at);
            if piece.is_empty() {
                break;
            }
            tail.extend_from_slice(piece);
            at = start + piece.len() as u64;
        }
        loop {
            let feed = tail.iter().rposition(|byte| *byte == b'\n');
            let line = tail[feed.map_or(0, |feed| feed + 1)..].trim_ascii();
            // Behind a panic's message Rust prints how to see more of it.
            let says = !line.is_empty() && !line.starts_with(b"note: ");
            match feed {
                Some(feed) if !says => tail.truncate(feed),
                _ => return line.to_vec(),
            }
        }
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

    #[test]
    fn the_last_line_is_the_newest_processs_own_and_says_something() {
        let line = |written: &[&str], from| {
            let mut ring = LogRing::new(64);
            written.iter().for_each(|text| ring.push(text.as_bytes()));
            String::from_utf8(ring.last_line(from)).unwrap()
        };
        assert_eq!(line(&[], 0), "");
        assert_eq!(line(&["one\ntwo\n\n \n"], 0), "two");
        assert_eq!(line(&["one\nwithout an end"], 0), "without an end");
        assert_eq!(line(&["of the one before\n"], 18), "");
        let panic = "thread 'main' panicked at x.rs:1:1:\nno\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(line(&[panic], 0), "no");
        // Where the ring turns over within it, and where its beginning is lost.
        assert_eq!(
            line(&[&"x".repeat(50), "\nlonger than what is left\n"], 0),
            "longer than what is left"
        );
        assert_eq!(line(&[&"y".repeat(100)], 0), "y".repeat(64));
        let mut long = LogRing::new(1 << 16);
        long.push(&[b'z'; 5000]);
        assert_eq!(long.last_line(0).len() as u64, TAIL);
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
