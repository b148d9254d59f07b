//! A repository as a folder on this machine: locked, read as a device reads it, written so that who
//! reads meanwhile never sees half of anything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tuf::author::{Publication, Published};
use tuf::{DirStore, Error, Fetch, FetchError, Limits, METADATA_DIR, Time};

/// The path of a metadata file.
pub fn metadata(repo: &Path, file: &str) -> PathBuf {
    repo.join(METADATA_DIR).join(file)
}

/// Writes the files of a publication, in their order.
pub fn write(repo: &Path, publication: &Publication) -> Result<()> {
    let folder = repo.join(METADATA_DIR);
    atomic_file::make_folder(&folder, 0o777)?;
    for (name, bytes) in &publication.files {
        atomic_file::replace(&folder.join(name), &mut &bytes[..])?;
    }
    Ok(())
}

/// The message for a file that could not be written.
pub fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// The right to write a repository, given back when dropped.
#[derive(Debug)]
pub struct RepositoryLock(File);

impl Drop for RepositoryLock {
    fn drop(&mut self) {
        // A program that another thread is starting has the file, and with it the lock, from its
        // fork to its exec; unlocking ends it for both.
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

/// Whether anything of a repository is there: published metadata, or drafts.
pub fn is_there(repo: &Path) -> bool {
    repo.join(METADATA_DIR).is_dir() || repo.join(crate::staged::FOLDER).is_dir()
}

/// The lock of a repository that is to be made if it is not there.
pub fn lock_or_make(repo: &Path) -> Result<RepositoryLock> {
    atomic_file::make_folder(repo, 0o777)?;
    lock_folder(repo)
}

/// The lock of a repository. Two publishers at once would overwrite each other's versions.
///
/// Fails when there is none: a wrong path must not become a new and empty one.
pub fn lock(repo: &Path) -> Result<RepositoryLock> {
    if !is_there(repo) {
        bail!("{}", no_repository(repo));
    }
    lock_folder(repo)
}

/// The message for a folder that is no repository.
pub fn no_repository(repo: &Path) -> String {
    format!(
        "{} is no repository (it has no folder `{METADATA_DIR}`); correct --repo, or make one with \
         `imager publish --repo {0} FILE.update` or `imager repo init --repo {0}`",
        repo.display()
    )
}

fn lock_folder(repo: &Path) -> Result<RepositoryLock> {
    let path = repo.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| cannot_write(&path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| anyhow!("another `imager publish` is writing {}", repo.display()))?;
    Ok(RepositoryLock(file))
}

/// What is published now, verified as a device does it, expiry aside; `None` in a new repository.
pub fn load(repo: &Path) -> Result<Option<Published>> {
    let initial = repo.join(METADATA_DIR).join("1.root.json");
    let root = match fs::read(&initial) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot read {}", initial.display()))?,
    };
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut store = DirStore::open(scratch.path()).context("cannot make a temporary folder")?;
    match tuf::refresh(&mut Folder(repo), &mut store, &root, Time(0), &Limits::default()) {
        Ok(published) => Ok(Some(published)),
        // A first publication that was cut off before its last step: nobody has seen it.
        Err(Error::Fetch { path, source: FetchError::NotFound })
            if path.ends_with("/timestamp.json") =>
        {
            bail!(
                "{} was never finished (it has no timestamp.json); remove the folder {} and \
                 publish again",
                repo.display(),
                repo.join(METADATA_DIR).display()
            )
        }
        Err(error) => Err(anyhow!(error).context(format!(
            "the repository {} is damaged; restore it from a copy",
            repo.display()
        ))),
    }
}

/// A repository on this machine.
pub struct Folder<'a>(pub &'a Path);

impl Fetch for Folder<'_> {
    fn fetch(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        let file = File::open(self.0.join(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FetchError::NotFound,
            _ => FetchError::Failed(error.to_string()),
        })?;
        let mut bytes = Vec::new();
        file.take(max + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| FetchError::Failed(error.to_string()))?;
        if bytes.len() as u64 > max {
            return Err(FetchError::TooLarge(max));
        }
        Ok(bytes)
    }
}
