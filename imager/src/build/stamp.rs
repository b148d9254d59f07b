//! Whether a build would give again what is there already.
//!
//! A stamp is a hash of everything a build depends on. It lies beside what was built, with each
//! file's size and time of change, so that a touched or truncated file is built again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Collects what a build depends on.
pub struct Stamp(Sha256);

impl Stamp {
    /// An empty stamp.
    pub fn new() -> Stamp {
        Stamp(Sha256::new())
    }

    /// Adds named bytes.
    pub fn add_bytes(&mut self, name: &str, bytes: &[u8]) {
        self.0.update(format!("{name} {}\n", bytes.len()));
        self.0.update(bytes);
    }

    /// Adds a file's bytes; its name does not count.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let bytes =
            fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        self.add_bytes("file", &bytes);
        Ok(())
    }

    /// Adds this program itself: another imager may build another image.
    pub fn add_self(&mut self) -> Result<()> {
        let own = std::env::current_exe().context("cannot find where imager lies")?;
        let about = fs::metadata(&own).context("cannot look at imager itself")?;
        let identity = (about.len(), about.mtime(), about.mtime_nsec(), about.ino());
        self.add_bytes("imager", format!("{identity:?}").as_bytes());
        Ok(())
    }

    /// The stamp as text.
    pub fn finish(self) -> String {
        formats::hex::encode(&self.0.finalize())
    }
}

/// Whether the stamp at `path` is this one and `files` are as it left them.
pub fn matches(path: &Path, stamp: &str, files: &[&Path]) -> bool {
    let expected = text(stamp, files).ok();
    expected.is_some() && fs::read_to_string(path).ok() == expected
}

/// Leaves a stamp beside what was built.
pub fn write(path: &Path, stamp: &str, files: &[&Path]) -> Result<()> {
    fs::write(path, text(stamp, files)?)
        .with_context(|| format!("{}: cannot be written", path.display()))
}

fn text(stamp: &str, files: &[&Path]) -> Result<String> {
    let mut text = format!("{stamp}\n");
    for file in files {
        let about = fs::metadata(file)?;
        text +=
            &format!("{} {} {}.{}\n", about.len(), about.ino(), about.ctime(), about.ctime_nsec());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touched_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (stamp_path, file) = (dir.path().join("s"), dir.path().join("f"));
        fs::write(&file, "x").unwrap();
        write(&stamp_path, "1", &[&file]).unwrap();
        assert!(matches(&stamp_path, "1", &[&file]));
        assert!(!matches(&stamp_path, "2", &[&file]));
        fs::write(&file, "yy").unwrap();
        assert!(!matches(&stamp_path, "1", &[&file]));
        fs::remove_file(&file).unwrap();
        assert!(!matches(&stamp_path, "1", &[&file]));
    }

    #[test]
    fn parts_cannot_be_mistaken_for_each_other() {
        let stamp = |parts: &[(&str, &str)]| {
            let mut stamp = Stamp::new();
            parts.iter().for_each(|(name, bytes)| stamp.add_bytes(name, bytes.as_bytes()));
            stamp.finish()
        };
        assert_ne!(stamp(&[("a", "bc")]), stamp(&[("a", "b"), ("", "c")]));
        assert_ne!(stamp(&[("a", "b")]), stamp(&[("a", "c")]));
    }
}
