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
        let path = self.dir.join(name);
        // Nothing signs the folder: a pipe in it would never end, a link lead elsewhere.
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(there) if !there.is_file() => return Err(io::Error::other("not a regular file")),
            other => other?,
        };
        let file = File::open(path)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::other(format!("longer than {MAX_FILE} bytes")));
        }
        Ok(Some(bytes))
    }

    fn save(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.dir.join(format!("{name}.new"));
        clear(&temporary)?;
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        let path = self.dir.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
            clear(&path)?;
        }
        fs::rename(&temporary, path)?;
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

/// Removes whatever has this name; links are not followed.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_planted_is_not_read_and_is_replaced() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut store = DirStore::open(dir.path()).expect("open");
        let secret = dir.path().join("secret");
        fs::write(&secret, "secret").expect("write");
        for name in ["root.json", "root.json.new"] {
            symlink(&secret, dir.path().join(name)).expect("link");
        }
        assert!(store.load("root.json").is_err());
        store.save("root.json", b"ours").expect("save");
        assert_eq!(store.load("root.json").expect("load").expect("there"), b"ours");
        fs::create_dir_all(dir.path().join("a.json/full")).expect("folder");
        assert!(store.load("a.json").is_err());
        store.save("a.json", b"ours").expect("save");
        assert_eq!(fs::read(secret).expect("read"), b"secret");
    }

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
