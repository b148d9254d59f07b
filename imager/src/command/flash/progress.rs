//! How far it is: a line that is overwritten on a terminal, nothing elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two looks at the line.
const PAUSE: Duration = Duration::from_millis(200);

/// One pass over the medium.
pub struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    /// Of `done`, what went through the cable.
    moved: u64,
    start: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// A pass over `total` bytes. `what` is its verb, such as `writing`.
    pub fn new(what: &'static str, total: u64) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress { what, total, done: 0, moved: 0, start: Instant::now(), shown: None, terminal }
    }

    /// `done` more bytes of the medium are right, `moved` of them by moving them.
    pub fn add(&mut self, done: u64, moved: u64) {
        self.done += done;
        self.moved += moved;
        if !self.terminal || self.shown.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        self.shown = Some(Instant::now());
        let line = line(self.what, self.done, self.total, self.moved, self.start.elapsed());
        eprint!("\r{line:<70}");
        let _ = std::io::stderr().flush();
    }

    /// Ends the line; returns the bytes that were moved and how long it took.
    pub fn end(self) -> Pass {
        if self.shown.is_some() {
            eprint!("\r{:<70}\r", "");
        }
        Pass { done: self.done, moved: self.moved, took: self.start.elapsed() }
    }
}

/// What a pass came to.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    done: u64,
    moved: u64,
    took: Duration,
}

impl Pass {
    /// Bytes of the medium that did not go through the cable.
    pub fn zeros(&self) -> u64 {
        self.done - self.moved
    }

    /// Like `78.3 MB in 3.12 s (25.1 MB/s)`.
    pub fn rate(&self) -> String {
        format!(
            "{:.1} MB in {:.2} s ({:.1} MB/s)",
            self.moved as f64 / 1e6,
            self.took.as_secs_f64(),
            per_second(self.moved, self.took)
        )
    }
}

fn per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(1e-3)
}

fn line(what: &str, done: u64, total: u64, moved: u64, time: Duration) -> String {
    let share = done as f64 / total.max(1) as f64;
    let left = match share {
        s if s > 0.02 => format!(", {:.0} s left", time.as_secs_f64() / s * (1.0 - s)),
        _ => String::new(),
    };
    let rate = per_second(moved, time);
    let (done, total) = (done as f64 / 1e6, total as f64 / 1e6);
    format!("{what} {done:.0} of {total:.0} MB ({:.0} %), {rate:.1} MB/s{left}", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long_still() {
        let line = |done, moved| line("writing", done, 200_000_000, moved, Duration::from_secs(4));
        assert_eq!(
            line(50_000_000, 40_000_000),
            "writing 50 of 200 MB (25 %), 10.0 MB/s, 12 s left"
        );
        assert_eq!(line(0, 0), "writing 0 of 200 MB (0 %), 0.0 MB/s");
    }
}
