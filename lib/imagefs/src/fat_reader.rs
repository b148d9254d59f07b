//! Reads FAT16 and FAT32 images: what is on a boot partition, for `imager inspect` and the tests.
//!
//! The image may be anybody's, so that every number is checked before it is used.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32};

use super::fat::{FAT16_CLUSTERS, FAT32_CLUSTERS, FatType, SECTOR};
use super::fat_fs::{
    ATTR_DIR, ATTR_EXT, ATTR_VOLUME, BOOT_SIGN, BootSector32, DELETED, DirectoryEntry,
    DirectorySlot, LAST_SLOT,
};
use super::fat_name::{ENTRY, ShortName};

/// Directories below each other before the reader gives up.
const DEPTH_MAX: usize = 32;

/// A directory or file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatEntry {
    /// Path from the volume's root.
    pub path: String,
    /// The bytes of a file; `None` for a directory.
    pub bytes: Option<Vec<u8>>,
}

/// A FAT volume in memory.
pub struct FatVolume<'a> {
    image: &'a [u8],
    kind: FatType,
    fat_at: usize,
    root_at: usize,
    root_bytes: usize,
    root_cluster: usize,
    clusters_at: usize,
    cluster_bytes: usize,
    clusters: usize,
}

impl<'a> FatVolume<'a> {
    /// Reads the boot sector of `image`, the bytes of a whole partition. Fails if they are no FAT16
    /// or FAT32 volume with 512-byte sectors, or if parts of it are missing.
    pub fn open(image: &'a [u8]) -> Result<FatVolume<'a>> {
        let boot = image.get(..SECTOR).context("too short for a FAT volume")?;
        let boot = BootSector32::ref_from_bytes(boot).ok().context("no boot sector")?;
        ensure!(boot.boot_sign == BOOT_SIGN, "no boot sector: its last bytes are not 55 AA");
        let head = &boot.head;
        ensure!(
            usize::from(head.sector_size.get()) == SECTOR,
            "no FAT volume with {SECTOR}-byte sectors"
        );
        let cluster_sectors = usize::from(head.sec_per_clus);
        ensure!(cluster_sectors.is_power_of_two(), "no FAT volume: odd cluster size");
        let (reserved, fats) = (usize::from(head.reserved.get()), usize::from(head.fats));
        let root_entries = usize::from(head.dir_entries.get());
        let either = |short: U16, long: U32| {
            let numbers = [u32::from(short.get()), long.get()];
            numbers.into_iter().find(|number| *number > 0).map(|number| number as usize)
        };
        let sectors = either(head.sectors, head.total_sect);
        let fat_sectors = either(head.fat_length, boot.length);
        let sectors = sectors.context("no FAT volume: no sectors")?;
        let fat_sectors = fat_sectors.context("no FAT volume: no FAT")?;
        ensure!(reserved > 0 && fats > 0, "no FAT volume: no reserved sector or no FAT");
        ensure!(
            image.len() / SECTOR >= sectors,
            "the FAT volume has {sectors} sectors, the file only {}",
            image.len() / SECTOR
        );
        let root_sectors = (root_entries * ENTRY).div_ceil(SECTOR);
        let before = reserved + fats * fat_sectors + root_sectors;
        let clusters = sectors.checked_sub(before).context("no FAT volume: no clusters")?;
        let clusters = clusters / cluster_sectors;
        let kind = match clusters {
            FAT32_CLUSTERS.. => FatType::Fat32,
            FAT16_CLUSTERS.. => FatType::Fat16,
            _ => bail!("a FAT12 volume; only FAT16 and FAT32 can be read"),
        };
        let width = if kind == FatType::Fat16 { 2 } else { 4 };
        ensure!(
            fat_sectors * SECTOR / width >= clusters + 2,
            "no FAT volume: {fat_sectors} sectors of FAT are too few for {clusters} clusters"
        );
        Ok(FatVolume {
            image,
            kind,
            fat_at: reserved * SECTOR,
            root_at: (before - root_sectors) * SECTOR,
            root_bytes: root_sectors * SECTOR,
            root_cluster: boot.root_cluster.get() as usize,
            clusters_at: before * SECTOR,
            cluster_bytes: cluster_sectors * SECTOR,
            clusters,
        })
    }

    /// The format of the volume.
    #[cfg(test)]
    pub fn kind(&self) -> FatType {
        self.kind
    }

    /// Everything on the volume, each directory before what is in it. Fails on a chain that is
    /// broken, that is used twice or that runs in a circle.
    pub fn entries(&self) -> Result<Vec<FatEntry>> {
        let mut seen = BTreeSet::new();
        let root = match self.kind {
            FatType::Fat16 => self.image[self.root_at..self.root_at + self.root_bytes].to_vec(),
            FatType::Fat32 => self.chain(self.root_cluster, &mut seen)?,
        };
        let mut found = Vec::new();
        self.directory(&root, "", 0, &mut seen, &mut found)?;
        Ok(found)
    }

    /// The bytes of the file at `path`, upper and lower case alike; `None` if it is not there.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let wanted = |entry: &FatEntry| entry.path.eq_ignore_ascii_case(path);
        Ok(self.entries()?.into_iter().find(wanted).and_then(|entry| entry.bytes))
    }

