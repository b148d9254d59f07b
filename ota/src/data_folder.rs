//! The files of `ota`'s own that must be whole after a power cut: a trait, so that a test can record
//! each replacement, lose it, or find the partition full.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::blocking::while_beating;
use crate::bounded_file::{create_own, open_own, put_in_place};
use crate::heart;

/// A folder of small files, each of which is only ever replaced as a whole.
pub trait DataFolder: Debug + Send + Sync {
    /// The file's bytes, the first `max` of them.
    fn read(&self, name: &str, max: u64) -> io::Result<Vec<u8>>;

    /// Gives the file this content, and returns when it is on the medium. A power cut at any
    /// moment leaves the old content or the new one.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Fails when so many bytes could not be written.
    fn require_room(&self, bytes: usize) -> io::Result<()>;
}

/// A folder of the data partition's file system.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at this path, which may have to be made first.
    pub fn new(path: &Path) -> Folder {
        Folder(path.to_owned())
    }
}

impl DataFolder for Folder {
    fn read(&self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open_own(&self.0.join(name))?.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The file's bytes are flushed before its new name is, and that before this returns. The heart
    /// beats meanwhile.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.join(name);
        let temporary = path.with_extension("new");
        let write = || {
            let mut file = create_own(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            put_in_place(&temporary, &path)?;
            File::open(&self.0)?.sync_all()
        };
        while_beating(&heart::beat, write).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }

    fn require_room(&self, bytes: usize) -> io::Result<()> {
        let probe = self.0.join("room.new");
        let result = create_own(&probe)
            .and_then(|mut file| file.write_all(&vec![1; bytes]).and_then(|()| file.sync_all()));
        let _ = fs::remove_file(&probe);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        assert_eq!(folder.read("x.json", 10).unwrap_err().kind(), io::ErrorKind::NotFound);
        folder.replace("x.json", b"a longer one").unwrap();
        folder.replace("x.json", b"short").unwrap();
        folder.require_room(4096).unwrap();
        assert_eq!(folder.read("x.json", 10).unwrap(), b"short");
        assert_eq!(folder.read("x.json", 3).unwrap(), b"sho");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
