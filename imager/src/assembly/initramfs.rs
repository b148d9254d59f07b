//! The initramfs: `init`, its configuration and the modules of its first life.

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::frame_cache::frame;
use super::modules::Module;
use crate::fs::cpio;
use crate::fs::tree::{Kind, Node, Tree};
use crate::sources::cache::Cache;

/// zstd level: unpacking costs the same at each, and the kernel is given all it takes to pack.
const LEVEL: i32 = 19;

/// Path of a module in the initramfs.
pub fn module_path(module: &Module) -> String {
    format!("/lib/modules/{}.ko", module.name)
}

/// The compressed archive of `init`, `boot.conf` and modules.
pub fn build<'a>(
    init: &[u8],
    boot_conf: &str,
    modules: impl IntoIterator<Item = &'a Module>,
    cache: &Cache,
) -> Result<Vec<u8>> {
    let mut tree = Tree::new(0);
    // Folders that the first life mounts things on.
    for folder in ["dev", "proc", "sys", "run", "root"] {
        tree.dir(folder, 0o755)?;
    }
    // The kernel opens the console for PID 1 before anything is mounted.
    for (path, major, minor) in [("dev/console", 5, 1), ("dev/null", 1, 3)] {
        tree.insert(path, Node::new(Kind::CharDevice { major, minor }, 0o600))?;
    }
    tree.file("init", 0o755, init)?;
    tree.file(slot::layout::BOOT_CONF, 0o644, boot_conf.as_bytes())?;
    for module in modules {
        tree.file(&module_path(module), 0o644, module.object.as_slice())?;
    }
    let mut archive = Vec::new();
    cpio::write(&tree, &mut archive)?;
    frame(&archive, &Sha256::digest(&archive).into(), LEVEL, cache)
}