    fn directory(
        &self,
        bytes: &[u8],
        parent: &str,
        depth: usize,
        seen: &mut BTreeSet<usize>,
        found: &mut Vec<FatEntry>,
    ) -> Result<()> {
        ensure!(depth < DEPTH_MAX, "{parent}: more than {DEPTH_MAX} directories deep");
        let mut long: Vec<u16> = Vec::new();
        let mut long_checksum = None;
        for bytes in bytes.chunks_exact(ENTRY) {
            match bytes[0] {
                0 => break,
                DELETED => {
                    long_checksum = None;
                    continue;
                }
                _ => {}
            }
            let entry = DirectoryEntry::ref_from_bytes(bytes).ok().context("no entry")?;
            if entry.attr & 0x3F == ATTR_EXT {
                let slot = DirectorySlot::ref_from_bytes(bytes).ok().context("no entry")?;
                if slot.id & LAST_SLOT != 0 {
                    long.clear();
                    long_checksum = Some(slot.alias_checksum);
                }
                long.splice(0..0, slot.units());
                ensure!(long.len() <= 260, "{parent}: a long name is longer than it can be");
                continue;
            }
            let short = ShortName(entry.name);
            let name = match long_checksum.take() {
                Some(checksum) if checksum == short.checksum() => {
                    let end = long.iter().position(|unit| *unit == 0).unwrap_or(long.len());
                    String::from_utf16_lossy(&long[..end])
                }
                _ => short.text(),
            };
            let is_label = entry.attr & ATTR_VOLUME != 0;
            if is_label || name == "." || name == ".." {
                continue;
            }
            let path = if parent.is_empty() { name } else { format!("{parent}/{name}") };
            let high = if self.kind == FatType::Fat32 { entry.starthi.get() } else { 0 };
            let first = usize::from(high) << 16 | usize::from(entry.start.get());
            let size = entry.size.get() as usize;
            if entry.attr & ATTR_DIR != 0 {
                let content = self.chain(first, seen).with_context(|| path.clone())?;
                found.push(FatEntry { path: path.clone(), bytes: None });
                self.directory(&content, &path, depth + 1, seen, found)?;
            } else {
                let content = match size {
                    0 => Vec::new(),
                    _ => self.chain(first, seen).with_context(|| path.clone())?,
                };
                let content = content.get(..size).with_context(|| {
                    format!("{path} has {size} bytes, its clusters only {}", content.len())
                })?;
                found.push(FatEntry { path, bytes: Some(content.to_vec()) });
            }
        }
        Ok(())
    }

    /// All clusters from `first` on. Each cluster of the volume is given out once only, which
    /// bounds both time and memory by the image's size.
    fn chain(&self, first: usize, seen: &mut BTreeSet<usize>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut cluster = first;
        loop {
            ensure!(
                (2..self.clusters + 2).contains(&cluster),
                "cluster {cluster} is outside the volume's {}",
                self.clusters
            );
            ensure!(seen.insert(cluster), "cluster {cluster} is used twice");
            let at = self.clusters_at + (cluster - 2) * self.cluster_bytes;
            bytes.extend(&self.image[at..at + self.cluster_bytes]);
            let (next, end) = match self.kind {
                FatType::Fat16 => (u16_at(self.image, self.fat_at + cluster * 2), 0xFFF8),
                FatType::Fat32 => {
                    (u32_at(self.image, self.fat_at + cluster * 4) & 0x0FFF_FFFF, 0x0FFF_FFF8)
                }
            };
            if next >= end {
                return Ok(bytes);
            }
            cluster = next;
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fat;
    use super::super::tree::Tree;
    use super::*;

    fn image() -> Vec<u8> {
        let mut tree = Tree::new(0);
        tree.file("dir/a long name.text", 0o644, vec![1; 5000]).unwrap();
        tree.file("kernel", 0o644, vec![2; 700]).unwrap();
        let options = fat::Options {
            file_alignment: 512,
            size: 3 << 20,
            reserved_sectors: 1,
            volume_id: 1,
            label: *b"X          ",
        };
        let mut image = Vec::new();
        fat::write(&tree, &options, &mut image).unwrap();
        image
    }

    #[test]
    fn a_file_is_found_whatever_its_case() {
        let image = image();
        let volume = FatVolume::open(&image).unwrap();
        assert_eq!(volume.read("KERNEL").unwrap().unwrap(), vec![2; 700]);
        assert_eq!(volume.read("dir/a long name.text").unwrap().unwrap(), vec![1; 5000]);
        assert_eq!(volume.read("dir").unwrap(), None);
    }

    #[test]
    fn a_chain_in_a_circle_is_refused() {
        let mut image = image();
        // Cluster 4 of the FAT behind one reserved sector: within the file of ten clusters.
        image[SECTOR + 8..SECTOR + 10].copy_from_slice(&3u16.to_le_bytes());
        assert!(FatVolume::open(&image).unwrap().entries().is_err());
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(
            flips in proptest::collection::vec((0usize..40_000, any::<u8>()), 1..20),
            keep in 0usize..(3 << 20),
        ) {
            let mut image = image();
            for (at, bits) in flips {
                image[at % 62] ^= bits & (at as u8);
                image[at] ^= bits;
            }
            for part in [&image[..], &image[..keep]] {
                if let Ok(volume) = FatVolume::open(part) {
                    let total: usize = volume.entries().unwrap_or_default().into_iter()
                        .filter_map(|entry| entry.bytes).map(|bytes| bytes.len()).sum();
                    prop_assert!(total <= part.len());
                }
            }
        }
    }
}
