//! Locks between tests, of one process or of several.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// A locked file, given back when dropped (or when the process ends).
#[derive(Debug)]
pub struct Locked(File);

impl Locked {
    /// Waits until nobody else has it.
    pub fn wait(path: &Path) -> Result<Locked> {
        let file = open(path)?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| cannot(path, "locked"))?;
        Ok(Locked(file))
    }

    /// `None` when somebody else has it.
    pub fn if_free(path: &Path) -> Result<Option<Locked>> {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Locked(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e).with_context(|| cannot(path, "locked")),
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing alone would not do at once: a program that another thread is starting has the
        // file, and with it the lock, from its fork to its exec.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn open(path: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.with_context(|| cannot(path, "opened"))
}

fn cannot(path: &Path, what: &str) -> String {
    format!("{} cannot be {what}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_is_free_when_given_back_whoever_else_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Locked::if_free(&path).unwrap().unwrap();
        let copy = first.0.try_clone().unwrap();
        assert!(Locked::if_free(&path).unwrap().is_none());
        drop(first);
        assert!(Locked::if_free(&path).unwrap().is_some());
        drop(copy);
    }
}
