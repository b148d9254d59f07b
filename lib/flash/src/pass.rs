//! How far a pass over a medium is, and what it came to.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Who watches the passes over a medium, and may end them.
pub trait Observer {
    /// A pass over `total` bytes begins; `verb` says what it does, such as `writing`.
    fn begin(&mut self, verb: &'static str, total: u64);

    /// `done` more bytes of the medium are right, `moved` of them by moving them.
    fn advance(&mut self, done: u64, moved: u64);

    /// The pass is over.
    fn end(&mut self);

    /// Asked between two pieces: fails when the pass is to end here.
    fn check(&self) -> Result<()>;
}

/// Nobody watches.
impl Observer for () {
    fn begin(&mut self, _: &'static str, _: u64) {}

    fn advance(&mut self, _: u64, _: u64) {}

    fn end(&mut self) {}

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// What a pass came to.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    done: u64,
    /// Of `done`, what went through the cable.
    moved: u64,
    duration: Duration,
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
            self.duration.as_secs_f64(),
            per_second(self.moved, self.duration)
        )
    }
}

/// MB a second.
pub fn per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(1e-3)
}

/// A pass that is under way.
pub(crate) struct Counter<'a> {
    observer: &'a mut dyn Observer,
    start: Instant,
    done: u64,
    moved: u64,
}

impl<'a> Counter<'a> {
    pub(crate) fn new(
        observer: &'a mut dyn Observer,
        verb: &'static str,
        total: u64,
    ) -> Counter<'a> {
        observer.begin(verb, total);
        Counter { observer, start: Instant::now(), done: 0, moved: 0 }
    }

    pub(crate) fn add(&mut self, done: u64, moved: u64) {
        self.done += done;
        self.moved += moved;
        self.observer.advance(done, moved);
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.observer.check()
    }

    pub(crate) fn end(self) -> Pass {
        self.observer.end();
        Pass { done: self.done, moved: self.moved, duration: self.start.elapsed() }
    }
}
