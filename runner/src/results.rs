//! The result log: JSON lines in a file of bounded size, with a few older ones beside it.

use crate::config;
use crate::error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Appends lines and moves full files aside.
pub struct ResultLog {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    file: Option<(File, u64)>,
    failing: bool,
}

impl ResultLog {
    /// Opens nothing yet: a data partition that is full or missing must not stop inference.
    pub fn new(settings: &config::Results) -> Self {
        Self {
            path: settings.path.clone(),
            max_bytes: settings.max_bytes,
            keep: settings.keep,
            file: None,
            failing: false,
        }
    }

    /// Appends one line. When that is impossible it says so, once until it works again.
    pub fn append(&mut self, line: &str) -> Option<String> {
        match self.write(line) {
            Ok(()) => {
                let again = self
                    .failing
                    .then(|| format!("{}: results are written again", self.path.display()));
                self.failing = false;
                again
            }
            Err(error) => {
                // Opened afresh next time: the file may have been half written or removed.
                self.file = None;
                let first = !std::mem::replace(&mut self.failing, true);
                first.then(|| {
                    format!(
                        "{}: {}; results go to the console only until there is room",
                        self.path.display(),
                        error::plain(&error)
                    )
                })
            }
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.file.as_ref().is_some_and(|(_, size)| size + length > self.max_bytes) {
            self.file = None;
            self.rotate()?;
        }
        let (file, size) = match self.file.take() {
            Some(open) => self.file.insert(open),
            None => {
                let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
                let size = file.metadata()?.len();
                if size > 0 && size + length > self.max_bytes {
                    drop(file);
                    self.rotate()?;
                    let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
                    self.file.insert((file, 0))
                } else {
                    self.file.insert((file, size))
                }
            }
        };
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let before = *size;
        if let Err(error) = file.write_all(&bytes) {
            // A line cut short by a full disk would spoil the next one.
            let _ = file.set_len(before);
            return Err(error);
        }
        *size += length;
        Ok(())
    }

    /// `results.jsonl` → `.1` → `.2` …, the last one goes.
    fn rotate(&self) -> io::Result<()> {
        if self.keep == 0 {
            return ignore_missing(fs::remove_file(&self.path));
        }
        for n in (1..self.keep).rev() {
            ignore_missing(fs::rename(numbered(&self.path, n), numbered(&self.path, n + 1)))?;
        }
        ignore_missing(fs::rename(&self.path, numbered(&self.path, 1)))
    }
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(path: &Path, max_bytes: u64, keep: u32) -> ResultLog {
        ResultLog::new(&config::Results { path: path.to_owned(), max_bytes, keep })
    }

    #[test]
    fn full_files_move_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        let mut log = log(&path, 10, 2);
        for n in 0..8 {
            assert_eq!(log.append(&format!("{n:04}")), None);
        }
        let read = |p: &Path| fs::read_to_string(p).unwrap();
        assert_eq!(read(&path), "0006\n0007\n");
        assert_eq!(read(&numbered(&path, 1)), "0004\n0005\n");
        assert_eq!(read(&numbered(&path, 2)), "0002\n0003\n");
        assert!(!numbered(&path, 3).exists());
    }

    #[test]
    fn a_file_left_by_an_earlier_run_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        fs::write(&path, "123456789\n").unwrap();
        assert_eq!(log(&path, 12, 1).append("abc"), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "abc\n");
        assert_eq!(fs::read_to_string(numbered(&path, 1)).unwrap(), "123456789\n");
    }

    #[test]
    fn a_full_disk_is_said_once_and_recovery_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        // Always full, as the kernel documents it.
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut log = log(&path, 1 << 20, 2);
        let said = log.append("a").unwrap();
        assert!(said.contains("No space left"), "{said}");
        assert_eq!(log.append("b"), None);
        fs::remove_file(&path).unwrap();
        assert!(log.append("c").unwrap().contains("again"));
        assert_eq!(log.append("d"), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "c\nd\n");
    }
}
