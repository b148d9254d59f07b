//! A file that gets its name only when it is whole.

use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use tempfile::NamedTempFile;

/// A file being written for a name.
///
/// Until [`NewFile::persist`] it has no name at all, so that an interrupted command leaves
/// nothing. On file systems that cannot do that (`O_TMPFILE` of open(2)) it has a temporary one.
pub struct NewFile {
    name: PathBuf,
    file: Unnamed,
}

enum Unnamed {
    Nameless(File),
    Temporary(NamedTempFile),
}

impl NewFile {
    /// An empty file for `name`, whose folder must exist.
    pub fn new(name: &Path) -> Result<NewFile> {
        let folder = folder(name);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match open(folder, flags, Mode::from_raw_mode(0o644)) {
            Ok(file) => Unnamed::Nameless(file.into()),
            Err(_) => Unnamed::Temporary(
                NamedTempFile::new_in(folder)
                    .with_context(|| format!("{}: cannot be written", folder.display()))?,
            ),
        };
        Ok(NewFile { name: name.to_owned(), file })
    }

    /// The file, to be written.
    pub fn file(&mut self) -> &mut File {
        match &mut self.file {
            Unnamed::Nameless(file) => file,
            Unnamed::Temporary(file) => file.as_file_mut(),
        }
    }

    /// The file, to be looked at.
    pub fn as_file(&self) -> &File {
        match &self.file {
            Unnamed::Nameless(file) => file,
            Unnamed::Temporary(file) => file.as_file(),
        }
    }

    /// Brings it to the disk, readable for all.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.finish_as(0o644)
    }

    /// Brings it to the disk with these permissions.
    pub fn finish_as(&mut self, mode: u32) -> std::io::Result<()> {
        let file = self.file();
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_data()
    }

    /// Gives it its name, in place of what had it before.
    pub fn persist(self) -> Result<()> {
        let cannot = || format!("{}: cannot be written", self.name.display());
        match self.file {
            Unnamed::Temporary(file) => file.persist(&self.name).map(drop).with_context(cannot),
            Unnamed::Nameless(file) => {
                // A link cannot take the place of another file, a rename can.
                let mut step = folder(&self.name).join(".new-");
                step.as_mut_os_string().push(format!("{}", std::process::id()));
                let own = format!("/proc/self/fd/{}", file.as_raw_fd());
                linkat(CWD, own, CWD, &step, AtFlags::SYMLINK_FOLLOW).with_context(cannot)?;
                fs::rename(&step, &self.name).with_context(|| {
                    let _ = fs::remove_file(&step);
                    cannot()
                })
            }
        }
    }
}

/// The folder a name lies in.
fn folder(name: &Path) -> &Path {
    name.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_name_appears_with_the_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("f");
        fs::write(&name, "old").unwrap();
        for text in ["one", "two"] {
            let mut new = NewFile::new(&name).unwrap();
            new.file().write_all(text.as_bytes()).unwrap();
            new.finish().unwrap();
            assert_ne!(fs::read_to_string(&name).unwrap(), text);
            new.persist().unwrap();
            assert_eq!(fs::read_to_string(&name).unwrap(), text);
        }
        assert_eq!(fs::metadata(&name).unwrap().permissions().mode() & 0o777, 0o644);
        drop(NewFile::new(&name).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = NewFile::new(Path::new("/nowhere/f")).err().unwrap();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }
}
