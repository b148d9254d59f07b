//! Loading kernel modules.

use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{waitpid, WaitOptions};
use slot::{Error, Result};

use crate::sys::{self, Forked};

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

/// Loads modules that stand in dependency order, the first one beside all the others: a disk
/// driver's probe, which boards name first, takes as long as the rest together.
///
/// Where that does not work out (no process to be had, another module depends on the first), they
/// are loaded one after the other, and the error is that of the first one that fails so.
pub fn load_all(paths: &[&str]) -> Result<()> {
    let Some((first, rest)) = paths.split_first() else { return Ok(()) };
    let others = match sys::fork(None) {
        Ok(Forked::Child) => {
            let failed = rest.iter().any(|path| load(path).is_err());
            sys::exit(i32::from(failed))
        }
        Ok(Forked::Parent(pid)) => Some(pid),
        Err(_) => None,
    };
    let loaded = load(first);
    let status = others.and_then(|pid| loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            ended => break ended.ok().flatten(),
        }
    });
    if loaded.is_ok() && status.is_some_and(|(_, status)| status.exit_status() == Some(0)) {
        return Ok(());
    }
    paths.iter().try_for_each(|path| load(path))
}
