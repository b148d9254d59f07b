//! Loading kernel modules.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use slot::{Error, Result};

/// A module that is opened and not loaded yet.
pub struct Module<'a> {
    path: &'a str,
    file: OwnedFd,
}

impl Module<'_> {
    /// Opens it, so that it can still be loaded when its path is gone.
    pub fn open(path: &str) -> Result<Module<'_>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| error(path, e))?;
        Ok(Module { path, file })
    }

    /// Loads it, compressed or not. One that is loaded already is no error.
    pub fn load(&self) -> Result<()> {
        // MODULE_INIT_COMPRESSED_FILE: the kernel unpacks it.
        let flags = match Path::new(self.path).extension() {
            Some(end) if end != "ko" => 4,
            _ => 0,
        };
        match rustix::system::finit_module(&self.file, c"", flags) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(error(self.path, e)),
        }
    }
}

fn error(path: &str, e: Errno) -> Error {
    Error::new(["module ", path, ": ", &e.to_string()].concat())
}

/// Loads the module at `path`, which may be compressed. One that is loaded already is no error.
pub fn load(path: &str) -> Result<()> {
    Module::open(path)?.load()
}

/// Loads the modules at `paths` in order.
pub fn load_chain(paths: &[&str]) -> Result<()> {
    paths.iter().try_for_each(|path| load(path))
}
