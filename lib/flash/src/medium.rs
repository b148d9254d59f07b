//! What is written to: a disk, or a file that stands for one.
//!
//! A disk is opened with `O_EXCL`, so that nobody mounts it or builds on it meanwhile, and with
//! `O_DIRECT`: what is written is on its way to the medium when a write returns, and what is read
//! back comes from the medium and not from memory (open(2)).

use std::cell::Cell;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use atomic_file::NewFile;
use formats::layout::SECTOR;
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};
use rustix::io::Errno;

use crate::aligned::Aligned;
use crate::machine::Number;
use crate::sys;

/// Zeros are asked for in pieces of at most this, so that progress is seen and Ctrl-C heard where
/// the kernel has to write them itself.
const ZERO_STEP: u64 = 16 << 20;
/// Zeros that are written one by one go in pieces of this size.
const ZERO_BUFFER: usize = 1 << 20;

/// An open medium.
pub struct Medium {
    name: String,
    holder: Holder,
    bytes: u64,
    zeros: Cell<Zeros>,
}

enum Holder {
    /// A disk.
    Disk(File),
    /// A file that was there.
    Old(File),
    /// A file that gets its name when all is written and compared.
    New(NewFile),
}

/// How a range is made to read as zeros. That a *discarded* range reads as zeros is never assumed:
/// most media promise nothing about it. Each way here does promise it, and all is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zeros {
    /// Nothing to do: a new file's holes.
    There,
    /// `FALLOC_FL_PUNCH_HOLE`: on a disk the kernel takes it only where the device itself promises
    /// zeros (`blkdev_fallocate` of Linux: a write of zeros that may unmap, without fall-back).
    Punch,
    /// `FALLOC_FL_ZERO_RANGE`: the device's own way to write zeros, or the kernel's writing them.
    ZeroRange,
    /// Written like any other bytes.
    Write,
}

