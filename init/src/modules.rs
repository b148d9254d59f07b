//! Loading kernel modules.

use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use slot::{Error, Result};

/// Loads the module at `path`, which may be compressed. One that is loaded already is no error.
pub fn load(path: &str) -> Result<()> {
    let error = |e: Errno| Error::new(["module ", path, ": ", &e.to_string()].concat());
    let file =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(error)?;
    // MODULE_INIT_COMPRESSED_FILE: the kernel unpacks it.
    let flags = match Path::new(path).extension() {
        Some(end) if end != "ko" => 4,
        _ => 0,
    };
    match rustix::system::finit_module(&file, c"", flags) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(error(e)),
    }
}
