//! Looking into an ext4, ours or what a device made of it: files by path, and what is in a folder.
//! Read-only and without replaying a journal (Documentation/filesystems/ext4/ of Linux).
//!
//! What it needs are extents and 4 KiB blocks, as our own writer and mke2fs make them. A folder
//! with an index is read like any other: index blocks look like unused entries. Every number is
//! bounded before it is used; nothing is followed more than a few steps.

use std::io;

use anyhow::{Context, Result, bail, ensure};

const BLOCK: u64 = 4096;
const ROOT_INO: u32 = 2;
/// Features that change nothing of what is read here: filetype, needs-recovery, extents, 64-bit,
/// flexible groups (`EXT4_FEATURE_INCOMPAT_…` of fs/ext4/ext4.h).
const KNOWN: u32 = 0x2 | NEEDS_RECOVERY | 0x40 | BITS_64 | 0x200;
const NEEDS_RECOVERY: u32 = 0x4;
const BITS_64: u32 = 0x80;
/// Deepest extent tree (`EXT4_MAX_EXTENT_DEPTH`).
const MAX_DEPTH: u16 = 5;
/// Folders of more bytes are not read.
const MAX_FOLDER: u64 = 4 << 20;

/// Reads bytes from a byte offset of the file system.
type Source<'a> = &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>;

/// An opened file system.
pub struct Volume<'a> {
    source: Source<'a>,
    blocks: u64,
    inodes: u32,
    inodes_per_group: u32,
    inode_size: u64,
    descriptor_size: u64,
    recovery: bool,
}

/// What an inode says.
#[derive(Debug, Clone)]
pub struct Stat {
    /// Type and permissions.
    pub mode: u16,
    /// Bytes.
    pub size: u64,
    map: [u8; 60],
}

