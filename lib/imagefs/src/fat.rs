//! FAT16 and FAT32 images (Microsoft's "FAT: General Overview of On-Disk Format" 1.03).
//!
//! ```text
//! reserved sectors    boot sector first; on FAT32 also FSInfo (1) and their copies (6, 7)
//! two FATs
//! root directory      FAT16 only; on FAT32 it is the first cluster chain
//! clusters            each file and directory in one piece, in the order of the paths
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::{Context, Result, bail, ensure};

use zerocopy::{FromZeros, IntoBytes, transmute};

use super::fat_fs::{
    ATTR_ARCH, ATTR_DIR, ATTR_VOLUME, BOOT_SIGN, BootSector16, BootSector32, BootSectorHead,
    DirectoryEntry, EXTENDED_SIGNATURE, FSINFO_SIG1, FSINFO_SIG2, FsInfo, VolumeInfo,
};
use super::fat_name::{self, ENTRY, ShortName};
use super::tree::{Content, Kind, Tree};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
const FATS: usize = 2;
const MEDIA: u8 = 0xF8;
/// FAT16's root directory has a fixed number of entries; 512 is what every reader knows.
const ROOT_ENTRIES: usize = 512;
/// Where FAT32 has FSInfo, and the copy of the boot sector.
const INFO_SECTOR: usize = 1;
const BACKUP_SECTOR: usize = 6;
/// 1980-01-01, the first day FAT can say.
const DATE: u16 = 1 << 5 | 1;
/// Fewest clusters of each type; the number of clusters alone decides which type it is.
pub(super) const FAT16_CLUSTERS: usize = 4085;
pub(super) const FAT32_CLUSTERS: usize = 65_525;
/// Readers count clusters in ways that differ by a few; stay off the limits, as the document asks.
const MARGIN: usize = 16;

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FatType {
    /// 16-bit entries.
    Fat16,
    /// 32-bit entries.
    Fat32,
}

/// What an image is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of the image; a multiple of 512. Below 512 MiB it becomes FAT16, else FAT32.
    pub size: u64,
    /// Sectors before the first FAT, the boot sector counted; at least 1, on FAT32 at least 8.
    pub reserved_sectors: u16,
    /// Bytes: each file begins at a multiple of this in the volume, and nothing else lies before
    /// the next multiple behind it, as exactly as clusters allow. 512 for no gaps.
    pub file_alignment: usize,
    /// Serial number of the volume.
    pub volume_id: u32,
    /// Label in the boot sector and the root directory, padded with spaces: capital letters,
    /// digits, `_` and `-`.
    pub label: [u8; 11],
}

/// Where things are in an image, in sectors and clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    kind: FatType,
    sectors: usize,
    reserved: usize,
    fat_sectors: usize,
    root_sectors: usize,
    cluster_sectors: usize,
    clusters: usize,
}

/// Writes an image with the directories and files of `tree`; their modes and owners are lost, and
/// their times are 1980-01-01. Returns the bytes of all files. Fails if the size is none a FAT file
/// system can have, if the files do not fit, on names that FAT or an ASCII-only reader cannot hold
/// or that differ only in case, on symlinks and devices, and when `out` fails.
pub fn write(tree: &Tree, options: &Options, out: &mut impl Write) -> Result<u64> {
    let geometry = Geometry::choose(options)?;
    let mut volume = Volume::collect(tree, options)?;
    let used = volume.place(&geometry, options.file_alignment)?;

    let mut reserved = vec![0; geometry.reserved * SECTOR];
    boot_sectors(&geometry, options, used, &mut reserved);
    out.write_all(&reserved)?;
    let fat = volume.fat(&geometry);
    for _ in 0..FATS {
        out.write_all(&fat)?;
    }
    let mut written = (geometry.reserved + FATS * geometry.fat_sectors) * SECTOR;
    if geometry.kind == FatType::Fat16 {
        let root = volume.directory(0, options);
        let room = geometry.root_sectors * SECTOR;
        ensure!(
            root.len() <= room,
            "the root of a FAT16 volume has {ROOT_ENTRIES} entries, {} are needed; \
             put files into directories",
            root.len() / ENTRY
        );
        pad(out, &root, room)?;
        written += room;
    }
    for index in 0..volume.nodes.len() {
        let node = &volume.nodes[index];
        let room = node.clusters * geometry.cluster_bytes();
        if node.clusters == 0 {
            continue;
        }
        let gap = geometry.offset(node.first) - written;
        pad(out, &[], gap)?;
        written += gap;
        match node.content {
            Some(content) => {
                out.write_all(content.bytes())?;
                pad(out, &[], room - content.len() as usize)?;
            }
            None => pad(out, &volume.directory(index, options), room)?,
        }
        written += room;
    }
    let mut left = geometry.sectors * SECTOR - written;
    while left > 0 {
        let piece = left.min(1 << 20);
        pad(out, &[], piece)?;
        left -= piece;
    }
    Ok(volume.nodes.iter().filter_map(|node| node.content).map(Content::len).sum())
}

