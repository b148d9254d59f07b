//! What a server does with requests for parts of a file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a server makes of ranges; known after the first answers, and kept for all its files.
#[derive(Clone, Debug, Default)]
pub struct RangeSupport(Arc<AtomicU8>);

/// What one request may ask for. The order is that of trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RangeRequest {
    /// Several ranges.
    Multiple,
    /// One range.
    Single,
    /// The file from its start.
    WholeFile,
}

impl RangeSupport {
    /// What the next request may ask for.
    pub fn request(&self) -> RangeRequest {
        match self.0.load(Ordering::Relaxed) {
            0 => RangeRequest::Multiple,
            1 => RangeRequest::Single,
            _ => RangeRequest::WholeFile,
        }
    }

    /// Never back to more: a server that failed once is not asked again.
    pub fn downgrade_to(&self, request: RangeRequest) {
        self.0.fetch_max(request as u8, Ordering::Relaxed);
    }
}
