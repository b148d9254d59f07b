//! The pieces in which an image goes onto a medium.

use std::ops::Range;

use formats::layout::ALIGNMENT;

use crate::aligned::Aligned;

/// Most bytes of a window; `dd` with `bs=4M` is what it is measured against.
pub const WINDOW: usize = 4 << 20;
/// The first bytes of the disk, a window of their own: what makes the medium bootable is in them.
pub const HEAD: usize = ALIGNMENT as usize;

/// A piece of the disk. `runs` cover `offset .. offset + length` in order.
pub struct Window {
    /// Byte offset on the disk.
    pub offset: u64,
    /// The bytes; only those of data runs are filled in.
    pub bytes: Aligned,
    /// What is where, relative to `offset`.
    pub runs: Vec<Run>,
}

/// Some bytes of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Which, within the window.
    pub range: Range<usize>,
    /// All of them are zero.
    pub zero: bool,
}