fn pad(out: &mut impl Write, bytes: &[u8], length: usize) -> Result<()> {
    out.write_all(bytes)?;
    out.write_all(&vec![0; length - bytes.len()])?;
    Ok(())
}

impl Geometry {
    fn choose(options: &Options) -> Result<Geometry> {
        let size = options.size;
        ensure!(
            size.is_multiple_of(SECTOR as u64),
            "a FAT image of {size} bytes is not whole sectors"
        );
        let sectors = u32::try_from(size / SECTOR as u64).with_context(|| {
            format!("a FAT volume cannot have {size} bytes; 2 TiB is the limit")
        })?;
        // Cluster sizes by volume size, in KiB, as in the document's two tables.
        let kib = sectors / 2;
        let (kind, cluster_sectors) = match kib {
            0..=8_400 => (FatType::Fat16, 1),
            8_401..=32_680 => (FatType::Fat16, 2),
            32_681..=131_072 => (FatType::Fat16, 4),
            131_073..=262_144 => (FatType::Fat16, 8),
            262_145..=524_287 => (FatType::Fat16, 16),
            524_288..=8_388_608 => (FatType::Fat32, 8),
            8_388_609..=16_777_216 => (FatType::Fat32, 16),
            16_777_217..=33_554_432 => (FatType::Fat32, 32),
            33_554_433.. => (FatType::Fat32, 64),
        };
        let least = if kind == FatType::Fat16 { 1 } else { 8 };
        ensure!(
            options.reserved_sectors >= least,
            "{kind:?} needs at least {least} reserved sectors, {} were asked for",
            options.reserved_sectors
        );
        let geometry = Geometry::lay_out(kind, sectors as usize, options, cluster_sectors)
            .with_context(|| format!("{size} bytes are too small for a FAT file system"))?;
        let enough = match kind {
            FatType::Fat16 => FAT16_CLUSTERS + MARGIN..FAT32_CLUSTERS - MARGIN,
            FatType::Fat32 => FAT32_CLUSTERS + MARGIN..0x0FFF_FFF5,
        };
        ensure!(
            enough.contains(&geometry.clusters),
            "{size} bytes make {} clusters, which is no {kind:?}; the smallest FAT image has 3 MiB",
            geometry.clusters
        );
        Ok(geometry)
    }

    /// `None` if nothing is left for clusters.
    fn lay_out(
        kind: FatType,
        sectors: usize,
        options: &Options,
        cluster_sectors: usize,
    ) -> Option<Geometry> {
        let reserved = usize::from(options.reserved_sectors);
        let (root_sectors, entry) = match kind {
            FatType::Fat16 => (ROOT_ENTRIES * ENTRY / SECTOR, 2),
            FatType::Fat32 => (0, 4),
        };
        let room = sectors.checked_sub(reserved + root_sectors)?;
        // A FAT sector describes this many sectors of clusters; rounding up can only leave a FAT
        // with a few entries too many.
        let described = SECTOR / entry * cluster_sectors;
        let fat_sectors = (room + 2 * cluster_sectors).div_ceil(described + FATS);
        let clusters = room.checked_sub(FATS * fat_sectors)? / cluster_sectors;
        Some(Geometry {
            kind,
            sectors,
            reserved,
            fat_sectors,
            root_sectors,
            cluster_sectors,
            clusters,
        })
    }

    /// Where a cluster lies in the volume.
    fn offset(&self, cluster: usize) -> usize {
        let before = self.reserved + FATS * self.fat_sectors + self.root_sectors;
        before * SECTOR + (cluster - 2) * self.cluster_bytes()
    }

    fn cluster_bytes(&self) -> usize {
        self.cluster_sectors * SECTOR
    }
}

/// A directory or file of the volume.
struct FatNode<'a> {
    /// Name in its directory; empty for the root.
    name: &'a str,
    short: ShortName,
    parent: usize,
    content: Option<&'a Content>,
    children: Vec<usize>,
    first: usize,
    clusters: usize,
}

struct Volume<'a> {
    /// The root first, then in the order of paths.
    nodes: Vec<FatNode<'a>>,
    labelled: bool,
}

