//! The folder of trusted metadata, laid out as the suite reads it: each role's newest metadata as
//! `<role>.json`.
//!
//! A device keeps the whole chain of roots instead of the newest, and starts from the root in its
//! image. Here both lie in a folder below, where the suite does not look, and `root.json` is a
//! copy of the last one.

use std::fs;
use std::io;
use std::path::Path;

use tuf::{DirStore, Store};

const ROOT: &str = "root.json";
const INITIAL: &str = "initial.json";

/// Trusted metadata in a folder.
pub struct MetadataDir {
    newest: DirStore,
    roots: DirStore,
}

impl MetadataDir {
    /// Uses `dir`, made when it does not exist.
    pub fn open(dir: &Path) -> io::Result<MetadataDir> {
        fs::create_dir_all(dir)?;
        Ok(MetadataDir { newest: DirStore::open(dir)?, roots: DirStore::open(&dir.join("roots"))? })
    }

    /// Trusts `root`.
    pub fn init(&mut self, root: &[u8]) -> io::Result<()> {
        self.roots.save(INITIAL, root)?;
        self.newest.save(ROOT, root)
    }

    /// The root given to [`MetadataDir::init`].
    pub fn initial_root(&self) -> io::Result<Vec<u8>> {
        self.roots.load(INITIAL)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_root(name: &str) -> bool {
        name.strip_suffix(".root.json").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    }
}

impl Store for MetadataDir {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match Self::is_root(name) {
            true => self.roots.load(name),
            false => self.newest.load(name),
        }
    }

    fn save(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if !Self::is_root(name) {
            return self.newest.save(name, bytes);
        }
        self.roots.save(name, bytes)?;
        self.newest.save(ROOT, bytes)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match Self::is_root(name) {
            true => self.roots.remove(name),
            false => self.newest.remove(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_root_is_beside_the_other_roles_and_the_chain_is_not() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut dir = MetadataDir::open(&folder.path().join("metadata")).expect("open");
        assert!(dir.initial_root().is_err());
        dir.init(b"one").expect("init");
        dir.save("2.root.json", b"two").expect("save");
        dir.save("timestamp.json", b"time").expect("save");
        assert_eq!(dir.initial_root().expect("initial"), b"one");
        assert_eq!(dir.load("2.root.json").expect("load").as_deref(), Some(&b"two"[..]));
        let mut names: Vec<_> = fs::read_dir(folder.path().join("metadata"))
            .expect("list")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        assert_eq!(names, ["root.json", "roots", "timestamp.json"]);
        let newest = fs::read(folder.path().join("metadata/root.json")).expect("read");
        assert_eq!(newest, b"two");
    }
}
