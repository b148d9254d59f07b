//! Downloaded files by their hash, and what was derived from them, in the user's cache folder.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use super::hash::{HashingWriter, Sha256};

/// What was fetched is another file than the one asked for.
#[derive(Debug)]
pub struct WrongHash {
    found: Sha256,
    expected: Sha256,
}

impl std::fmt::Display for WrongHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "has SHA-256 {} instead of {}", self.found, self.expected)
    }
}

impl std::error::Error for WrongHash {}

/// A cache folder. Files get their names only once they are whole, so that an interrupted run
/// leaves nothing wrong behind.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The user's cache: `$FERRITE_CACHE`, else `$XDG_CACHE_HOME/ferrite`, else
    /// `~/.cache/ferrite`. Its folders are made as needed.
    pub fn open() -> Result<Self> {
        let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = from("FERRITE_CACHE")
            .or_else(|| from("XDG_CACHE_HOME").map(|p| p.join("ferrite")))
            .or_else(|| from("HOME").map(|p| p.join(".cache/ferrite")))
            .context("no cache folder: set HOME or FERRITE_CACHE")?;
        Self::at(&root)
    }

    /// The cache in `root`.
    pub fn at(root: &Path) -> Result<Self> {
        for folder in ["files", "derived", "new"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).with_context(|| {
                format!(
                    "cache folder {}: cannot be made; set FERRITE_CACHE to a writable folder",
                    path.display()
                )
            })?;
        }
        Ok(Self { root: root.to_path_buf() })
    }

    /// The path of the file with this hash, if it is there and whole. It is hashed again unless it
    /// has not changed since it was last found right; a damaged one is removed and counts as
    /// missing.
    pub fn find(&self, hash: &Sha256) -> Result<Option<PathBuf>> {
        let path = self.root.join("files").join(hash.to_string());
        if self.is_right(&path, Some(*hash))? {
            return Ok(Some(path));
        }
        Ok(None)
    }

    /// Fills the cache with the file of this `hash`: `fetch` writes it. Fails, and keeps nothing,
    /// when what it wrote has another hash.
    pub fn store(
        &self,
        hash: &Sha256,
        fetch: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<PathBuf> {
        let (file, found) = self.write_new(fetch)?;
        if found != *hash {
            return Err(WrongHash { found, expected: *hash }.into());
        }
        let path = self.root.join("files").join(hash.to_string());
        self.keep(file, &path, found)?;
        Ok(path)
    }

    /// Like [`Cache::store`] for a file whose hash is not known before.
    pub fn add(
        &self,
        fetch: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<(PathBuf, Sha256)> {
        let (file, found) = self.write_new(fetch)?;
        let path = self.root.join("files").join(found.to_string());
        self.keep(file, &path, found)?;
        Ok((path, found))
    }

    /// The path of something computed from inputs that `key` names completely (their hashes and
    /// the way it is computed); `make` writes it if it is not there or has been changed.
    pub fn derived(
        &self,
        key: &str,
        make: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.root.join("derived").join(Sha256::of(key.as_bytes()).to_string());
        if !self.is_right(&path, None)? {
            let (file, found) = self.write_new(make)?;
            self.keep(file, &path, found)?;
        }
        Ok(path)
    }

    fn write_new(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<(NamedTempFile, Sha256)> {
        let folder = self.root.join("new");
        let file = NamedTempFile::new_in(&folder)
            .with_context(|| format!("cache folder {}: cannot be written", folder.display()))?;
        let cannot =
            || format!("cache folder {}: cannot be written; is the disk full?", folder.display());
        let failed = OnceCell::new();
        let watched = Watched { to: file, failed: &failed };
        let mut to = HashingWriter::new(io::BufWriter::with_capacity(1 << 20, watched));
        let written = write(&mut to);
        let (buffered, hash, _) = to.finish();
        let whole = buffered.into_inner();
        // What was copied is not to blame for the disk it was copied to.
        if let Some(why) = failed.get() {
            bail!("{}: {why}", cannot());
        }
        written?;
        let watched = whole.map_err(|e| e.into_error()).with_context(cannot)?;
        Ok((watched.to, hash))
    }

    fn keep(&self, file: NamedTempFile, path: &Path, hash: Sha256) -> Result<()> {
        let named = || format!("cache file {}: cannot be written", path.display());
        file.as_file().sync_data().with_context(named)?;
        file.persist(path).map_err(|e| e.error).with_context(named)?;
        let metadata = fs::metadata(path).with_context(named)?;
        self.write_stamp(path, hash, &metadata).with_context(named)
    }

    /// Whether `path` holds what it should: the hash in its name if `expected`, else the hash of
    /// its stamp. No stamp and no expected hash means no.
    fn is_right(&self, path: &Path, expected: Option<Sha256>) -> Result<bool> {
        let named = || format!("cache file {}: cannot be read", path.display());
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e).with_context(named),
        };
        let metadata = file.metadata().with_context(named)?;
        let stamp = fs::read_to_string(stamp_path(path)).unwrap_or_default();
        let (stamped, seen) = stamp.split_once(' ').unwrap_or_default();
        let stamped: Option<Sha256> = stamped.parse().ok();
        let Some(hash) = expected.or(stamped) else {
            return Ok(false);
        };
        if stamped == Some(hash) && seen == identity(&metadata) {
            return Ok(true);
        }
        let (found, _) = Sha256::of_stream(&mut file).with_context(named)?;
        if found == hash {
            self.write_stamp(path, hash, &metadata).with_context(named)?;
            return Ok(true);
        }
        eprintln!("notice: cache file {} is damaged and is made again", path.display());
        fs::remove_file(path).with_context(named)?;
        Ok(false)
    }

    fn write_stamp(&self, path: &Path, hash: Sha256, metadata: &fs::Metadata) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(self.root.join("new"))?;
        write!(file, "{hash} {}", identity(metadata))?;
        file.persist(stamp_path(path)).map_err(|e| e.error)?;
        Ok(())
    }
}