impl Stat {
    /// It is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// It is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

impl<'a> Volume<'a> {
    /// Reads the superblock. Fails when it is none of ext4, or of one with features that are not
    /// known here.
    pub fn open(source: Source<'a>) -> Result<Volume<'a>> {
        let mut sb = [0; 1024];
        source(1024, &mut sb).context("its superblock cannot be read")?;
        ensure!(u16_at(&sb, 0x38) == 0xEF53, "there is no ext4 on it");
        ensure!(u32_at(&sb, 0x18) == 2, "its blocks are not 4096 bytes");
        let incompatible = u32_at(&sb, 0x60);
        ensure!(
            incompatible & !KNOWN == 0,
            "it has features that are not known here ({:#x}); mount it to look into it",
            incompatible & !KNOWN
        );
        let wide = incompatible & BITS_64 != 0;
        let volume = Volume {
            source,
            blocks: u64::from(u32_at(&sb, 4))
                | if wide { u64::from(u32_at(&sb, 0x150)) << 32 } else { 0 },
            inodes: u32_at(&sb, 0),
            inodes_per_group: u32_at(&sb, 0x28),
            inode_size: u64::from(u16_at(&sb, 0x58)),
            descriptor_size: if wide { u64::from(u16_at(&sb, 0xFE)) } else { 32 },
            recovery: incompatible & NEEDS_RECOVERY != 0,
        };
        let sound = volume.inodes_per_group > 0
            && (128..=BLOCK).contains(&volume.inode_size)
            && (32..=1024).contains(&volume.descriptor_size);
        ensure!(sound, "its superblock is damaged");
        Ok(volume)
    }

    /// It was not unmounted: what was changed last may be in its journal only.
    pub fn needs_recovery(&self) -> bool {
        self.recovery
    }

    /// What is at an absolute path; links are not followed.
    pub fn stat(&self, path: &str) -> Result<Option<Stat>> {
        let mut here = self.inode(ROOT_INO)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if !here.is_dir() {
                return Ok(None);
            }
            match self.entries(&here)?.into_iter().find(|(entry, _)| entry == name) {
                Some((_, number)) => here = self.inode(number)?,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// The bytes of a file of at most `max` bytes.
    pub fn file(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let Some(stat) = self.stat(path)? else { return Ok(None) };
        ensure!(stat.is_file(), "{path} is no file");
        ensure!(stat.size <= max, "{path} has more than {max} bytes");
        self.content(&stat).with_context(|| path.to_owned()).map(Some)
    }

    fn block(&self, number: u64) -> Result<Vec<u8>> {
        ensure!(number > 0 && number < self.blocks, "a block lies outside the file system");
        let mut bytes = vec![0; BLOCK as usize];
        let at = number.checked_mul(BLOCK).context("a block lies outside the file system")?;
        (self.source)(at, &mut bytes).with_context(|| format!("block {number} cannot be read"))?;
        Ok(bytes)
    }

    fn inode(&self, number: u32) -> Result<Stat> {
        ensure!(number > 0 && number <= self.inodes, "an inode lies outside the file system");
        let (group, index) =
            ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        let at = u64::from(group) * self.descriptor_size;
        let descriptors = self.block(1 + at / BLOCK)?;
        let descriptor = &descriptors[(at % BLOCK) as usize..];
        ensure!(descriptor.len() as u64 >= self.descriptor_size, "its descriptors are damaged");
        let high = if self.descriptor_size > 32 { u32_at(descriptor, 0x28) } else { 0 };
        let table = u64::from(u32_at(descriptor, 8)) | u64::from(high) << 32;
        let at = u64::from(index) * self.inode_size;
        let block = self.block(table.saturating_add(at / BLOCK))?;
        let inode = block.get((at % BLOCK) as usize..).unwrap_or_default();
        ensure!(inode.len() >= 128, "its inodes are damaged");
        let mut map = [0; 60];
        map.copy_from_slice(&inode[0x28..0x64]);
        Ok(Stat {
            mode: u16_at(inode, 0),
            size: u64::from(u32_at(inode, 4)) | u64::from(u32_at(inode, 0x6C)) << 32,
            map,
        })
    }

    /// Every byte of a file, which is as long as its caller allows; holes are zeros.
    fn content(&self, stat: &Stat) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(stat.size)?];
        for (logical, physical, count) in self.extents(stat)? {
            for step in 0..u64::from(count) {
                let Some(start) = (u64::from(logical) + step).checked_mul(BLOCK) else { break };
                let Some(rest) = usize::try_from(start).ok().and_then(|at| bytes.get_mut(at..))
                else {
                    break;
                };
                if rest.is_empty() {
                    break;
                }
                let block = self.block(physical.saturating_add(step))?;
                let length = rest.len().min(block.len());
                rest[..length].copy_from_slice(&block[..length]);
            }
        }
        Ok(bytes)
    }

    /// First block within the file, first block on the disk, and how many.
    fn extents(&self, stat: &Stat) -> Result<Vec<(u32, u64, u16)>> {
        let most = stat.size.div_ceil(BLOCK) + 1;
        let mut found = Vec::new();
        let mut nodes = vec![(stat.map.to_vec(), MAX_DEPTH)];
        let mut looked = 0;
        while let Some((node, depth)) = nodes.pop() {
            looked += 1;
            ensure!(
                looked <= most.saturating_add(u64::from(MAX_DEPTH)),
                "a file's extents are damaged"
            );
            ensure!(node.len() >= 12 && u16_at(&node, 0) == 0xF30A, "a file has no extents");
            let (entries, level) = (usize::from(u16_at(&node, 2)), u16_at(&node, 6));
            ensure!(level <= depth, "a file's extents are damaged");
            for entry in node[12..].chunks_exact(12).take(entries) {
                if level == 0 {
                    let length = u16_at(entry, 4);
                    let physical = u64::from(u32_at(entry, 8)) | u64::from(u16_at(entry, 6)) << 32;
                    // Above 32768 it is not written yet and reads as zeros.
                    if length <= 32768 {
                        found.push((u32_at(entry, 0), physical, length));
                    }
                } else {
                    let child = u64::from(u32_at(entry, 4)) | u64::from(u16_at(entry, 8)) << 32;
                    nodes.push((self.block(child)?, level - 1));
                }
            }
            ensure!(found.len() as u64 <= most, "a file's extents are damaged");
        }
        Ok(found)
    }

    fn entries(&self, folder: &Stat) -> Result<Vec<(String, u32)>> {
        ensure!(folder.size <= MAX_FOLDER, "a folder is larger than {MAX_FOLDER} bytes");
        let bytes = self.content(folder)?;
        let mut found = Vec::new();
        for block in bytes.chunks(BLOCK as usize) {
            let mut at = 0;
            while at + 8 <= block.len() {
                let entry = &block[at..];
                let length = usize::from(u16_at(entry, 4));
                if length < 8 || length > entry.len() {
                    bail!("a folder's entry is damaged");
                }
                let name = entry
                    .get(8..8 + usize::from(entry[6]))
                    .context("a folder's name is damaged")?;
                if u32_at(entry, 0) != 0 && !name.is_empty() {
                    found.push((String::from_utf8_lossy(name).into_owned(), u32_at(entry, 0)));
                }
                at += length;
            }
        }
        Ok(found)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use super::super::ext4::{self, Options};
    use super::super::external_tools;
    use super::super::tree::Tree;
    use super::*;
    use proptest::prelude::*;

    fn image() -> Vec<u8> {
        let options =
            Options { size: 16 << 20, uuid: [7; 16], label: "data".into(), time: 9, quotas: true };
        let mut tree = Tree::new(0);
        tree.file("a/b/small", 0o640, b"hello".as_slice()).unwrap();
        tree.file("a/large", 0o600, vec![5; 1_000_001]).unwrap();
        let mut image = vec![0; 16 << 20];
        for (at, bytes) in ext4::blocks(&options, &tree).unwrap() {
            image[at as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        image
    }

    fn read(image: &[u8], at: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let found = image.get(start..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    #[test]
    fn what_our_writer_wrote_is_read() {
        let image = image();
        let source = |at, out: &mut [u8]| read(&image, at, out);
        let volume = Volume::open(&source).unwrap();
        assert_eq!(volume.file("/a/b/small", 5).unwrap().unwrap(), b"hello");
        assert!(volume.file("/a/large", 2 << 20).unwrap().unwrap() == vec![5; 1_000_001]);
        assert_eq!(volume.stat("a/b/small").unwrap().unwrap().mode & 0o7777, 0o640);
        let entries = volume.entries(&volume.stat("/a").unwrap().unwrap()).unwrap();
        let names: Vec<_> = entries.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [".", "..", "b", "large"]);
        assert!(volume.file("/a/none", 5).unwrap().is_none());
        assert!(volume.file("/a/large/x", 5).unwrap().is_none());
        assert!(volume.file("/a/large", 5).is_err() && volume.file("/a", 5).is_err());
        assert!(!volume.needs_recovery());
    }

    /// What the kernel's own tools make of it: folders of many blocks, files in many pieces.
    #[test]
    fn what_mke2fs_and_debugfs_wrote_is_read() {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("image");
        std::fs::File::create(&path).unwrap().set_len(300 << 20).unwrap();
        let files = work.path().join("files");
        std::fs::create_dir_all(files.join("many")).unwrap();
        for number in 0..600 {
            std::fs::write(files.join(format!("many/{number:0100}")), number.to_string()).unwrap();
        }
        let holes = std::fs::File::create(files.join("holes")).unwrap();
        for piece in 0..40 {
            holes.write_all_at(&[piece + 1; 4096], u64::from(piece) * 12_288).unwrap();
        }
        let folder = |path: &Path| path.as_os_str().to_owned();
        let args =
            ["-q".into(), "-F".into(), "-t".into(), "ext4".into(), "-b".into(), "4096".into()];
        let more =
            ["-O".into(), "^metadata_csum_seed,^orphan_file".into(), "-d".into(), folder(&files)];
        let all: Vec<_> = args.into_iter().chain(more).chain([folder(&path)]).collect();
        external_tools::run("mke2fs", "e2fsprogs", &all);
        let file = std::fs::File::open(&path).unwrap();
        let source = |at, out: &mut [u8]| file.read_exact_at(out, at);
        let volume = Volume::open(&source).unwrap();
        let many = volume.stat("/many").unwrap().unwrap();
        assert_eq!(volume.entries(&many).unwrap().len(), 602);
        let name = format!("/many/{:0100}", 431);
        assert_eq!(volume.file(&name, 100).unwrap().unwrap(), b"431");
        let expected = std::fs::read(files.join("holes")).unwrap();
        assert!(volume.file("/holes", 1 << 20).unwrap().unwrap() == expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damage_never_panics(changes in proptest::collection::vec((0usize..6_000_000, any::<u8>()), 1..400)) {
            let mut image = image();
            // Most of it hits what is in use: the first blocks, the inodes, the folders.
            for (at, byte) in changes {
                let at = if at % 2 == 0 { at % 8192 } else if at % 3 == 0 { 35 * 4096 + at % 4096 } else { at };
                image[at] = byte;
            }
            image[1024 + 0x38..1024 + 0x3A].copy_from_slice(&[0x53, 0xEF]);
            let source = |at, out: &mut [u8]| read(&image, at, out);
            if let Ok(volume) = Volume::open(&source) {
                let _ = (volume.file("/a/b/small", 100), volume.file("/a/large", 1 << 21), volume.stat("/a/b/c"));
            }
        }
    }
}
