//! Leaving the initramfs for the root.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use formats::{Error, Result};
use rustix::mount::mount_move;
use rustix::process::{chdir, chroot};

use crate::sys;

/// The rootfs.
const INIT: &str = "/sbin/init";

/// Frees what the initramfs occupies, makes `new_root` the root and becomes its `/sbin/init` with
/// only these environment variables. Returns only to say what failed.
pub fn enter(new_root: &str, environment: &[CString]) -> Result<Infallible> {
    let error = |what: &str, e: &dyn std::fmt::Display| {
        Error::new(["switch root, ", what, ": ", &e.to_string()].concat())
    };
    for folder in ["/proc", "/sys", "/dev", "/run"] {
        let target = [new_root, folder].concat();
        mount_move(folder, target.as_str()).map_err(|e| error(folder, &e))?;
    }
    chdir(new_root).map_err(|e| error("chdir", &e))?;
    // The archive lives in memory: what stays in it would be lost to the workloads.
    if let Ok(root) = fs::metadata("/") {
        remove_below(Path::new("/"), root.dev());
    }
    mount_move(".", "/").map_err(|e| error("move", &e))?;
    chroot(".").and_then(|()| chdir("/")).map_err(|e| error("chroot", &e))?;
    let init = CString::new(INIT).map_err(|e| error(INIT, &e))?;
    Err(error(INIT, &sys::exec(&init, std::slice::from_ref(&init), environment)))
}

/// Removes everything below `folder` that lies on device `device`; mounts are not entered.
fn remove_below(folder: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(data) if data.dev() != device => {}
            Ok(data) if data.is_dir() => {
                remove_below(&path, device);
                let _ = fs::remove_dir(&path);
            }
            _ => {
                let _ = fs::remove_file(&path);
            }
        }
    }
}
