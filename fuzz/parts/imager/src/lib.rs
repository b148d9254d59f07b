//! The file systems of `imager`, writers and readers.

#[allow(dead_code)]
#[path = "../../../../imager/src/fs/mod.rs"]
pub mod fs;
