//! Key files: never overwritten, and private ones readable by their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// No key file is longer; anything longer is not one.
const MAX_KEY_FILE: u64 = 16 << 10;

/// Mode of a private key's file.
pub const PRIVATE: u32 = 0o600;
/// Mode of a public key's file.
pub const PUBLIC: u32 = 0o644;

/// Writes new files, with these modes, into `folder`, which is made too (mode 0700) if it is not
/// there: all of them or none.
pub fn write_all(folder: &Path, files: &[(PathBuf, u32, String)]) -> Result<()> {
    atomic_file::make_folder(folder, 0o700)?;
    let mut written = Vec::new();
    let result =
        files.iter().try_for_each(|(path, mode, text)| write_new(path, *mode, text, &mut written));
    if result.is_err() {
        for path in written {
            let _ = fs::remove_file(path);
        }
    }
    result
}

fn write_new(path: &Path, mode: u32, text: &str, written: &mut Vec<PathBuf>) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(cannot)?;
    written.push(path.into());
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(cannot)
}

/// The text of a private key's file.
///
/// Fails when others than its owner can read the file: a key that leaked signs for everybody.
pub fn read_private(path: &Path) -> Result<String> {
    let file = open(path)?;
    let mode = file.metadata().with_context(|| format!("cannot read {}", path.display()))?.mode();
    if mode & 0o077 != 0 {
        bail!(
            "{p} can be read by others (mode {:o}); close it with: chmod 600 {p}",
            mode & 0o777,
            p = path.display()
        );
    }
    read_open(path, file)
}

/// The text of a public key's file, or of a certificate's.
pub fn read_public(path: &Path) -> Result<String> {
    read_open(path, open(path)?)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| {
        format!("cannot open the key {}; `imager keygen --out DIR` makes keys", path.display())
    })
}

fn read_open(path: &Path, file: File) -> Result<String> {
    let mut text = String::new();
    file.take(MAX_KEY_FILE)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}
