//! The metadata that was trusted before, kept across reboots.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Largest file that a store gives back, in bytes.
const MAX_FILE: u64 = 8 << 20;

/// Keeps trusted metadata by file name.
pub trait Store {
    /// The file's bytes, `None` when there is none.
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Replaces the file as one step: after a power cut it is whole, old or new.
    fn save(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes the file if it is there.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A store in a folder.
#[derive(Clone, Debug)]
pub struct DirStore {
    dir: PathBuf,
}

impl DirStore {
    /// Uses `dir`, made (with its parents) when it does not exist.
    pub fn open(dir: &Path) -> io::Result<DirStore> {
        fs::create_dir_all(dir)?;
        Ok(DirStore { dir: dir.into() })
    }
}

impl Store for DirStore {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::other(format!("longer than {MAX_FILE} bytes")));
        }
        Ok(Some(bytes))
    }

    fn save(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.dir.join(format!("{name}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => File::open(&self.dir)?.sync_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_replaces_and_removes() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut store = DirStore::open(&dir.path().join("deep/tuf")).expect("open");
        assert!(store.load("timestamp.json").expect("load").is_none());
        store.save("timestamp.json", b"one").expect("save");
        store.save("timestamp.json", b"two").expect("save again");
        assert_eq!(store.load("timestamp.json").expect("load").as_deref(), Some(&b"two"[..]));
        store.remove("timestamp.json").expect("remove");
        store.remove("timestamp.json").expect("remove what is not there");
        assert!(store.load("timestamp.json").expect("load").is_none());
        let left = fs::read_dir(dir.path().join("deep/tuf")).expect("list").count();
        assert_eq!(left, 0, "a temporary file was left behind");
    }
}
