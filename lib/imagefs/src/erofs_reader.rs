//! Looking into an uncompressed EROFS, as [`super::erofs`] writes it (its first lines have the
//! layout): files by path, and the names in a folder. Every number is bounded before it is used.

use anyhow::{Context, Result, bail, ensure};

const BLOCK: u64 = 4096;
const SUPER: usize = 1024;
const MAGIC: u32 = 0xE0F5_E1E2;
const DIRENT: usize = 12;
/// From the start to the superblock's end.
pub const HEAD: usize = SUPER + 128;
/// Folders and files of more bytes are not read.
const MAX_SIZE: u64 = 4 << 20;
const FT_DIR: u8 = 2;

/// An opened image.
pub struct Volume<'a> {
    image: &'a [u8],
    root: u64,
}

/// Bytes of the file system that begins with these [`HEAD`] bytes.
pub fn size(head: &[u8]) -> Result<u64> {
    let sb = head.get(SUPER..HEAD).context("it is too short for a superblock")?;
    ensure!(u32_at(sb, 0) == MAGIC && sb[12] == 12, "there is no EROFS of 4 KiB blocks on it");
    Ok(u64::from(u32_at(sb, 36)) * BLOCK)
}

struct Inode {
    at: u64,
    mode: u16,
    size: u64,
    block: u32,
    inline: bool,
    header: u64,
}

impl<'a> Volume<'a> {
    /// Fails when there is no EROFS of 4 KiB blocks without features that are not known here.
    pub fn open(image: &'a [u8]) -> Result<Volume<'a>> {
        let sb = image.get(SUPER..SUPER + 128).context("it is too short for a superblock")?;
        ensure!(u32_at(sb, 0) == MAGIC, "there is no EROFS on it");
        ensure!(
            sb[12] == 12 && u32_at(sb, 40) == 0 && u32_at(sb, 80) == 0,
            "it is not of our making"
        );
        Ok(Volume { image, root: u64::from(u16_at(sb, 14)) })
    }

    /// The bytes of the regular file at an absolute path; `None` if there is none. Links are not
    /// followed.
    pub fn file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(inode) = self.find(path)? else { return Ok(None) };
        if inode.mode & 0o170_000 != 0o100_000 {
            return Ok(None);
        }
        self.content(&inode).with_context(|| path.to_owned()).map(Some)
    }

    /// The names in a folder that are no folders themselves; empty if it is not there.
    pub fn names(&self, path: &str) -> Result<Vec<String>> {
        let Some(inode) = self.find(path)?.filter(Inode::is_dir) else { return Ok(Vec::new()) };
        let entries = self.entries(&inode)?.into_iter();
        Ok(entries.filter(|(_, _, kind)| *kind != FT_DIR).map(|(name, ..)| name).collect())
    }

