//! Copying a disk image without writing its zeros.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Copies `from` to `to`, leaving holes where `from` has only zeros. `to` is made beside itself
/// first, so that an interrupted copy leaves nothing under its name.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unread = || format!("{} cannot be read", from.display());
    let unwritten = || format!("{} cannot be written; is the disk full?", to.display());
    let mut source = File::open(from).with_context(unread)?;
    let mut new = tempfile::NamedTempFile::new_in(folder).with_context(unwritten)?;
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let read = source.read(&mut buffer).with_context(unread)?;
        if read == 0 {
            break;
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            new.as_file_mut().write_all_at(&buffer[..read], length).with_context(unwritten)?;
        }
        length += read as u64;
    }
    new.as_file().set_len(length).with_context(unwritten)?;
    new.persist(to).with_context(unwritten)?;
    Ok(())
}
