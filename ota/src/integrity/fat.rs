//! Reading the files of a boot partition: FAT12, FAT16 or FAT32 with long names, read-only.
//!
//! What is read may have decayed in any byte, so every number is checked before it is used, every
//! chain is as short as its file, and what does not fit together is an error. Resource: Microsoft,
//! "FAT: General Overview of On-Disk Format", 1.03.

use std::io::{self, ErrorKind};

/// Reads bytes of the volume from an offset.
type Read<'a> = &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>;

const SECTOR: u64 = 512;
/// Bytes of an entry of a directory.
const ENTRY: usize = 32;
/// The longest directory that is read, in bytes: what 65536 entries take.
const MAX_DIRECTORY: u64 = 2 << 20;
/// Attribute bits of a volume's label and of a directory; all four lowest: part of a long name.
const LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG: u8 = 0x0F;
/// Where the thirteen UTF-16 units of a part of a long name lie in its entry.
const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// How wide an entry of the file allocation table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

/// An open volume.
pub struct Volume<'a> {
    read: Read<'a>,
    kind: Kind,
    fat_at: u64,
    root_at: u64,
    root_bytes: u64,
    root_cluster: u32,
    clusters_at: u64,
    cluster_bytes: u64,
    clusters: u32,
}

/// A file's clusters, in order, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    first: u32,
    /// Bytes.
    pub size: u64,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("no sound FAT volume: {what}"))
}

fn u16_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