    fn find(&self, path: &str) -> Result<Option<Inode>> {
        let mut here = self.inode(self.root)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if !here.is_dir() {
                return Ok(None);
            }
            match self.entries(&here)?.into_iter().find(|(entry, ..)| entry == name) {
                Some((_, nid, _)) => here = self.inode(nid)?,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    fn bytes(&self, at: u64, length: u64) -> Result<&'a [u8]> {
        let range = at..at.saturating_add(length);
        let found = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        found
            .and_then(|(start, end)| self.image.get(start..end))
            .context("something lies outside the file system")
    }

    fn inode(&self, nid: u64) -> Result<Inode> {
        let at = nid.saturating_mul(32);
        let compact = self.bytes(at, 32)?;
        let format = u16_at(compact, 0);
        let is_extended = format & 1 != 0;
        let inline = match format >> 1 & 7 {
            0 => false,
            2 => true,
            _ => bail!("it has compressed files"),
        };
        ensure!(u16_at(compact, 2) == 0, "it has extended attributes");
        let (size, header) = match is_extended {
            true => (u64::from(u32_at(compact, 8)) | u64::from(u32_at(compact, 12)) << 32, 64),
            false => (u64::from(u32_at(compact, 8)), 32),
        };
        Ok(Inode { at, mode: u16_at(compact, 4), size, block: u32_at(compact, 16), inline, header })
    }

    fn content(&self, inode: &Inode) -> Result<Vec<u8>> {
        ensure!(inode.size <= MAX_SIZE, "it has more than {MAX_SIZE} bytes");
        // With an inline end, only whole blocks lie elsewhere.
        let (blocks, end) = match inode.inline {
            true => (inode.size / BLOCK * BLOCK, inode.size % BLOCK),
            false => (inode.size, 0),
        };
        let mut bytes = match blocks {
            // Nothing lies elsewhere, and the address may be none at all.
            0 => Vec::new(),
            _ => self.bytes(u64::from(inode.block) * BLOCK, blocks)?.to_vec(),
        };
        bytes.extend_from_slice(self.bytes(inode.at.saturating_add(inode.header), end)?);
        Ok(bytes)
    }

    /// Name, inode and kind of everything in a folder.
    fn entries(&self, folder: &Inode) -> Result<Vec<(String, u64, u8)>> {
        let bytes = self.content(folder)?;
        let mut found = Vec::new();
        for block in bytes.chunks(BLOCK as usize) {
            let damaged = "a folder is damaged";
            let name_at = |entry: &[u8]| usize::from(u16_at(entry, 8));
            let names = block.get(..DIRENT).map(name_at).context(damaged)?;
            ensure!(names >= DIRENT && names % DIRENT == 0 && names <= block.len(), damaged);
            let entries: Vec<&[u8]> = block[..names].chunks_exact(DIRENT).collect();
            for (index, entry) in entries.iter().enumerate() {
                let end = entries.get(index + 1).map_or(block.len(), |next| name_at(next));
                let name = block.get(name_at(entry)..end).context(damaged)?;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                let nid = u64::from(u32_at(entry, 0)) | u64::from(u32_at(entry, 4)) << 32;
                found.push((String::from_utf8_lossy(name).into_owned(), nid, entry[10]));
            }
        }
        Ok(found)
    }
}

impl Inode {
    fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
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
    use super::super::erofs;
    use super::super::tree::{Kind, Node, Tree};
    use super::*;
    use proptest::prelude::*;

    /// Files of every layout: inline, in blocks, with a wide owner; a folder of many blocks.
    fn image() -> Vec<u8> {
        let mut tree = Tree::usr_merged(7);
        tree.file("etc/small", 0o644, b"hello".as_slice()).unwrap();
        tree.file("etc/large", 0o644, vec![5; 100_001]).unwrap();
        let wide = Node::new(Kind::File(b"wide".as_slice().into()), 0o600).owned_by(100_000, 0);
        tree.insert("etc/wide", wide).unwrap();
        for number in 0..500 {
            tree.file(&format!("usr/bin/program-{number:030}"), 0o755, b"x".as_slice()).unwrap();
        }
        let mut image = Vec::new();
        erofs::write(&tree, [1; 16], &mut image).unwrap();
        image
    }

    #[test]
    fn what_our_writer_wrote_is_read() {
        let image = image();
        let volume = Volume::open(&image).unwrap();
        assert_eq!(volume.file("/etc/small").unwrap().unwrap(), b"hello");
        assert_eq!(volume.file("/etc/wide").unwrap().unwrap(), b"wide");
        assert!(volume.file("/etc/large").unwrap().unwrap() == vec![5; 100_001]);
        assert_eq!(volume.names("/usr/bin").unwrap().len(), 500);
        assert!(volume.names("/usr/bin").unwrap().contains(&format!("program-{:030}", 499)));
        assert_eq!(
            volume.names("/").unwrap(),
            ["bin", "lib", "lib64", "sbin"],
            "links, no folders"
        );
        for path in ["/etc/none", "/etc/small/x", "/etc", "/bin", "/none/x"] {
            assert!(volume.file(path).unwrap().is_none(), "{path}");
        }
        assert!(volume.names("/none").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn damage_never_panics(changes in proptest::collection::vec((0usize..60_000, any::<u8>()), 1..300)) {
            let mut image = image();
            for (at, byte) in changes {
                let end = image.len();
                image[at.min(end - 1)] = byte;
            }
            image[SUPER..SUPER + 4].copy_from_slice(&MAGIC.to_le_bytes());
            if let Ok(volume) = Volume::open(&image) {
                let _ = (volume.file("/etc/small"), volume.file("/etc/large"), volume.names("/usr/bin"));
            }
        }
    }
}
