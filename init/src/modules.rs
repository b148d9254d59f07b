//! Loading kernel modules.

use std::os::fd::OwnedFd;
use std::path::Path;

use formats::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::console::say;

/// Where modules lie on the root.
const FOLDER: &str = "/usr/lib/modules/";

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

/// `modprobe -q -- NAME`, as the kernel runs it (Linux kernel/module/kmod.c): loads a module that lies
/// on the root under exactly this name, and knows no aliases and no dependencies. Some drivers ask so
/// for a part of them. Returns the exit status.
pub fn asked_for(arguments: &[String]) -> i32 {
    match arguments.last().and_then(|name| path_of(name)) {
        Some(path) if Path::new(&path).is_file() => match load(&path) {
            Ok(()) => 0,
            Err(e) => {
                say(&[&e.to_string()]);
                1
            }
        },
        _ => 1,
    }
}

/// Where a module of this name lies. `None` for what is no name.
fn path_of(name: &str) -> Option<String> {
    const MAX_NAME: usize = 64;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let good = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain);
    good.then(|| [FOLDER, &name.replace('-', "_"), ".ko"].concat())
}

/// Loads the modules at `paths` in order.
pub fn load_chain(paths: &[String]) -> Result<()> {
    paths.iter().try_for_each(|path| load(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_asks_for_is_a_file_of_that_name_or_nothing() {
        assert_eq!(path_of("brcmfmac-wcc").as_deref(), Some("/usr/lib/modules/brcmfmac_wcc.ko"));
        for name in ["", "../x", "a/b", "crypto-ccm(aes)", "net-pf-10 x", &"x".repeat(65)] {
            assert_eq!(path_of(name), None, "{name}");
        }
        let arguments = ["-q", "--", "no-such-module"].map(String::from);
        assert_eq!(asked_for(&arguments), 1);
        assert_eq!(asked_for(&[]), 1);
    }
}