/// A writer that remembers why it failed.
struct Watched<'a, W> {
    to: W,
    failed: &'a OnceCell<io::Error>,
}

impl<W: Write> Watched<'_, W> {
    fn remember<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            let same = match error.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => error.kind().into(),
            };
            let _ = self.failed.set(same);
        })
    }
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.to.write(bytes);
        self.remember(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.to.flush();
        self.remember(result)
    }
}

/// Changes whenever the file's bytes were written: while it stays, the hash needs no second look.
fn identity(m: &fs::Metadata) -> String {
    format!(
        "{} {} {}.{} {}.{}",
        m.len(),
        m.ino(),
        m.mtime(),
        m.mtime_nsec(),
        m.ctime(),
        m.ctime_nsec()
    )
}

fn stamp_path(path: &Path) -> PathBuf {
    path.with_extension("stamp")
}

/// Reads a whole cached file of at most `limit` bytes.
pub fn read_whole(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let named = || format!("{}: cannot be read", path.display());
    let file = File::open(path).with_context(named)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).with_context(named)?;
    if bytes.len() as u64 > limit {
        bail!("{}: is larger than {limit} bytes", path.display());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        (folder, cache)
    }

    fn abc(to: &mut dyn Write) -> Result<()> {
        Ok(to.write_all(b"abc")?)
    }

    #[test]
    fn what_was_stored_is_found_and_a_wrong_hash_is_not_kept() {
        let (_folder, cache) = cache();
        let hash = Sha256::of(b"abc");
        assert_eq!(cache.find(&hash).unwrap(), None);
        let path = cache.store(&hash, abc).unwrap();
        assert_eq!(cache.find(&hash).unwrap(), Some(path.clone()));
        assert_eq!(read_whole(&path, 3).unwrap(), b"abc");
        assert!(read_whole(&path, 2).is_err());
        let other = Sha256::of(b"other");
        assert!(cache.store(&other, abc).unwrap_err().to_string().contains("instead of"));
        assert_eq!(cache.find(&other).unwrap(), None);
    }

    #[test]
    fn a_full_disk_is_not_blamed_on_what_is_copied() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let failed = OnceCell::new();
        let mut to = Watched { to: full, failed: &failed };
        let mut source = || -> Result<u64> {
            io::copy(&mut &b"abc"[..], &mut to).context("the source cannot be unpacked")
        };
        source().unwrap_err();
        assert_eq!(failed.get().map(io::Error::kind), Some(io::ErrorKind::StorageFull));
        let (_folder, cache) = cache();
        let error = cache.add(|_| bail!("the source is damaged")).unwrap_err().to_string();
        assert_eq!(error, "the source is damaged");
    }

    #[test]
    fn a_damaged_file_is_noticed_and_counts_as_missing() {
        let (_folder, cache) = cache();
        let hash = Sha256::of(b"abc");
        let path = cache.store(&hash, abc).unwrap();
        fs::write(&path, b"abd").unwrap();
        assert_eq!(cache.find(&hash).unwrap(), None);
        assert!(!path.exists());
    }

    #[test]
    fn derived_things_are_made_once_and_again_when_damaged() {
        let (_folder, cache) = cache();
        let path = cache.derived("k", abc).unwrap();
        let again = cache.derived("k", |_| panic!("made twice")).unwrap();
        assert_eq!(path, again);
        fs::write(&path, b"xxx").unwrap();
        cache.derived("k", abc).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
    }

    #[test]
    fn an_interrupted_fetch_leaves_nothing_under_its_name() {
        let (folder, cache) = cache();
        let hash = Sha256::of(b"abc");
        let failed = cache.store(&hash, |to| {
            to.write_all(b"ab")?;
            bail!("cut")
        });
        assert!(failed.is_err());
        assert_eq!(cache.find(&hash).unwrap(), None);
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 0);
    }
}
