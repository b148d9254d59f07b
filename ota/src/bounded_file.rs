//! Files that may not be longer than who reads them can hold.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// All of a file that is at most `max` bytes long.
pub fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max + 1).read_to_end(&mut bytes))
        .map_err(|e| Error::at(path, e))?;
    if bytes.len() as u64 > max {
        return Err(Error::at(path, format_args!("longer than {max} bytes")));
    }
    Ok(bytes)
}
