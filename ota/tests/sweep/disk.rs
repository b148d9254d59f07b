//! A disk that remembers every write and flush, and what of it a power cut may leave.
//!
//! Each partition has a write cache of its own that a flush of *that* partition empties: less than a
//! real disk promises, whose flush is one for all of its partitions.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use formats::medium::{Access, Medium, Partitions};
use ota::data_folder::DataFolder;

/// What a power cut may tear is never smaller.
pub const SECTOR: usize = 512;

/// All that is kept when the power is off.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Image {
    /// By label.
    pub partitions: BTreeMap<&'static str, Vec<u8>>,
    /// `ota`'s files on the data partition, by name.
    pub data: BTreeMap<String, Vec<u8>>,
}

/// Something that changed the disk, or made it keep a change.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes written to a partition; they may still be in its cache.
    Write { label: &'static str, offset: usize, bytes: Vec<u8> },
    /// All that was written to this partition is kept from now on.
    Flush { label: &'static str },
    /// A file of `ota`'s was replaced, and that is kept (`DataFolder::replace`).
    Replace { name: String, bytes: Vec<u8> },
}

impl Event {
    /// Bytes written to partitions.
    pub fn written(&self) -> usize {
        match self {
            Event::Write { bytes, .. } => bytes.len(),
            Event::Flush { .. } | Event::Replace { .. } => 0,
        }
    }
}

/// How a disk lies, or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reading this byte of the partition fails.
    Unreadable { label: &'static str, at: usize },
    /// Reading this byte of the partition fails until it is written: the medium puts another sector
    /// in its place then.
    UnreadableUntilWritten { label: &'static str, at: usize },
    /// A write over this byte puts down what lies before it, then fails.
    Unwritable { label: &'static str, at: usize, error: io::ErrorKind },
    /// This byte never takes a value: writes over it succeed and change nothing there.
    Stuck { label: &'static str, at: usize },
    /// A flush of the partition fails.
    Unflushable { label: &'static str },
    /// The data partition is full.
    DataFull,
}

#[derive(Debug)]
struct Inner {
    image: Image,
    record: Vec<Event>,
    fault: Option<Fault>,
}

/// The disk of a running device.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<Inner>>);

impl Disk {
    /// A disk that holds this.
    pub fn new(image: Image) -> Disk {
        Disk(Arc::new(Mutex::new(Inner { image, record: Vec::new(), fault: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// What programs see on it now.
    pub fn image(&self) -> Image {
        self.lock().image.clone()
    }

    /// All that happened to it so far.
    pub fn record(&self) -> Vec<Event> {
        self.lock().record.clone()
    }

    /// From now on it fails like this.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }
}

impl Partitions for Disk {
    fn open(&self, label: &str, access: Access) -> io::Result<Box<dyn Medium>> {
        let inner = self.lock();
        let (label, bytes) =
            inner.image.partitions.get_key_value(label).ok_or(io::ErrorKind::NotFound)?;
        let size = bytes.len();
        Ok(Box::new(OpenPartition { disk: self.clone(), label, size, access }))
    }

    fn path(&self, label: &str) -> PathBuf {
        PathBuf::from("/dev/ferrite").join(label)
    }
}

#[derive(Debug)]
struct OpenPartition {
    disk: Disk,
    label: &'static str,
    size: usize,
    access: Access,
}

impl Medium for OpenPartition {
    fn size(&self) -> u64 {
        self.size as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.lock();
        let range = offset as usize..offset as usize + buffer.len();
        if let Some(Fault::Unreadable { label, at } | Fault::UnreadableUntilWritten { label, at }) =
            inner.fault
            && label == self.label
            && range.contains(&at)
        {
            return Err(io::Error::other("Input/output error"));
        }
        let bytes = inner.image.partitions[self.label].get(range);
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(self.access.writes(), "a write to {} opened for reading", self.label);
        let mut inner = self.disk.lock();
        let (offset, mut bytes) = (offset as usize, bytes.to_vec());
        assert!(offset + bytes.len() <= self.size, "a write past the end of {}", self.label);
        let over = |at: usize| (offset..offset + bytes.len()).contains(&at);
        let mut result = Ok(());
        match inner.fault {
            Some(Fault::Unwritable { label, at, error }) if label == self.label && over(at) => {
                bytes.truncate(at - offset);
                result = Err(error.into());
            }
            Some(Fault::Stuck { label, at }) if label == self.label && over(at) => {
                bytes[at - offset] = inner.image.partitions[label][at];
            }
            Some(Fault::UnreadableUntilWritten { label, at })
                if label == self.label && over(at) =>
            {
                inner.fault = None;
            }
            _ => {}
        }
        if let Some(partition) = inner.image.partitions.get_mut(self.label) {
            partition[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        inner.record.push(Event::Write { label: self.label, offset, bytes });
        result
    }

    fn flush(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        if inner.fault == Some(Fault::Unflushable { label: self.label }) {
            return Err(io::Error::other("Input/output error"));
        }
        inner.record.push(Event::Flush { label: self.label });
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DataFolder for Disk {
    fn read(&self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        let inner = self.lock();
        let bytes = inner.image.data.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(bytes.iter().take(max as usize).copied().collect())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.fault == Some(Fault::DataFull) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.image.data.insert(name.to_owned(), bytes.to_vec());
        inner.record.push(Event::Replace { name: name.to_owned(), bytes: bytes.to_vec() });
        Ok(())
    }

    fn require_room(&self, _: usize) -> io::Result<()> {
        match self.lock().fault {
            Some(Fault::DataFull) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

/// What a power cut finds: what is kept, and what lies in the partitions' caches.
#[derive(Clone, Debug)]
pub struct Moment {
    kept: Image,
    /// By partition and sector: the contents written since the partition's last flush, oldest
    /// first, where they differ from what was there.
    cached: BTreeMap<(&'static str, usize), Vec<Vec<u8>>>,
}

impl Moment {
    /// Before anything happened.
    pub fn start(kept: Image) -> Moment {
        Moment { kept, cached: BTreeMap::new() }
    }

    /// After one more event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Write { label, offset, bytes } => self.write(label, *offset, bytes),
            Event::Flush { label } => {
                let (flushed, left) = std::mem::take(&mut self.cached)
                    .into_iter()
                    .partition(|((cached, _), _)| cached == label);
                self.cached = left;
                for (sector, contents) in flushed {
                    keep(&mut self.kept, sector, contents.last());
                }
            }
            Event::Replace { name, bytes } => {
                self.kept.data.insert(name.clone(), bytes.clone());
            }
        }
    }

    fn write(&mut self, label: &'static str, offset: usize, bytes: &[u8]) {
        let partition = &self.kept.partitions[label];
        let (first, end) = (offset / SECTOR, (offset + bytes.len()).div_ceil(SECTOR));
        for sector in first..end {
            let at = sector * SECTOR;
            let contents = self.cached.entry((label, sector)).or_default();
            let before = contents.last().map_or(&partition[at..at + SECTOR], Vec::as_slice);
            let mut after = before.to_vec();
            let (from, to) = (offset.max(at), (offset + bytes.len()).min(at + SECTOR));
            after[from - at..to - at].copy_from_slice(&bytes[from - offset..to - offset]);
            if after != before {
                contents.push(after);
            }
        }
        self.cached.retain(|_, contents| !contents.is_empty());
    }

    /// In how many ways a power cut can end now, if that is at most `most`.
    pub fn ways(&self, most: usize) -> Option<usize> {
        self.cached.values().try_fold(1usize, |ways, contents| {
            ways.checked_mul(contents.len() + 1).filter(|ways| *ways <= most)
        })
    }

    /// What is left when each cached sector takes the content that `choose` says: 0 for what was
    /// kept, or one of so many later ones.
    pub fn left(&self, mut choose: impl FnMut(usize) -> usize) -> Image {
        let mut image = self.kept.clone();
        for (sector, contents) in &self.cached {
            let chosen = choose(contents.len() + 1);
            keep(&mut image, *sector, chosen.checked_sub(1).map(|chosen| &contents[chosen]));
        }
        image
    }
}

fn keep(image: &mut Image, (label, sector): (&'static str, usize), content: Option<&Vec<u8>>) {
    if let (Some(partition), Some(content)) = (image.partitions.get_mut(label), content) {
        partition[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image { partitions: BTreeMap::from([("x", vec![0; 4 * SECTOR])]), data: BTreeMap::new() }
    }

    fn write(offset: usize, byte: u8, length: usize) -> Event {
        Event::Write { label: "x", offset, bytes: vec![byte; length] }
    }

    #[test]
    fn a_cut_leaves_any_of_the_sectors_since_the_last_flush() {
        let mut moment = Moment::start(image());
        moment.apply(&write(0, 1, SECTOR));
        moment.apply(&Event::Flush { label: "x" });
        assert_eq!(moment.ways(100), Some(1));
        moment.apply(&write(SECTOR, 2, 2 * SECTOR));
        assert_eq!(moment.ways(100), Some(4));
        moment.apply(&write(SECTOR, 3, SECTOR));
        assert_eq!(moment.ways(100), Some(6), "the old one, the first, the second");
        assert_eq!(moment.ways(5), None);
        let first = |image: &Image| [0, 1, 2].map(|sector| image.partitions["x"][sector * SECTOR]);
        assert_eq!(first(&moment.left(|_| 0)), [1, 0, 0]);
        assert_eq!(first(&moment.left(|ways| ways - 1)), [1, 3, 2]);
        let mut choices = [1, 0].into_iter();
        assert_eq!(first(&moment.left(|_| choices.next().unwrap())), [1, 2, 0]);
        moment.apply(&Event::Flush { label: "x" });
        assert_eq!(first(&moment.left(|_| 0)), [1, 3, 2]);
    }

    #[test]
    fn writing_what_is_there_is_no_change() {
        let mut moment = Moment::start(image());
        moment.apply(&write(10, 0, 600));
        assert_eq!(moment.ways(100), Some(1));
    }
}