impl<'a> Volume<'a> {
    /// Reads the boot sector of a volume that has at most `size` bytes.
    pub fn open(size: u64, read: Read<'a>) -> io::Result<Volume<'a>> {
        let mut boot = [0; SECTOR as usize];
        read(0, &mut boot)?;
        let per_cluster = boot[13];
        if boot[510..] != [0x55, 0xAA] || u64::from(u16_at(&boot, 11)) != SECTOR {
            return Err(damaged("no boot sector"));
        }
        if !per_cluster.is_power_of_two() {
            return Err(damaged("an odd size of its clusters"));
        }
        let either = |short: u32, long: u32| u64::from(if short > 0 { short } else { long });
        let sectors = either(u16_at(&boot, 19), u32_at(&boot, 32));
        let fat_sectors = either(u16_at(&boot, 22), u32_at(&boot, 36));
        let (reserved, fats) = (u64::from(u16_at(&boot, 14)), u64::from(boot[16]));
        let root_bytes = u64::from(u16_at(&boot, 17)) * ENTRY as u64;
        let before = reserved + fats * fat_sectors + root_bytes.div_ceil(SECTOR);
        let clusters = sectors.checked_sub(before).map(|rest| rest / u64::from(per_cluster));
        let clusters = clusters.filter(|clusters| (1..0x0FFF_FFF5).contains(clusters));
        let clusters = clusters.ok_or_else(|| damaged("no clusters"))? as u32;
        let (kind, bits) = match clusters {
            0..4085 => (Kind::Fat12, 12),
            4085..65525 => (Kind::Fat16, 16),
            _ => (Kind::Fat32, 32),
        };
        let fits = (u64::from(clusters) + 2) * bits <= fat_sectors * SECTOR * 8;
        if reserved == 0 || fats == 0 || !fits || sectors * SECTOR > size {
            return Err(damaged("its sizes contradict each other"));
        }
        Ok(Volume {
            read,
            kind,
            fat_at: reserved * SECTOR,
            root_at: before * SECTOR - root_bytes.next_multiple_of(SECTOR),
            root_bytes,
            root_cluster: u32_at(&boot, 44),
            clusters_at: before * SECTOR,
            cluster_bytes: u64::from(per_cluster) * SECTOR,
            clusters,
        })
    }

    /// The file at `path`, whose parts are joined by `/`; upper and lower case are alike.
    pub fn find(&self, path: &str) -> io::Result<Option<File>> {
        let mut entries = self.root()?;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let Some((file, is_directory)) = look_up(&entries, part)? else { return Ok(None) };
            match (parts.peek(), is_directory) {
                (None, false) => return Ok(Some(file)),
                (Some(_), true) => entries = self.directory(file.first)?,
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Hands all bytes of a file to `take`, a cluster at a time.
    pub fn read(&self, file: File, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut left = file.size;
        let mut cluster = file.first;
        let mut buffer = vec![0; self.cluster_bytes as usize];
        while left > 0 {
            self.cluster(cluster, &mut buffer)?;
            let length = left.min(self.cluster_bytes);
            take(&buffer[..length as usize]);
            left -= length;
            if left > 0 {
                cluster = self.next(cluster)?.ok_or_else(|| damaged("a file that ends early"))?;
            }
        }
        Ok(())
    }

    fn root(&self) -> io::Result<Vec<u8>> {
        if self.kind == Kind::Fat32 {
            return self.directory(self.root_cluster);
        }
        let mut bytes = vec![0; self.root_bytes as usize];
        (self.read)(self.root_at, &mut bytes)?;
        Ok(bytes)
    }

    fn directory(&self, first: u32) -> io::Result<Vec<u8>> {
        let (mut bytes, mut next) = (Vec::new(), Some(first));
        while let Some(cluster) = next {
            if bytes.len() as u64 >= MAX_DIRECTORY {
                return Err(damaged("an endless directory"));
            }
            let start = bytes.len();
            bytes.resize(start + self.cluster_bytes as usize, 0);
            self.cluster(cluster, &mut bytes[start..])?;
            next = self.next(cluster)?;
        }
        Ok(bytes)
    }

    fn cluster(&self, cluster: u32, buffer: &mut [u8]) -> io::Result<()> {
        let number = cluster.checked_sub(2).filter(|number| *number < self.clusters);
        let number = number.ok_or_else(|| damaged("a cluster that is not there"))?;
        (self.read)(self.clusters_at + u64::from(number) * self.cluster_bytes, buffer)
    }

    /// The cluster behind this one; `None` at the end of its chain.
    fn next(&self, cluster: u32) -> io::Result<Option<u32>> {
        let number = u64::from(cluster);
        let mut entry = [0; 4];
        let (next, end) = match self.kind {
            Kind::Fat12 => {
                (self.read)(self.fat_at + number * 3 / 2, &mut entry[..2])?;
                let pair = u16_at(&entry, 0);
                (if cluster.is_multiple_of(2) { pair & 0xFFF } else { pair >> 4 }, 0xFF8)
            }
            Kind::Fat16 => {
                (self.read)(self.fat_at + number * 2, &mut entry[..2])?;
                (u16_at(&entry, 0), 0xFFF8)
            }
            Kind::Fat32 => {
                (self.read)(self.fat_at + number * 4, &mut entry)?;
                (u32_at(&entry, 0) & 0x0FFF_FFFF, 0x0FFF_FFF8)
            }
        };
        Ok((next < end).then_some(next))
    }
}

/// The entry of this name, and whether it is a directory.
fn look_up(entries: &[u8], wanted: &str) -> io::Result<Option<(File, bool)>> {
    let mut long: Vec<u16> = Vec::new();
    for entry in entries.chunks_exact(ENTRY) {
        match entry[0] {
            0 => break,
            0xE5 => {
                long.clear();
                continue;
            }
            _ => {}
        }
        if entry[11] & 0x3F == LONG {
            // The last part of the name stands first and says so.
            if entry[0] & 0x40 != 0 {
                long.clear();
            }
            if long.len() > 20 * UNITS.len() {
                return Err(damaged("an endless name"));
            }
            long.splice(0..0, UNITS.map(|at| u16_at(entry, at) as u16));
            continue;
        }
        let units = long.iter().copied().take_while(|unit| *unit != 0);
        let name = match long.is_empty() {
            true => short_name(entry),
            false => char::decode_utf16(units).map(|c| c.unwrap_or('\u{FFFD}')).collect(),
        };
        long.clear();
        if entry[11] & LABEL == 0 && name.eq_ignore_ascii_case(wanted) {
            let first = u16_at(entry, 20) << 16 | u16_at(entry, 26);
            let file = File { first, size: u64::from(u32_at(entry, 28)) };
            return Ok(Some((file, entry[11] & DIRECTORY != 0)));
        }
    }
    Ok(None)
}

fn short_name(entry: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches(' ').to_owned();
    match text(&entry[8..11]) {
        end if end.is_empty() => text(&entry[..8]),
        end => format!("{}.{end}", text(&entry[..8])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    /// A volume that mkfs.fat and mtools made, with these files.
    fn volume(kilobytes: u64, bits: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let run = |command: &mut Command| {
            let output = command.env("MTOOLS_SKIP_CHECK", "1").output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        std::fs::File::create(&image).unwrap().set_len(kilobytes << 10).unwrap();
        let mut mkfs = Command::new("/sbin/mkfs.fat");
        run(mkfs.args(["-F", bits, "-s", "1", "-n", "BOOT-A"]).arg(&image));
        for (name, bytes) in files {
            let file = dir.path().join("file");
            std::fs::write(&file, bytes).unwrap();
            if let Some((folder, _)) = name.split_once('/') {
                let _ =
                    Command::new("mmd").arg("-i").arg(&image).arg(format!("::{folder}")).output();
            }
            run(Command::new("mcopy").arg("-i").arg(&image).arg(&file).arg(format!("::{name}")));
        }
        std::fs::read(image).unwrap()
    }

    fn content(image: &[u8], name: &str) -> io::Result<Option<Vec<u8>>> {
        let read = |at: u64, buffer: &mut [u8]| -> io::Result<()> {
            let at = usize::try_from(at).map_err(|_| ErrorKind::UnexpectedEof)?;
            let end = at.checked_add(buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(image.get(at..end).ok_or(ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        let volume = Volume::open(image.len() as u64, &read)?;
        let Some(file) = volume.find(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        volume.read(file, &mut |part| bytes.extend_from_slice(part))?;
        Ok(Some(bytes))
    }

    #[test]
    #[ignore = "needs dosfstools and mtools: `just unit`"]
    fn files_of_each_kind_of_volume_come_out_whole() {
        let long: Vec<u8> = (0..30_000u32).map(|n| (n % 253) as u8).collect();
        let files: &[(&str, &[u8])] = &[
            ("kernel", &long),
            ("a device tree with a long name.dtb", &long[..700]),
            ("overlays/map.dtb", &long[..512]),
            ("empty", b""),
        ];
        for (kilobytes, bits) in [(1024, "12"), (8192, "16"), (40_960, "32")] {
            let image = volume(kilobytes, bits, files);
            for (name, bytes) in files {
                assert_eq!(content(&image, name).unwrap().unwrap(), *bytes, "{name} on FAT{bits}");
                let upper = name.to_uppercase();
                assert_eq!(content(&image, &upper).unwrap().unwrap(), *bytes, "{upper}");
            }
            for name in ["initrd", "overlays", "kernel/x", "BOOT-A", ""] {
                assert_eq!(content(&image, name).unwrap(), None, "{name:?}");
            }
        }
    }

    #[test]
    #[ignore = "needs dosfstools and mtools: `just unit`"]
    fn what_is_no_volume_is_an_error() {
        assert!(content(&[0; 4096], "kernel").is_err());
        assert!(content(&[0xA5; 4096], "kernel").is_err());
        assert!(content(&[], "kernel").is_err());
        let image = volume(1024, "12", &[("kernel", &[7; 3000])]);
        assert!(content(&image[..image.len() / 2], "kernel").is_err(), "cut off");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        #[ignore = "needs dosfstools and mtools: `just unit`"]
        fn damage_is_an_error_or_other_bytes_and_never_more(
            flips in proptest::collection::vec((0usize..60_000, any::<u8>()), 1..20)
        ) {
            let mut image = volume(1024, "12", &[("kernel", &[7; 3000]), ("d/x", &[8; 100])]);
            for (at, bits) in flips {
                image[at] ^= bits;
            }
            for name in ["kernel", "d/x"] {
                let _ = content(&image, name);
            }
        }
    }
}
