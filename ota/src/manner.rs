//! What a server does with requests for parts of a file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a server makes of ranges; known after the first answers, and kept for all its files.
#[derive(Clone, Debug, Default)]
pub struct Manner(Arc<AtomicU8>);

/// What one request may ask for. The order is that of trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asking {
    /// Several ranges.
    Several,
    /// One range.
    One,
    /// The file from its start.
    Whole,
}

impl Manner {
    /// What the next request may ask for.
    pub fn asking(&self) -> Asking {
        match self.0.load(Ordering::Relaxed) {
            0 => Asking::Several,
            1 => Asking::One,
            _ => Asking::Whole,
        }
    }

    /// Never back to more: a server that failed once is not asked again.
    pub fn no_more_than(&self, asking: Asking) {
        self.0.fetch_max(asking as u8, Ordering::Relaxed);
    }
}
