//! Files beside the image file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use debian::cache::read_whole;
use debian::hash::Sha256;

/// One local file takes less than this.
const MAX_FILE: u64 = 1 << 30;
/// A folder has fewer entries than this, and is less deep.
const MAX_ENTRIES: usize = 100_000;
const MAX_DEPTH: usize = 64;

/// One local file or link, as found when the inputs were resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Its path relative to the image file's folder, as the lock has it.
    pub path: String,
    /// Its bytes' number; of a link, its target's.
    pub size: u64,
    /// Its bytes' hash; of a link, its target's.
    pub sha256: Sha256,
    /// Its owner may execute it.
    pub executable: bool,
    /// Where it points, if it is a symbolic link.
    pub link: Option<String>,
    place: PathBuf,
}

impl LocalFile {
    /// Its bytes. Fails when they are no longer those that were resolved.
    pub fn read(&self) -> Result<Vec<u8>> {
        let bytes = read_whole(&self.place, MAX_FILE)?;
        if Sha256::of(&bytes) != self.sha256 {
            bail!(
                "{}: changed while it was being used; run the command again",
                self.place.display()
            );
        }
        Ok(bytes)
    }

    /// Its permissions on the device if the image file gives none. Only the owner's execute bit is
    /// looked at, so that the user's umask does not change the image.
    pub fn default_mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }
}

/// The file at `source`, relative to `folder`, or all files below it, sorted by path; without those
/// whose path inside it `excluded` holds for.
pub fn find(
    folder: &Path,
    source: &Path,
    excluded: &dyn Fn(&Path) -> bool,
) -> Result<Vec<LocalFile>> {
    let mut found = Vec::new();
    let left_out = |path: &Path| path.strip_prefix(source).is_ok_and(excluded);
    walk(folder, source, 0, &left_out, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(
    folder: &Path,
    path: &Path,
    depth: usize,
    left_out: &dyn Fn(&Path) -> bool,
    found: &mut Vec<LocalFile>,
) -> Result<()> {
    let place = folder.join(path);
    let named = || format!("{}: cannot be read", place.display());
    let text = path
        .to_str()
        .filter(|t| !t.chars().any(char::is_control))
        .with_context(|| format!("{}: the name is not plain UTF-8 text", place.display()))?;
    // What the image file names is followed; what lies below it is taken as it is.
    let metadata = if depth == 0 { fs::metadata(&place) } else { fs::symlink_metadata(&place) };
    let metadata = metadata.with_context(named)?;
    if found.len() >= MAX_ENTRIES || depth > MAX_DEPTH {
        bail!("{}: has too many files or is too deep for an image", place.display());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(&place).with_context(named)? {
            let below = path.join(entry.with_context(named)?.file_name());
            if !left_out(&below) {
                walk(folder, &below, depth + 1, left_out, found)?;
            }
        }
        return Ok(());
    }
    let (size, sha256, link) = if metadata.is_symlink() {
        let target = fs::read_link(&place).with_context(named)?;
        let target = target
            .to_str()
            .with_context(|| format!("{}: points at a name that is not UTF-8", place.display()))?
            .to_owned();
        (target.len() as u64, Sha256::of(target.as_bytes()), Some(target))
    } else if metadata.is_file() {
        if metadata.len() > MAX_FILE {
            bail!("{}: {} bytes are more than {MAX_FILE}", place.display(), metadata.len());
        }
        let file = fs::File::open(&place).with_context(named)?;
        let (sha256, size) =
            Sha256::of_stream(std::io::BufReader::new(file)).with_context(named)?;
        (size, sha256, None)
    } else {
        bail!("{}: is neither a file, a folder nor a link", place.display());
    };
    let executable = link.is_none() && metadata.permissions().mode() & 0o100 != 0;
    found.push(LocalFile { path: text.to_owned(), size, sha256, executable, link, place });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_trees_sorted_with_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |p: &str| folder.path().join(p);
        fs::create_dir_all(at("t/b")).unwrap();
        fs::write(at("t/b/z"), "z").unwrap();
        fs::write(at("t/a"), "abc").unwrap();
        fs::set_permissions(at("t/a"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("a", at("t/l")).unwrap();
        let all = find(folder.path(), Path::new("t"), &|_| false).unwrap();
        let paths: Vec<_> = all.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["t/a", "t/b/z", "t/l"]);
        assert_eq!((all[0].default_mode(), all[1].default_mode()), (0o755, 0o644));
        assert_eq!(all[2].link.as_deref(), Some("a"));
        assert_eq!(all[0].read().unwrap(), b"abc");
        fs::write(at("t/a"), "abd").unwrap();
        assert!(all[0].read().unwrap_err().to_string().contains("changed while"));
        let message = find(folder.path(), Path::new("none"), &|_| false).unwrap_err().to_string();
        assert!(message.contains("none: cannot be read"), "{message}");
    }
}
