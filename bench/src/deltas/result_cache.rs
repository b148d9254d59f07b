//! What earlier runs found out: the peers take minutes for a pair and always say the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Figures in bytes by method and files, kept in a text file: `METHOD OLD-SHA256 NEW-SHA256 BYTES`.
pub struct ResultCache {
    path: PathBuf,
    figures: BTreeMap<String, u64>,
}

/// The hashes of a pair's files.
pub struct Pair {
    old: String,
    new: String,
}

impl Pair {
    /// Reads both files.
    pub fn of(old: &Path, new: &Path) -> Result<Pair> {
        Ok(Pair { old: sha256(old)?, new: sha256(new)? })
    }
}

impl ResultCache {
    /// Reads the file at `path`, if there is one. Lines that are none are passed over.
    pub fn open(path: &Path) -> Result<ResultCache> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| path.display().to_string())?,
        };
        let line = |line: &str| {
            let (key, bytes) = line.rsplit_once(' ')?;
            Some((key.to_owned(), bytes.parse().ok()?))
        };
        Ok(ResultCache { path: path.to_owned(), figures: text.lines().filter_map(line).collect() })
    }

    /// The figure of a method for a pair: the cached one, else what `measure` says.
    pub fn or(
        &mut self,
        method: &str,
        pair: &Pair,
        measure: impl FnOnce() -> Result<u64>,
    ) -> Result<u64> {
        let key = format!("{method} {} {}", pair.old, pair.new);
        if let Some(bytes) = self.figures.get(&key) {
            return Ok(*bytes);
        }
        let bytes = measure().with_context(|| method.to_owned())?;
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&self.path)
            .with_context(|| self.path.display().to_string())?;
        writeln!(file, "{key} {bytes}").with_context(|| self.path.display().to_string())?;
        self.figures.insert(key, bytes);
        Ok(bytes)
    }
}

fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(formats::hex::encode(&Sha256::digest(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_measured_once_for_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new, other] = ["old", "new", "other"].map(|name| dir.path().join(name));
        for path in [&old, &new, &other] {
            fs::write(path, path.display().to_string()).unwrap();
        }
        let path = dir.path().join("result-cache");
        let pair = Pair::of(&old, &new).unwrap();
        let mut cache = ResultCache::open(&path).unwrap();
        assert!(cache.or("bsdiff", &pair, || anyhow::bail!("not there")).is_err());
        assert_eq!(cache.or("bsdiff", &pair, || Ok(7)).unwrap(), 7);
        let mut cache = ResultCache::open(&path).unwrap();
        let never = || -> Result<u64> { panic!("measured twice") };
        assert_eq!(cache.or("bsdiff", &pair, never).unwrap(), 7);
        assert_eq!(cache.or("casync", &pair, || Ok(8)).unwrap(), 8);
        let changed = Pair::of(&old, &other).unwrap();
        assert_eq!(cache.or("bsdiff", &changed, || Ok(9)).unwrap(), 9);
    }
}
