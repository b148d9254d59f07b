//! The block of the file systems written here.

use std::io;

/// Bytes of a block.
pub const BLOCK: usize = 4096;

/// The error for what such a file system cannot hold.
pub fn refuse<T>(reason: String) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}
