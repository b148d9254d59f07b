//! Files that may not be longer than who reads them can hold, and those of `ota`'s own folder on the
//! data partition, which nothing signs: whoever has had the medium in hand may have put a link
//! there, a pipe that never ends, or a folder where a file should be.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::{Error, Result};

/// All of a file that is at most `max` bytes long.
pub fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    File::open(path).map_err(|e| Error::at(path, e)).and_then(|file| read_all(path, file, max))
}

/// As [`read_bounded`], for a file of the data partition.
pub fn read_own(path: &Path, max: u64) -> Result<Vec<u8>> {
    open_own(path).map_err(|e| Error::at(path, e)).and_then(|file| read_all(path, file, max))
}

fn read_all(path: &Path, file: File, max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|e| Error::at(path, e))?;
    if bytes.len() as u64 > max {
        return Err(Error::at(path, format_args!("longer than {max} bytes")));
    }
    Ok(bytes)
}

/// Opens a regular file for reading; nothing else, and no link to one. Never waits for a pipe.
pub fn open_own(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true), path)
}

/// As [`open_own`], to write at its end; made when it is not there.
pub fn append_own(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().append(true).create(true), path)
}

fn regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Makes an empty file in the place of whatever has this name.
pub fn create_own(path: &Path) -> io::Result<File> {
    clear(path)?;
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Gives a finished file its name, in the place of whatever has it.
pub fn put_in_place(new: &Path, path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
        clear(path)?;
    }
    fs::rename(new, path)
}

/// Removes whatever has this name, a folder with all that is in it. Links are not followed.
pub fn clear(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Puts something under this name that should not be there.
    fn plant(what: &str, path: &Path) {
        match what {
            "link" => {
                let target = path.with_file_name("target");
                fs::write(&target, "secret").unwrap();
                symlink(target, path).unwrap();
            }
            "pipe" => {
                let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
                rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
            }
            _ => fs::create_dir_all(path.join("full")).unwrap(),
        }
    }

    #[test]
    fn what_was_planted_is_neither_read_nor_written_through() {
        for what in ["link", "pipe", "folder"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x");
            plant(what, &path);
            assert!(open_own(&path).is_err() && append_own(&path).is_err(), "{what}");
            assert!(read_own(&path, 100).is_err(), "{what}");
            let new = dir.path().join("x.new");
            plant(what, &dir.path().join("x.new"));
            drop(create_own(&new).unwrap());
            put_in_place(&new, &path).unwrap();
            assert_eq!(read_own(&path, 100).unwrap(), b"", "{what}");
            if what == "link" {
                assert_eq!(fs::read(dir.path().join("target")).unwrap(), b"secret");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let huge = dir.path().join("huge");
        File::create(&huge).unwrap().set_len(1 << 40).unwrap();
        assert!(read_own(&huge, 100).unwrap_err().to_string().contains("longer than 100 bytes"));
    }
}
