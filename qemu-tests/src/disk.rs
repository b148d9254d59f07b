//! A machine's disk: a copy of an image that a test may look into and spoil.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use formats::boot_state::{BLOB_SIZE, BootState, newest};
use formats::gpt;
use formats::layout::{BOOT_STATE_OFFSETS, FIRMWARE, SECTOR};

/// A disk, in a temporary folder and gone when dropped unless it was asked for by path. Its
/// methods see what a running machine has written, because QEMU writes through the same page
/// cache; they write only while it is off.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    path: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Disk {
    /// A copy of `image` (its holes kept).
    pub fn copy_of(image: &Path) -> Result<Disk> {
        let folder = tempfile::Builder::new()
            .prefix("ferrite-disk")
            .tempdir()
            .context("temporary folder")?;
        let disk = Disk::copy_to(image, &folder.path().join("disk.img"))?;
        Ok(Disk { _folder: Some(folder), ..disk })
    }

    /// A copy of `image` at `path`, which stays.
    pub fn copy_to(image: &Path, path: &Path) -> Result<Disk> {
        let image = image
            .canonicalize()
            .with_context(|| format!("{} is not there; build it first", image.display()))?;
        copy(&image, path)?;
        Ok(Disk { image, path: path.to_owned(), _folder: None })
    }

    /// A copy of this disk as it is now: a state to come back to.
    pub fn snapshot(&self) -> Result<Disk> {
        let mut copy = Disk::copy_of(&self.path)?;
        copy.image = self.image.clone();
        Ok(copy)
    }

    /// The same disk once more, for somebody else to look at. It lives as long as this one.
    pub(crate) fn view(&self) -> Disk {
        Disk { image: self.image.clone(), path: self.path.clone(), _folder: None }
    }

    /// The image it was copied from.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The disk's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the disk `bytes` long, as if the image had been written to a larger one.
    pub fn grow(&self, bytes: u64) -> Result<()> {
        let now = self.size()?;
        ensure!(bytes >= now, "the disk has {now} bytes, more than {bytes}");
        self.open()?.set_len(bytes).with_context(|| self.name())
    }

    /// Bytes of the whole disk.
    pub fn size(&self) -> Result<u64> {
        Ok(self.open()?.metadata().with_context(|| self.name())?.len())
    }

    /// The bytes of the disk that the partition with this label occupies.
    pub fn partition(&self, label: &str) -> Result<Range<u64>> {
        let file = self.open()?;
        let table =
            gpt::read(self.size()? / SECTOR, |offset, buffer| file.read_exact_at(buffer, offset));
        let found = table.and_then(|table| table.find(label).map(gpt::Partition::bytes));
        found.with_context(|| self.name())
    }

    /// `length` bytes at byte `offset` of a partition.
    pub fn read(&self, label: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let at = self.place(label, offset, length)?;
        self.open()?.read_exact_at(&mut bytes, at).with_context(|| self.name())?;
        Ok(bytes)
    }

    /// `length` bytes at byte `offset` of the whole disk.
    pub fn read_disk(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.open()?.read_exact_at(&mut bytes, offset).with_context(|| self.name())?;
        Ok(bytes)
    }

    /// Overwrites bytes of a partition.
    pub fn write(&self, label: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let at = self.place(label, offset, bytes.len())?;
        self.open()?.write_all_at(bytes, at).with_context(|| self.name())
    }

    /// Flips one bit (0 to 7) of the byte at `offset` of a partition.
    pub fn flip_bit(&self, label: &str, offset: u64, bit: u8) -> Result<()> {
        ensure!(bit < 8, "a byte has no bit {bit}");
        let mut byte = self.read(label, offset, 1)?;
        byte[0] ^= 1 << bit;
        self.write(label, offset, &byte)
    }

    /// The boot state that the loader would go by; `None` when both copies are spoilt.
    pub fn boot_state(&self) -> Result<Option<BootState>> {
        let [a, b] = self.boot_state_copies()?;
        Ok(newest([&a, &b]).map(|(_, state)| state))
    }

    /// Both copies of the boot state, as they lie there.
    pub fn boot_state_copies(&self) -> Result<[Vec<u8>; 2]> {
        let [a, b] = BOOT_STATE_OFFSETS;
        Ok([self.read(FIRMWARE, a, BLOB_SIZE)?, self.read(FIRMWARE, b, BLOB_SIZE)?])
    }

    /// Writes this state as copy 0, and spoils copy 1.
    pub fn set_boot_state(&self, state: &BootState) -> Result<()> {
        self.set_boot_state_copies([Some(state), None])
    }

    /// Writes both copies of the boot state; `None` is a spoilt one.
    pub fn set_boot_state_copies(&self, copies: [Option<&BootState>; 2]) -> Result<()> {
        for (copy, offset) in copies.iter().zip(BOOT_STATE_OFFSETS) {
            let blob = copy.map_or([0xA5; BLOB_SIZE], BootState::to_blob);
            self.write(FIRMWARE, offset, &blob)?;
        }
        Ok(())
    }

    fn place(&self, label: &str, offset: u64, length: usize) -> Result<u64> {
        let range = self.partition(label)?;
        let end = offset.checked_add(length as u64).filter(|end| *end <= range.end - range.start);
        ensure!(end.is_some(), "{length} bytes at {offset} are not within {label}");
        Ok(range.start + offset)
    }

    fn open(&self) -> Result<File> {
        File::options().read(true).write(true).open(&self.path).with_context(|| self.name())
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// `cp` knows holes and copy-on-write file systems.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["--sparse=always", "--reflink=auto", "--"])
        .args([from, to])
        .status()
        .context("cp cannot be started")?;
    if !status.success() {
        bail!("{} cannot be copied; is the disk full?", from.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::gpt::{Gpt, Guid, LINUX_DATA, Partition};

    fn disk() -> Disk {
        let partition = |number: u8, label: &str, first, last| Partition {
            kind: LINUX_DATA,
            guid: Guid::from_hash([number; 16]),
            first,
            last,
            attributes: 0,
            label: label.to_owned(),
        };
        let table = Gpt {
            disk: Guid::from_hash([9; 16]),
            sectors: 8192,
            partitions: vec![partition(1, FIRMWARE, 2048, 4095), partition(2, "data", 4096, 6143)],
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8192 * SECTOR).unwrap();
        for write in table.writes() {
            file.as_file().write_all_at(&write.bytes, write.offset).unwrap();
        }
        Disk::copy_of(file.path()).unwrap()
    }

    #[test]
    fn a_bit_flips_where_it_was_asked_to() {
        let disk = disk();
        assert_eq!(disk.partition("data").unwrap(), 4096 * 512..6144 * 512);
        disk.flip_bit("data", 1000, 3).unwrap();
        assert_eq!(disk.read("data", 999, 3).unwrap(), [0, 8, 0]);
        let raw = std::fs::read(disk.path()).unwrap();
        assert_eq!(raw[4096 * 512 + 1000], 8);
        disk.flip_bit("data", 1000, 3).unwrap();
        assert_eq!(disk.read("data", 1000, 1).unwrap(), [0]);
    }

    #[test]
    fn nothing_outside_a_partition_is_touched() {
        let disk = disk();
        let size = 2048 * 512;
        assert!(disk.write("data", size - 1, &[1, 1]).is_err());
        assert!(disk.read("data", u64::MAX, 2).is_err());
        assert!(disk.flip_bit("data", 0, 8).is_err());
        assert!(disk.partition("root-a").unwrap_err().to_string().len() > 1);
        disk.write("data", size - 1, &[1]).unwrap();
    }

    #[test]
    fn the_boot_state_is_read_as_the_loader_reads_it() {
        let disk = disk();
        assert_eq!(disk.boot_state().unwrap(), None);
        let old = BootState::fresh();
        let new = BootState { generation: 2, tries: 3, ..old.clone() };
        disk.set_boot_state(&old).unwrap();
        assert_eq!(disk.boot_state().unwrap(), Some(old.clone()));
        disk.set_boot_state_copies([Some(&old), Some(&new)]).unwrap();
        assert_eq!(disk.boot_state().unwrap(), Some(new));
        let before = disk.snapshot().unwrap();
        disk.set_boot_state_copies([None, None]).unwrap();
        assert_eq!(disk.boot_state().unwrap(), None);
        assert!(before.boot_state().unwrap().is_some());
    }

    #[test]
    fn a_disk_only_grows() {
        let disk = disk();
        disk.grow(disk.size().unwrap() + 4096).unwrap();
        assert!(disk.grow(512).is_err());
        assert!(disk.partition("data").is_ok(), "the table is still found");
    }
}
