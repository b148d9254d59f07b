//! Copying a disk image without writing its zeros.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Copies `from` to `to`, leaving holes where `from` has only zeros. `to` is made beside itself
/// first, so that an interrupted copy leaves nothing under its name.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot =
        || format!("{} cannot be copied to {}; is the disk full?", from.display(), to.display());
    let mut source = File::open(from).with_context(cannot)?;
    let mut new = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    copy_sparse(&mut source, new.as_file_mut()).with_context(cannot)?;
    new.persist(to).with_context(cannot)?;
    Ok(())
}

fn copy_sparse(from: &mut File, to: &mut File) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(length))?;
            to.write_all(&buffer[..read])?;
        }
        length += read as u64;
    }
    to.set_len(length)
}
