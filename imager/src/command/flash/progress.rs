//! How far it is: a line that is overwritten on a terminal, nothing elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use flash::pass::{Observer, per_second};

use super::interrupt;

/// Between two looks at the line.
const PAUSE: Duration = Duration::from_millis(200);

/// The passes over the medium, on a terminal.
pub struct Progress {
    verb: &'static str,
    total: u64,
    done: u64,
    /// Of `done`, what went through the cable.
    moved: u64,
    start: Instant,
    last_line: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// None has begun.
    pub fn new() -> Progress {
        Progress {
            verb: "",
            total: 0,
            done: 0,
            moved: 0,
            start: Instant::now(),
            last_line: None,
            terminal: std::io::stderr().is_terminal(),
        }
    }
}

impl Observer for Progress {
    fn begin(&mut self, verb: &'static str, total: u64) {
        *self = Progress { verb, total, ..Progress::new() };
    }

    fn advance(&mut self, done: u64, moved: u64) {
        self.done += done;
        self.moved += moved;
        if !self.terminal || self.last_line.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        self.last_line = Some(Instant::now());
        let line = line(self.verb, self.done, self.total, self.moved, self.start.elapsed());
        eprint!("\r{line:<70}");
        let _ = std::io::stderr().flush();
    }

    fn end(&mut self) {
        if self.last_line.is_some() {
            eprint!("\r{:<70}\r", "");
        }
    }

    fn check(&self) -> Result<()> {
        interrupt::check()
    }
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
