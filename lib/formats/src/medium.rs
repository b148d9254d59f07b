//! The partitions as the programs on the device read and write them: a trait, so that a test can
//! put a disk in their place that forgets, tears and lies.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a partition is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading, through the page cache.
    Read,
    /// Reading and writing a few bytes, through the page cache.
    Write,
    /// Reading and writing much, past the page cache where the medium allows that: then memory,
    /// offsets and lengths have to be multiples of the device's blocks (4096 bytes always do).
    Direct,
    /// Reading what really is on the medium, as [`Access::Direct`] does, without the right to write:
    /// the nodes of the half of `ota` that fetches have no other.
    ReadDirect,
}

impl Access {
    /// Whether it includes writing.
    pub fn writes(self) -> bool {
        match self {
            Access::Write | Access::Direct => true,
            Access::Read | Access::ReadDirect => false,
        }
    }
}

/// An open partition.
///
/// A write may stay in a cache, of the kernel or of the disk, until [`Medium::flush`] returns; a
/// power cut before that may lose all of it or any of its sectors, whatever was written later.
pub trait Medium: Debug + Send + Sync {
    /// Bytes of the partition.
    fn size(&self) -> u64;

    /// Fills `buffer` from byte `offset` on.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` from byte `offset` on.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was written is on the medium.
    fn flush(&self) -> io::Result<()>;

    /// Forgets what is cached in memory, so that the next read asks the medium.
    fn forget_cached(&self) -> io::Result<()>;
}

/// The partitions of a device, by label.
pub trait Partitions: Debug + Send + Sync {
    /// Opens the partition with this label. Writes nothing.
    fn open(&self, label: &str, access: Access) -> io::Result<Box<dyn Medium>>;

    /// What an error calls it.
    fn path(&self, label: &str) -> PathBuf;
}

/// Partitions whose device nodes (or files) lie in one folder under their labels.
#[derive(Debug, Clone)]
pub struct DeviceFolder(PathBuf);

impl DeviceFolder {
    /// The partitions in this folder.
    pub fn new(folder: &Path) -> DeviceFolder {
        DeviceFolder(folder.to_owned())
    }

    /// As [`DeviceFolder::new`], to hand on.
    pub fn shared(folder: &Path) -> Arc<dyn Partitions> {
        Arc::new(DeviceFolder::new(folder))
    }
}

impl Partitions for DeviceFolder {
    fn open(&self, label: &str, access: Access) -> io::Result<Box<dyn Medium>> {
        open(&self.path(label), access)
    }

    fn path(&self, label: &str) -> PathBuf {
        self.0.join(label)
    }
}

/// Opens a device node or a file as a partition.
pub(crate) fn open(path: &Path, access: Access) -> io::Result<Box<dyn Medium>> {
    FilePartition::open(path, access).map(|partition| -> Box<dyn Medium> { Box::new(partition) })
}

/// A device node or a file.
#[derive(Debug)]
struct FilePartition {
    file: File,
    size: u64,
    cached: bool,
}

impl FilePartition {
    fn open(path: &Path, access: Access) -> io::Result<FilePartition> {
        let open = |flags: i32| {
            OpenOptions::new().read(true).write(access.writes()).custom_flags(flags).open(path)
        };
        let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
        let (mut file, cached) = match access {
            Access::Read | Access::Write => (open(0)?, true),
            Access::Direct | Access::ReadDirect => match open(direct) {
                Ok(file) => (file, false),
                // A file system in memory knows no direct I/O.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => (open(0)?, true),
                Err(error) => return Err(error),
            },
        };
        let size = file.seek(SeekFrom::End(0))?;
        Ok(FilePartition { file, size, cached })
    }
}

impl Medium for FilePartition {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn forget_cached(&self) -> io::Result<()> {
        if self.cached {
            rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_with_every_access() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("root-a"), [7; 8192]).unwrap();
        let partitions = DeviceFolder::new(dir.path());
        for (access, value) in [(Access::Write, 1), (Access::Direct, 2)] {
            let medium = partitions.open("root-a", access).unwrap();
            assert_eq!(medium.size(), 8192);
            // Direct I/O wants aligned memory: the aligned part of a larger buffer.
            let mut storage = vec![value; 3 * 4096];
            let start = storage.as_ptr().align_offset(4096);
            let buffer = &mut storage[start..start + 4096];
            medium.write_at(4096, buffer).unwrap();
            medium.flush().unwrap();
            medium.forget_cached().unwrap();
            buffer.fill(0);
            medium.read_at(4096, buffer).unwrap();
            assert!(buffer.iter().all(|byte| *byte == value), "{access:?}");
            assert!(medium.read_at(8192, buffer).is_err(), "past the end");
        }
        for access in [Access::Read, Access::ReadDirect] {
            let medium = partitions.open("root-a", access).unwrap();
            let aligned = vec![0; 2 * 4096];
            let start = aligned.as_ptr().align_offset(4096);
            let written = medium.write_at(0, &aligned[start..start + 4096]);
            assert!(written.is_err(), "{access:?}: opened for reading only");
        }
        assert_eq!(
            partitions.open("root-b", Access::Read).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn who_only_reads_asks_for_no_more_and_past_the_cache_only_when_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root-a");
        std::fs::write(&path, [7; 8192]).unwrap();
        // A file system in memory may know no direct I/O; then both fall back alike.
        let direct = !FilePartition::open(&path, Access::Direct).unwrap().cached;
        for (access, past_cache) in [(Access::Read, false), (Access::ReadDirect, direct)] {
            let partition = FilePartition::open(&path, access).unwrap();
            let flags = rustix::fs::fcntl_getfl(&partition.file).unwrap();
            assert_eq!(flags & rustix::fs::OFlags::ACCMODE, rustix::fs::OFlags::RDONLY);
            assert_eq!(flags.contains(rustix::fs::OFlags::DIRECT), past_cache, "{access:?}");
            assert_eq!(partition.cached, !past_cache, "{access:?}");
        }
    }
}