impl<'a> Volume<'a> {
    fn collect(tree: &'a Tree, options: &Options) -> Result<Volume<'a>> {
        let label_byte = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b' ');
        ensure!(
            options.label.iter().all(label_byte),
            "a FAT label is made of A to Z, 0 to 9, `_`, `-` and spaces at its end, not {:?}",
            String::from_utf8_lossy(&options.label)
        );
        let mut indices: BTreeMap<&str, usize> = BTreeMap::new();
        let mut nodes: Vec<FatNode> = Vec::new();
        let mut taken: Vec<BTreeSet<ShortName>> = Vec::new();
        let mut folded: BTreeSet<(usize, String)> = BTreeSet::new();
        for (index, (path, node)) in tree.iter().enumerate() {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = *indices.get(parent).unwrap_or(&0);
            let content = match &node.kind {
                Kind::Dir => None,
                Kind::File(content) => Some(content),
                _ => bail!("{path}: FAT holds files and directories only"),
            };
            if let Some(content) = content {
                ensure!(
                    u32::try_from(content.len()).is_ok(),
                    "{path}: FAT holds files below 4 GiB only"
                );
            } else {
                indices.insert(path, index);
            }
            taken.push(BTreeSet::new());
            let mut short = ShortName::ROOT;
            if index > 0 {
                fat_name::check(name).with_context(|| path.to_string())?;
                ensure!(
                    folded.insert((parent, name.to_ascii_uppercase())),
                    "{path}: another name in its directory differs only in case"
                );
                short = ShortName::of(name, &taken[parent])
                    .with_context(|| format!("{path}: too many names like this one"))?;
                taken[parent].insert(short);
                nodes[parent].children.push(index);
            }
            nodes.push(FatNode {
                name,
                short,
                parent,
                content,
                children: Vec::new(),
                first: 0,
                clusters: 0,
            });
        }
        Ok(Volume { nodes, labelled: options.label != [b' '; 11] })
    }

    /// Gives each node its clusters; returns how many are used.
    fn place(&mut self, geometry: &Geometry, alignment: usize) -> Result<usize> {
        let mut next = 2u64;
        let aligned = |next: u64| {
            let at = geometry.offset(next as usize);
            next + ((at.next_multiple_of(alignment.max(SECTOR)) - at) as u64)
                .div_ceil(geometry.cluster_bytes() as u64)
        };
        for index in 0..self.nodes.len() {
            let bytes = match self.nodes[index].content {
                Some(content) => content.len(),
                None if index == 0 && geometry.kind == FatType::Fat16 => 0,
                None => (self.entries(index) * ENTRY).max(1) as u64,
            };
            let clusters = bytes.div_ceil(geometry.cluster_bytes() as u64);
            let is_file = self.nodes[index].content.is_some() && clusters > 0;
            if is_file {
                next = aligned(next);
            }
            let node = &mut self.nodes[index];
            if clusters > 0 {
                node.first = next as usize;
            }
            node.clusters = clusters as usize;
            next += clusters;
            if is_file {
                next = aligned(next);
            }
        }
        let used = next - 2;
        ensure!(
            used <= geometry.clusters as u64,
            "the files need {} bytes of the FAT volume, it has {}; make the partition larger",
            used * geometry.cluster_bytes() as u64,
            geometry.clusters * geometry.cluster_bytes()
        );
        Ok(self.nodes.iter().map(|node| node.clusters).sum())
    }

    fn entries(&self, index: usize) -> usize {
        let node = &self.nodes[index];
        let own = if index == 0 { usize::from(self.labelled) } else { 2 };
        let of = |child: &usize| {
            1 + fat_name::long_entries(self.nodes[*child].name, self.nodes[*child].short)
        };
        own + node.children.iter().map(of).sum::<usize>()
    }

    fn fat(&self, geometry: &Geometry) -> Vec<u8> {
        let (end, width) = match geometry.kind {
            FatType::Fat16 => (0xFFFF, 2),
            FatType::Fat32 => (0x0FFF_FFFF, 4),
        };
        let mut fat = vec![0; geometry.fat_sectors * SECTOR];
        let mut put = |cluster: usize, value: u32| {
            fat[cluster * width..][..width].copy_from_slice(&value.to_le_bytes()[..width])
        };
        // Entry 0 repeats the media byte; entry 1 says that the volume was closed cleanly.
        put(0, end & !0xFF | u32::from(MEDIA));
        put(1, end);
        for node in self.nodes.iter().filter(|node| node.clusters > 0) {
            let last = node.first + node.clusters - 1;
            for cluster in node.first..last {
                put(cluster, cluster as u32 + 1);
            }
            put(last, end);
        }
        fat
    }

