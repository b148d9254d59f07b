//! A file that takes another one's place in one step.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes beside, flushes, renames, flushes the folder. The name meanwhile starts with a dot, so
/// that a server does not offer it.
pub fn replace(path: &Path, content: &mut impl Read) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        io::copy(content, &mut file)?;
        file.flush()?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