impl Medium {
    /// Opens a disk that nothing else uses. `name` is what people call it, `number` the device that
    /// was judged: a name may have come to mean another one since.
    pub fn disk(path: &Path, name: &str, number: Number) -> Result<Medium> {
        let open = |extra: OFlags| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags((OFlags::EXCL | extra).bits() as i32)
                .open(path)
        };
        let opened = match open(OFlags::DIRECT) {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => open(OFlags::empty()),
            other => other,
        };
        let mut file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                bail!(
                    "{name} may not be written by you; use sudo, or join the group of {}",
                    path.display()
                )
            }
            Err(e) => match Errno::from_io_error(&e) {
                Some(Errno::BUSY) => bail!(
                    "{name} is in use by something that does not show here, such as another mount namespace or ZFS; \
                     stop it first"
                ),
                Some(Errno::NOMEDIUM) => bail!("{name} has no medium; put a card in"),
                Some(Errno::ROFS) => bail!(
                    "{name} cannot be written: the medium is read-only; a card or its adapter may have a switch"
                ),
                _ => return Err(e).with_context(|| format!("{name} cannot be opened for writing")),
            },
        };
        let about = file.metadata().with_context(|| name.to_owned())?;
        ensure!(
            number_of(&about) == number,
            "{} became another disk while you were asked; nothing was written: start again",
            path.display()
        );
        let sector = rustix::fs::ioctl_blksszget(&file)
            .with_context(|| format!("{name} does not say how large its sectors are"))?;
        ensure!(
            u64::from(sector) == SECTOR,
            "{name} has sectors of {sector} bytes, and the image's partition table counts {SECTOR}; take another medium"
        );
        let bytes =
            file.seek(SeekFrom::End(0)).with_context(|| format!("{name} does not say its size"))?;
        Ok(Medium::new(name, Holder::Disk(file), bytes, Zeros::Punch))
    }

    /// A file that is there and stands for a disk of its size. An empty one becomes one of `bytes`
    /// bytes; another one that is smaller is refused, as a disk is.
    pub fn old_file(path: &Path, bytes: u64) -> Result<Medium> {
        let name = path.display().to_string();
        let cannot = || format!("{name} cannot be written");
        let file = OpenOptions::new().read(true).write(true).open(path).with_context(cannot)?;
        let old = file.metadata().with_context(cannot)?.len();
        if old == 0 {
            file.set_len(bytes).with_context(cannot)?;
        }
        ensure!(
            old == 0 || old >= bytes,
            "{name} is too small: it has {old} bytes and the image needs {bytes}; make it larger with `truncate --size={bytes} {name}`, or remove it"
        );
        let bytes = old.max(bytes) / SECTOR * SECTOR;
        Ok(Medium::new(&name, Holder::Old(file), bytes, Zeros::Punch))
    }

    /// A new file of `bytes` bytes.
    pub fn new_file(path: &Path, bytes: u64) -> Result<Medium> {
        let mut new = NewFile::new(path)?;
        new.file()
            .set_len(bytes)
            .with_context(|| format!("{} cannot be made; is the disk full?", path.display()))?;
        Ok(Medium::new(&path.display().to_string(), Holder::New(new), bytes, Zeros::There))
    }

    fn new(name: &str, holder: Holder, bytes: u64, zeros: Zeros) -> Medium {
        Medium { name: name.to_owned(), holder, bytes, zeros: Cell::new(zeros) }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// It is a disk, not a file.
    pub fn is_disk(&self) -> bool {
        matches!(self.holder, Holder::Disk(_))
    }

    /// It is nowhere to be seen until it is whole.
    pub fn is_new(&self) -> bool {
        matches!(self.holder, Holder::New(_))
    }

    fn file(&self) -> &File {
        match &self.holder {
            Holder::Disk(file) | Holder::Old(file) => file,
            Holder::New(new) => new.as_file(),
        }
    }

    /// Writes bytes, in memory as `Aligned` has it, at a multiple of a sector.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file().write_all_at(bytes, offset).with_context(|| {
            let what = if self.is_disk() {
                "the medium may be worn out or was pulled out"
            } else {
                "is the disk full?"
            };
            format!("{} cannot be written at byte {offset}; {what}", self.name)
        })
    }

    /// Makes a range read as zeros. `step` is called after each piece, with its length, and breaks
    /// it off with an error.
    pub fn zero(&self, range: Range<u64>, mut step: impl FnMut(u64) -> Result<()>) -> Result<()> {
        let mut start = range.start;
        while start < range.end {
            let end = (start + ZERO_STEP).min(range.end);
            self.zero_piece(start..end)?;
            step(end - start)?;
            start = end;
        }
        Ok(())
    }

    fn zero_piece(&self, range: Range<u64>) -> Result<()> {
        let length = range.end - range.start;
        let ask =
            |mode| fallocate(self.file(), mode | FallocateFlags::KEEP_SIZE, range.start, length);
        loop {
            let (asked, next) = match self.zeros.get() {
                Zeros::There => return Ok(()),
                Zeros::Punch => (ask(FallocateFlags::PUNCH_HOLE), Zeros::ZeroRange),
                Zeros::ZeroRange => (ask(FallocateFlags::ZERO_RANGE), Zeros::Write),
                Zeros::Write => break,
            };
            if asked.is_ok() {
                return Ok(());
            }
            self.zeros.set(next);
        }
        let zeros = Aligned::new(ZERO_BUFFER.min(length as usize));
        let mut at = range.start;
        while at < range.end {
            let piece = ((range.end - at) as usize).min(zeros.len());
            self.write(at, &zeros[..piece])?;
            at += piece as u64;
        }
        Ok(())
    }

    /// Brings all that was written to the medium.
    pub fn flush(&self) -> Result<()> {
        self.file().sync_all().with_context(|| {
            format!("{} did not take all that was written; do not use it", self.name)
        })
    }

    /// Forgets what memory still has of the medium, so that reading asks the medium.
    pub fn drop_cache(&self) {
        // Advice: what stays is a page that `O_DIRECT` does not look at.
        let _ = fadvise(self.file(), 0, None, Advice::DontNeed);
    }

    /// Reads bytes into memory as `Aligned` has it, from a multiple of a sector.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file().read_exact_at(bytes, offset).with_context(|| {
            format!(
                "{} cannot be read back at byte {offset}; the medium is faulty: take another",
                self.name
            )
        })
    }

    /// All is written: lets the kernel see the new partitions, or gives a new file its name.
    /// `secret`: nobody else may read the file, because it holds a device's secrets.
    ///
    /// Returns whether the kernel knows the new partitions.
    pub fn finish(self, secret: bool) -> Result<bool> {
        match self.holder {
            Holder::Disk(file) => Ok(sys::read_partitions_again(&file).is_ok()),
            Holder::Old(_) => Ok(true),
            Holder::New(mut new) => {
                let mode = if secret { 0o600 } else { 0o644 };
                new.finish_as(mode).with_context(|| {
                    format!("{} cannot be written; is the disk full?", self.name)
                })?;
                new.persist().map(|()| true)
            }
        }
    }
}

