//! The initramfs: `init`, its configuration and the modules of its initrd.

use anyhow::Result;

use super::modules::Module;
use imagefs::cpio;
use imagefs::tree::{Kind, Node, Tree};

/// Path of a module in the initramfs.
pub fn module_path(module: &Module) -> String {
    format!("/lib/modules/{}.ko", module.name)
}

/// The archive of `init`, `boot.conf` and modules, not compressed: updates compress it on their way,
/// two versions of it differ only where its files do, and the kernel has nothing to unpack.
pub fn build<'a>(
    init: &[u8],
    boot_conf: &str,
    modules: impl IntoIterator<Item = &'a Module>,
) -> Result<Vec<u8>> {
    let mut tree = Tree::new(0);
    // Folders that the initrd mounts things on.
    for folder in ["dev", "proc", "sys", "run", "root"] {
        tree.dir(folder, 0o755)?;
    }
    // The kernel opens the console for PID 1 before anything is mounted.
    for (path, major, minor) in [("dev/console", 5, 1), ("dev/null", 1, 3)] {
        tree.insert(path, Node::new(Kind::CharDevice { major, minor }, 0o600))?;
    }
    tree.file("init", 0o755, init)?;
    tree.file(formats::layout::BOOT_CONF, 0o644, boot_conf.as_bytes())?;
    for module in modules {
        tree.file(&module_path(module), 0o644, module.object.as_slice())?;
    }
    let mut archive = Vec::new();
    cpio::write(&tree, &mut archive)?;
    Ok(archive)
}