    fn directory(&self, index: usize, options: &Options) -> Vec<u8> {
        let node = &self.nodes[index];
        let mut bytes = Vec::new();
        if index == 0 {
            if self.labelled {
                bytes.extend(entry(&options.label, ATTR_VOLUME, 0, 0));
            }
        } else {
            bytes.extend(entry(b".          ", ATTR_DIR, node.first, 0));
            // `..` of a directory in the root says 0, on FAT32 too.
            let parent = if node.parent == 0 { 0 } else { self.nodes[node.parent].first };
            bytes.extend(entry(b"..         ", ATTR_DIR, parent, 0));
        }
        for child in node.children.iter().map(|child| &self.nodes[*child]) {
            bytes.extend(fat_name::long_name(child.name, child.short));
            let (kind, size) = match child.content {
                Some(content) => (ATTR_ARCH, content.len() as u32),
                None => (ATTR_DIR, 0),
            };
            bytes.extend(entry(&child.short.0, kind, child.first, size));
        }
        bytes
    }
}

fn entry(name: &[u8; 11], attr: u8, first: usize, size: u32) -> [u8; ENTRY] {
    let mut entry = DirectoryEntry::new_zeroed();
    entry.name = *name;
    entry.attr = attr;
    for date in [&mut entry.cdate, &mut entry.adate, &mut entry.date] {
        *date = DATE.into();
    }
    entry.starthi = ((first >> 16) as u16).into();
    entry.start = (first as u16).into();
    entry.size = size.into();
    transmute!(entry)
}

/// Fills the reserved sectors: the boot sector, on FAT32 also FSInfo and the copies of both.
fn boot_sectors(geometry: &Geometry, options: &Options, used: usize, reserved: &mut [u8]) {
    let mut head = boot_sector_head(geometry, options);
    let boot: [u8; SECTOR] = match geometry.kind {
        FatType::Fat16 => {
            head.dir_entries = (ROOT_ENTRIES as u16).into();
            head.fat_length = (geometry.fat_sectors as u16).into();
            let mut boot = BootSector16::new_zeroed();
            boot.head = head;
            boot.volume = volume_info(options, b"FAT16   ");
            boot.boot_sign = BOOT_SIGN;
            transmute!(boot)
        }
        FatType::Fat32 => {
            let mut boot = BootSector32::new_zeroed();
            boot.head = head;
            boot.length = (geometry.fat_sectors as u32).into();
            boot.root_cluster = 2.into();
            boot.info_sector = (INFO_SECTOR as u16).into();
            boot.backup_boot = (BACKUP_SECTOR as u16).into();
            boot.volume = volume_info(options, b"FAT32   ");
            boot.boot_sign = BOOT_SIGN;
            transmute!(boot)
        }
    };
    let mut put = |sector: usize, bytes: &[u8]| {
        reserved[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(bytes);
    };
    put(0, &boot);
    if geometry.kind == FatType::Fat32 {
        let mut info = FsInfo::new_zeroed();
        info.signature1 = FSINFO_SIG1;
        info.signature2 = FSINFO_SIG2;
        info.free_clusters = ((geometry.clusters - used) as u32).into();
        info.next_cluster = ((used + 1) as u32).into();
        info.boot_sign = BOOT_SIGN;
        put(INFO_SECTOR, info.as_bytes());
        put(BACKUP_SECTOR, &boot);
        put(BACKUP_SECTOR + INFO_SECTOR, info.as_bytes());
    }
}

fn boot_sector_head(geometry: &Geometry, options: &Options) -> BootSectorHead {
    let mut head = BootSectorHead::new_zeroed();
    // A jump to itself: nothing boots from this sector.
    head.jump = [0xEB, 0xFE, 0x90];
    head.system_id = *b"FERRITE ";
    head.sector_size = (SECTOR as u16).into();
    head.sec_per_clus = geometry.cluster_sectors as u8;
    head.reserved = options.reserved_sectors.into();
    head.fats = FATS as u8;
    head.media = MEDIA;
    // Of no use, but readers refuse zeros.
    head.secs_track = 63.into();
    head.heads = 255.into();
    match u16::try_from(geometry.sectors) {
        Ok(few) if geometry.kind == FatType::Fat16 => head.sectors = few.into(),
        _ => head.total_sect = (geometry.sectors as u32).into(),
    }
    head
}

fn volume_info(options: &Options, fs_type: &[u8; 8]) -> VolumeInfo {
    let unlabelled = options.label == [b' '; 11];
    VolumeInfo {
        drive_number: 0x80,
        state: 0,
        signature: EXTENDED_SIGNATURE,
        vol_id: options.volume_id.into(),
        vol_label: if unlabelled { *b"NO NAME    " } else { options.label },
        fs_type: *fs_type,
    }
}

#[cfg(test)]
mod tests;
