//! Files and folders below a folder, for what lies on the data partition: nothing signs that, so a
//! name there may be a link to elsewhere, a pipe that never ends, a device, or endless.
//!
//! No link is followed and no pipe waited for; a file is read to a bound;
//! what is not the folder or file it should be is set aside, under another name, where it is in the
//! way. Errors name the path.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use formats::{Error, Result};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid, fstat, mkdirat,
    openat2, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::console::say;

/// How a path below a folder is walked (openat2(2)).
const WALK: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// And to a file: what is mounted on the way is mounted by this program, on folders alone.
const WALK_TO_FILE: ResolveFlags = WALK.union(ResolveFlags::NO_XDEV);
/// So many things of one name are set aside; a further one is an error.
const MOST_ASIDE: u32 = 9;

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: String,
}

impl Folder {
    /// The folder at a path that nobody but this program decides on, such as a mount's.
    pub fn open(path: &str) -> Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| error(path, e))?;
        Ok(Folder { fd, path: path.to_string() })
    }

    /// The folder at a relative path.
    pub fn folder(&self, path: &str) -> Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat2(&self.fd, path, flags, Mode::empty(), WALK)
            .map_err(|e| error(&self.join(path), e))?;
        Ok(Folder { fd, path: self.join(path) })
    }

    /// The folder of this name, which is made when there is none. Anything else of that name is set
    /// aside.
    pub fn make(&self, name: &str, mode: u32) -> Result<Folder> {
        match mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) => return self.folder(name),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(error(&self.join(name), e)),
        }
        let kind = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| error(&self.join(name), e))?;
        if FileType::from_raw_mode(kind.st_mode) != FileType::Directory {
            self.set_aside(name)?;
            mkdirat(&self.fd, name, Mode::from_raw_mode(mode))
                .map_err(|e| error(&self.join(name), e))?;
        }
        self.folder(name)
    }

    /// Hands the folder itself to a user and the group of the same number, where it is not theirs: a
    /// full partition must not keep a workload from its own folder.
    pub fn give(&self, id: u32) -> Result<()> {
        let stat = fstat(&self.fd).map_err(|e| error(&self.path, e))?;
        if stat.st_uid == id && stat.st_gid == id {
            return Ok(());
        }
        rustix::fs::fchown(&self.fd, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))
            .map_err(|e| error(&self.path, e))
    }

    /// The bytes of the file at a relative path; `None` when there is none. Fails on what is no
    /// regular file or has more than `max` bytes.
    pub fn read(&self, path: &str, max: usize) -> Result<Option<Vec<u8>>> {
        let fail = |e: &dyn std::fmt::Display| error(&self.join(path), e);
        // Opening a pipe waits for its other end without NONBLOCK.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match openat2(&self.fd, path, flags, Mode::empty(), WALK_TO_FILE) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(fail(&e)),
        };
        let stat = fstat(&fd).map_err(|e| fail(&e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(fail(&"is no regular file"));
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::from(fd);
        file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
        if bytes.len() > max {
            return Err(fail(&["longer than ", &max.to_string(), " bytes"].concat()));
        }
        Ok(Some(bytes))
    }

    /// Gives the file of this name this content, for root alone to write; returns when it is on the
    /// medium. A power cut leaves the old content or the new one.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write(name, bytes, 0o644)?;
        rustix::fs::fsync(&self.fd).map_err(|e| error(&self.path, e))
    }

    /// As [`Folder::replace`] with other rights, where nothing has to outlive a power cut.
    pub fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let new = [name, ".new"].concat();
        let fail = |e: &dyn std::fmt::Display| error(&self.join(name), e);
        match unlinkat(&self.fd, &new, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => self.set_aside(&new)?,
            Err(e) => return Err(fail(&e)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = openat2(&self.fd, &new, flags, Mode::from_raw_mode(mode), WALK_TO_FILE)
            .map_err(|e| fail(&e))?;
        let mut file = std::fs::File::from(fd);
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| fail(&e))?;
        match renameat(&self.fd, &new, &self.fd, name) {
            Err(Errno::ISDIR) => {
                self.set_aside(name)?;
                renameat(&self.fd, &new, &self.fd, name)
            }
            other => other,
        }
        .map_err(|e| fail(&e))
    }

    /// Gives what has this name another one, so that it is in nobody's way and not lost.
    fn set_aside(&self, name: &str) -> Result<()> {
        for number in 1..=MOST_ASIDE {
            let aside = [name, ".aside-", &number.to_string()].concat();
            match renameat_with(&self.fd, name, &self.fd, &aside, RenameFlags::NOREPLACE) {
                Ok(()) => {
                    let path = self.join(name);
                    say(&["data: ", &path, " was not what it should be; it is now ", &aside]);
                    return Ok(());
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(error(&self.join(name), e)),
            }
        }
        Err(error(&self.join(name), "cannot be set aside: too much was already"))
    }

    fn join(&self, path: &str) -> String {
        [&self.path, "/", path].concat()
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn error(what: &str, e: impl std::fmt::Display) -> Error {
    Error::new([what, ": ", &e.to_string()].concat())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
    use std::path::Path;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path().to_str().unwrap()).unwrap();
        (dir, folder)
    }

    /// Puts something under this name: what an attacker with the medium in hand could.
    fn plant(dir: &Path, what: &str, name: &str) {
        let path = dir.join(name);
        match what {
            "link" => {
                std::fs::create_dir_all(dir.join("elsewhere")).unwrap();
                std::fs::write(dir.join("elsewhere/secret"), "secret").unwrap();
                symlink(dir.join("elsewhere"), path).unwrap();
            }
            "link to a file" => {
                std::fs::write(dir.join("target"), "secret").unwrap();
                symlink("target", path).unwrap();
            }
            "pipe" => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            "device" => {
                let zero = rustix::fs::makedev(1, 5);
                // Only root makes one; for others the pipe has to do.
                let made =
                    rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, zero);
                made.unwrap_or_else(|_| plant(dir, "pipe", name));
            }
            "folder" => std::fs::create_dir_all(path.join("full")).unwrap(),
            "huge" => std::fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
            _ => unreachable!(),
        }
    }

    const PLANTED: [&str; 6] = ["link", "link to a file", "pipe", "device", "folder", "huge"];

    #[test]
    fn what_was_planted_is_not_read() {
        for what in PLANTED {
            let (dir, folder) = folder();
            plant(dir.path(), what, "x");
            let error = folder.read("x", 100).unwrap_err().to_string();
            assert!(error.contains("/x: "), "{what}: {error}");
        }
        let (dir, folder) = folder();
        plant(dir.path(), "link", "x");
        for path in ["x/secret", "../x", "elsewhere/../elsewhere/secret/"] {
            assert!(folder.read(path, 100).is_err(), "{path}");
        }
        assert_eq!(folder.read("elsewhere/secret", 6).unwrap().unwrap(), b"secret");
        assert_eq!(folder.read("nothing", 6).unwrap(), None);
    }

    #[test]
    fn writing_replaces_what_was_planted_and_touches_nothing_behind_it() {
        for what in PLANTED {
            for place in ["x", "x.new"] {
                let (dir, folder) = folder();
                plant(dir.path(), what, place);
                folder.replace("x", b"ours").unwrap();
                assert_eq!(folder.read("x", 4).unwrap().unwrap(), b"ours", "{what} at {place}");
                for other in ["elsewhere/secret", "target"] {
                    if let Ok(text) = std::fs::read_to_string(dir.path().join(other)) {
                        assert_eq!(text, "secret", "{what} at {place}");
                    }
                }
                let stat = std::fs::symlink_metadata(dir.path().join("x")).unwrap();
                assert!(stat.is_file() && stat.mode() & 0o7777 == 0o644, "{what}");
            }
        }
    }

    #[test]
    fn a_folder_is_made_beside_what_was_planted_in_its_place() {
        for what in PLANTED {
            let (dir, folder) = folder();
            plant(dir.path(), what, "x");
            let made = folder.make("x", 0o700).unwrap();
            let own = dir.path().join("x");
            assert!(std::fs::symlink_metadata(&own).unwrap().is_dir(), "{what}");
            made.replace("y", b"1").unwrap();
            assert_eq!(std::fs::read(own.join("y")).unwrap(), b"1", "{what}");
            assert_eq!(dir.path().join("x.aside-1").exists(), what != "folder", "{what}");
            assert!(!dir.path().join("elsewhere/y").exists(), "{what}");
        }
        let (dir, folder) = folder();
        for number in 0..=MOST_ASIDE {
            plant(dir.path(), "pipe", "x");
            assert_eq!(folder.make("x", 0o700).is_ok(), number < MOST_ASIDE);
            let _ = std::fs::remove_dir(dir.path().join("x"));
        }
        let pipe = std::fs::symlink_metadata(dir.path().join("x.aside-9")).unwrap();
        assert!(pipe.file_type().is_fifo());
    }

    #[test]
    fn only_the_folder_itself_changes_its_owner() {
        let (dir, folder) = folder();
        std::fs::write(dir.path().join("inside"), "").unwrap();
        let own = folder.make("x", 0o700).unwrap();
        if own.give(12_345).is_err() {
            return; // Not root.
        }
        assert_eq!(std::fs::metadata(dir.path().join("x")).unwrap().uid(), 12_345);
        assert_eq!(std::fs::metadata(dir.path().join("inside")).unwrap().uid(), 0);
    }
}