/// What the argument DEVICE names.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// A block device with this number.
    Block(Number),
    /// A file that is there.
    OldFile(PathBuf),
    /// A name that is free.
    NewFile(PathBuf),
}

impl Target {
    /// Looks at what is there.
    pub fn of(path: &Path) -> Result<Target> {
        let about = match std::fs::metadata(path) {
            Ok(about) => about,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                ensure!(
                    !path.starts_with("/dev"),
                    "{} is not there; `imager flash` without a device lists the disks that are",
                    path.display()
                );
                return Ok(Target::NewFile(path.to_owned()));
            }
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        };
        if about.file_type().is_block_device() {
            return Ok(Target::Block(number_of(&about)));
        }
        ensure!(about.is_file(), "{} is neither a disk nor a file", path.display());
        // A slip of the fingers must not cost somebody a file: only what was a disk becomes one.
        let mut start = [0; 520];
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let is_disk = file.read_exact_at(&mut start, 0).is_ok() && start.ends_with(b"EFI PART");
        let is_blank = about.len() == 0 || about.blocks() == 0;
        ensure!(
            is_disk || is_blank,
            "{} is a file and no disk image; remove it first if it may be overwritten",
            path.display()
        );
        Ok(Target::OldFile(path.to_owned()))
    }
}

/// The number of the device that a node stands for.
fn number_of(about: &Metadata) -> Number {
    (rustix::fs::major(about.rdev()), rustix::fs::minor(about.rdev()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to make zeros makes zeros, of what was something else, and nothing more.
    #[test]
    fn zeros_are_zeros_whatever_way_makes_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        for way in [Zeros::Punch, Zeros::ZeroRange, Zeros::Write] {
            std::fs::write(&path, vec![7; 5 << 20]).unwrap();
            let medium = Medium::old_file(&path, 1 << 20).unwrap();
            medium.zeros.set(way);
            let mut steps = 0;
            medium
                .zero((1 << 20)..(4 << 20) + 512, |n| {
                    steps += n;
                    Ok(())
                })
                .unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let (before, rest) = bytes.split_at(1 << 20);
            let (zeros, after) = rest.split_at((3 << 20) + 512);
            assert!(before.iter().chain(after).all(|b| *b == 7), "{way:?}");
            assert!(zeros.iter().all(|b| *b == 0), "{way:?}");
            assert_eq!(steps, (3 << 20) + 512);
        }
    }

    #[test]
    fn a_file_that_is_no_disk_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thesis.tex");
        assert_eq!(Target::of(&path).unwrap(), Target::NewFile(path.clone()));
        std::fs::write(&path, "much work").unwrap();
        assert!(Target::of(&path).unwrap_err().to_string().contains("no disk image"));
        std::fs::write(&path, "").unwrap();
        assert_eq!(Target::of(&path).unwrap(), Target::OldFile(path.clone()));
        File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(Target::of(&path).unwrap(), Target::OldFile(path));
        let error = Target::of(Path::new("/dev/no-such-disk")).unwrap_err().to_string();
        assert!(error.contains("lists the disks"), "{error}");
        assert!(Target::of(Path::new("/dev/null")).is_err());
    }
}
