//! EROFS, uncompressed, 4 KiB blocks (Documentation/filesystems/erofs.rst and
//! fs/erofs/erofs_fs.h of Linux).
//!
//! ```text
//! block 0     1024: superblock; from 1152: inodes
//! ..          inodes; small files, symlinks and small directories directly behind theirs
//! ..          blocks of the larger directories, then of the larger files, in the order of paths
//! ```
//! A file of more than half a block is not packed: its bytes begin at a block's start and stay the
//! same blocks wherever they move, which is what keeps differences between versions small.
//! Files with the same bytes share their blocks.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::crc32c;
use super::tree::{Content, Kind, Node, Tree};

const BLOCK: usize = 4096;
const SUPER_OFFSET: usize = 1024;
const SUPER_SIZE: usize = 128;
const MAGIC: u32 = 0xE0F5_E1E2;
const COMPAT_SB_CHKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
/// Inodes are addressed in slots of this size, counted from the image's start.
const SLOT: usize = 32;
const DIRENT: usize = 12;
const LAYOUT_PLAIN: u16 = 0;
const LAYOUT_INLINE: u16 = 2;
/// Inode and content together: above this a file gets blocks of its own.
const INLINE_FILE_MAX: usize = BLOCK / 2;
/// Metadata blocks looked back at for room; more would only cost time.
const OPEN_BLOCKS: usize = 32;

/// Writes `tree` as an EROFS image and returns its length in bytes, a multiple of 4096. The same
/// tree and `uuid` give the same bytes. Fails if the tree is too large for the format (16 TiB,
/// 2³² inodes), if a file cannot be read, and when `out` fails.
pub fn write(tree: &Tree, uuid: [u8; 16], out: &mut impl Write) -> Result<u64> {
    let mut inodes = collect(tree)?;
    let meta_blocks = place_inodes(&mut inodes)?;
    let (blocks, data) = place_data(&mut inodes, meta_blocks)?;
    fill_directories(&mut inodes)?;

    let mut meta = vec![0; meta_blocks as usize * BLOCK];
    for (index, inode) in inodes.iter().enumerate() {
        inode.write(index, tree.mtime(), &mut meta)?;
    }
    superblock(&mut meta, tree.mtime(), uuid, inodes.len() as u64, blocks);
    out.write_all(&meta)?;

    for index in data {
        let inode = &inodes[index];
        match &inode.body {
            Body::Directory(dir) => out.write_all(&dir.bytes)?,
            Body::File(content) => out.write_all(content.bytes())?,
            Body::Link(target) => out.write_all(target.as_bytes())?,
            Body::Device(_) => {}
        }
        let rest = inode.size.next_multiple_of(BLOCK as u64) - inode.size;
        out.write_all(&[0; BLOCK][..rest as usize])?;
    }
    Ok(u64::from(blocks) * BLOCK as u64)
}

struct Inode<'a> {
    node: &'a Node,
    body: Body<'a>,
    size: u64,
    links: u32,
    /// Byte position in the metadata; a multiple of [`SLOT`].
    position: u64,
    /// First block of the content if it is not inline.
    block: u32,
    inline: bool,
}

enum Body<'a> {
    Directory(Directory<'a>),
    File(&'a Content),
    Link(&'a str),
    Device(u32),
}

struct Directory<'a> {
    /// Name and index of the inode, sorted by bytes, `.` and `..` among them.
    entries: Vec<(&'a str, usize)>,
    bytes: Vec<u8>,
}

/// One inode per node, in the order of the paths: the root is the first.
fn collect(tree: &Tree) -> Result<Vec<Inode<'_>>> {
    ensure!(u32::try_from(tree.count()).is_ok(), "EROFS holds 2^32 inodes at most");
    let mut indices: HashMap<&str, usize> = HashMap::with_capacity(tree.count());
    let mut inodes: Vec<Inode> = Vec::with_capacity(tree.count());
    for (index, (path, node)) in tree.iter().enumerate() {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = *indices.get(parent).unwrap_or(&0);
        if let Some(Inode { body: Body::Directory(dir), links, .. }) = inodes.get_mut(parent) {
            dir.entries.push((name, index));
            *links += u32::from(node.is_dir());
        }
        let (body, size) = match &node.kind {
            Kind::Dir => {
                indices.insert(path, index);
                let entries = vec![(".", index), ("..", parent)];
                (Body::Directory(Directory { entries, bytes: Vec::new() }), 0)
            }
            Kind::File(content) => (Body::File(content), content.len()),
            Kind::Symlink(target) => (Body::Link(target), target.len() as u64),
            Kind::CharDevice { major, minor } => {
                // new_encode_dev() of include/linux/kdev_t.h
                let number = (minor & 0xFF) | (major << 8) | ((minor & !0xFF) << 12);
                (Body::Device(number), 0)
            }
        };
        let links = if node.is_dir() { 2 } else { 1 };
        inodes.push(Inode { node, body, size, links, position: 0, block: 0, inline: false });
    }
    for inode in &mut inodes {
        if let Body::Directory(dir) = &mut inode.body {
            dir.entries.sort_unstable();
            inode.size = directory_size(&dir.entries);
        }
    }
    Ok(inodes)
}

impl Inode<'_> {
    /// The 32-byte form holds 16-bit owners and link counts, a 32-bit size and the image's time.
    fn is_compact(&self) -> bool {
        let small = |value: u32| u16::try_from(value).is_ok();
        small(self.node.uid)
            && small(self.node.gid)
            && small(self.links)
            && u32::try_from(self.size).is_ok()
    }

    fn header_size(&self) -> usize {
        if self.is_compact() { 32 } else { 64 }
    }

    /// Bytes it takes in the metadata if its content goes inline, or `None` if that cannot be.
    fn inline_size(&self) -> Option<usize> {
        let size = usize::try_from(self.size).ok()?.checked_add(self.header_size())?;
        let limit = match self.body {
            Body::File(_) => INLINE_FILE_MAX,
            Body::Directory(_) | Body::Link(_) => BLOCK,
            Body::Device(_) => 0,
        };
        (self.size > 0 && size <= limit).then_some(size)
    }

    fn nid(&self) -> u64 {
        self.position / SLOT as u64
    }

    fn write(&self, index: usize, mtime: u64, meta: &mut [u8]) -> Result<()> {
        let layout = if self.inline { LAYOUT_INLINE } else { LAYOUT_PLAIN };
        let union = match self.body {
            Body::Device(number) => number,
            _ => self.block,
        };
        let ino = u32::try_from(index + 1)?;
        let mut header = Vec::with_capacity(64);
        let compact = self.is_compact();
        header.extend((layout << 1 | u16::from(!compact)).to_le_bytes());
        header.extend([0; 2]); // no extended attributes
        header.extend(self.node.st_mode().to_le_bytes());
        if compact {
            header.extend((self.links as u16).to_le_bytes());
            header.extend((self.size as u32).to_le_bytes());
            header.extend([0; 4]);
            header.extend(union.to_le_bytes());
            header.extend(ino.to_le_bytes());
            header.extend((self.node.uid as u16).to_le_bytes());
            header.extend((self.node.gid as u16).to_le_bytes());
            header.extend([0; 4]);
        } else {
            header.extend([0; 2]);
            header.extend(self.size.to_le_bytes());
            header.extend(union.to_le_bytes());
            header.extend(ino.to_le_bytes());
            header.extend(self.node.uid.to_le_bytes());
            header.extend(self.node.gid.to_le_bytes());
            header.extend(mtime.to_le_bytes());
            header.extend([0; 4]);
            header.extend(self.links.to_le_bytes());
            header.extend([0; 16]);
        }
        if self.inline {
            match &self.body {
                Body::Directory(dir) => header.extend(&dir.bytes),
                Body::File(content) => header.extend(content.bytes()),
                Body::Link(target) => header.extend(target.as_bytes()),
                Body::Device(_) => {}
            }
        }
        let at = usize::try_from(self.position)?;
        meta[at..at + header.len()].copy_from_slice(&header);
        Ok(())
    }
}

/// Gives each inode its place in the metadata and returns the number of metadata blocks. An inode
/// and its inline content never cross a block's end (the kernel reads them as one piece).
fn place_inodes(inodes: &mut [Inode]) -> Result<u32> {
    let mut used: Vec<usize> = vec![SUPER_OFFSET + SUPER_SIZE];
    for inode in inodes {
        let inline = inode.inline_size();
        inode.inline = inline.is_some();
        let need = inline.unwrap_or(inode.header_size()).next_multiple_of(SLOT);
        let first = used.len().saturating_sub(OPEN_BLOCKS);
        let open = (first..used.len()).find(|block| used[*block] + need <= BLOCK);
        let block = open.unwrap_or_else(|| {
            used.push(0);
            used.len() - 1
        });
        inode.position = (block * BLOCK + used[block]) as u64;
        used[block] += need;
    }
    u32::try_from(used.len()).context("too many files for an EROFS image")
}

/// Gives every content that is not inline its blocks, directories first. Returns the number of
/// blocks of the image, and the inodes to write in their order.
fn place_data(inodes: &mut [Inode], meta_blocks: u32) -> Result<(u32, Vec<usize>)> {
    let same = same_content(inodes)?;
    let mut next = u64::from(meta_blocks);
    let mut order = Vec::new();
    let is_dir = |inode: &Inode| matches!(inode.body, Body::Directory(_));
    let (dirs, rest): (Vec<usize>, Vec<usize>) =
        (0..inodes.len()).partition(|index| is_dir(&inodes[*index]));
    for index in dirs.into_iter().chain(rest) {
        if inodes[index].inline || inodes[index].size == 0 {
            continue;
        }
        if let Some(first) = same.get(&index) {
            inodes[index].block = inodes[*first].block;
            continue;
        }
        inodes[index].block = u32::try_from(next).context("the files need more than 16 TiB")?;
        next += inodes[index].size.div_ceil(BLOCK as u64);
        order.push(index);
    }
    Ok((u32::try_from(next).context("the files need more than 16 TiB")?, order))
}

/// For each file with blocks whose bytes an earlier one has too, that earlier one.
fn same_content(inodes: &[Inode]) -> Result<HashMap<usize, usize>> {
    let mut by_size: BTreeMap<u64, Vec<(usize, &Content)>> = BTreeMap::new();
    for (index, inode) in inodes.iter().enumerate() {
        match inode.body {
            Body::File(content) if !inode.inline && inode.size > 0 => {
                by_size.entry(inode.size).or_default().push((index, content));
            }
            _ => {}
        }
    }
    let mut same = HashMap::new();
    for candidates in by_size.values().filter(|candidates| candidates.len() > 1) {
        let mut first: HashMap<[u8; 32], usize> = HashMap::new();
        for (index, content) in candidates {
            let hash: [u8; 32] = Sha256::digest(content.bytes()).into();
            if let Some(earlier) = first.get(&hash) {
                same.insert(*index, *earlier);
            } else {
                first.insert(hash, *index);
            }
        }
    }
    Ok(same)
}

/// Splits sorted entries into directory blocks: as many as fit, each with 12 bytes and its name.
fn directory_blocks<'a, 'b>(
    entries: &'b [(&'a str, usize)],
) -> impl Iterator<Item = (&'b [(&'a str, usize)], usize)> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut count = 0;
        for (name, _) in rest {
            if bytes + DIRENT + name.len() > BLOCK {
                break;
            }
            bytes += DIRENT + name.len();
            count += 1;
        }
        let (block, left) = rest.split_at(count);
        rest = left;
        (count > 0).then_some((block, bytes))
    })
}

/// All blocks but the last count in full.
fn directory_size(entries: &[(&str, usize)]) -> u64 {
    let sizes: Vec<usize> = directory_blocks(entries).map(|(_, bytes)| bytes).collect();
    let (last, full) = sizes.split_last().map_or((0, 0), |(last, full)| (*last, full.len()));
    (full * BLOCK + last) as u64
}

/// Writes the directories' bytes, now that every inode has its number.
fn fill_directories(inodes: &mut [Inode]) -> Result<()> {
    let targets: Vec<(u64, u8)> =
        inodes.iter().map(|inode| (inode.nid(), file_type(inode.node))).collect();
    for inode in inodes {
        let size = usize::try_from(inode.size)?;
        let Body::Directory(dir) = &mut inode.body else { continue };
        let mut bytes = Vec::with_capacity(size.next_multiple_of(BLOCK));
        for (entries, _) in directory_blocks(&dir.entries) {
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            let mut name_at = entries.len() * DIRENT;
            for (name, index) in entries {
                let (nid, kind) = targets[*index];
                bytes.extend(nid.to_le_bytes());
                bytes.extend((name_at as u16).to_le_bytes());
                bytes.extend([kind, 0]);
                name_at += name.len();
            }
            for (name, _) in entries {
                bytes.extend(name.as_bytes());
            }
        }
        dir.bytes = bytes;
    }
    Ok(())
}

/// FT_* of include/linux/fs_types.h.
fn file_type(node: &Node) -> u8 {
    match node.kind {
        Kind::File(_) => 1,
        Kind::Dir => 2,
        Kind::CharDevice { .. } => 3,
        Kind::Symlink(_) => 7,
    }
}

fn superblock(meta: &mut [u8], mtime: u64, uuid: [u8; 16], inodes: u64, blocks: u32) {
    let root_nid = ((SUPER_OFFSET + SUPER_SIZE) / SLOT) as u16;
    let mut put = |at: usize, bytes: &[u8]| {
        meta[SUPER_OFFSET + at..SUPER_OFFSET + at + bytes.len()].copy_from_slice(bytes)
    };
    put(0, &MAGIC.to_le_bytes());
    put(8, &(COMPAT_SB_CHKSUM | COMPAT_MTIME).to_le_bytes());
    put(12, &[BLOCK.trailing_zeros() as u8]);
    put(14, &root_nid.to_le_bytes());
    put(16, &inodes.to_le_bytes());
    put(24, &mtime.to_le_bytes());
    put(36, &blocks.to_le_bytes());
    put(48, &uuid);
    // The checksum covers the rest of the block with its own field zero (erofs_superblock_csum).
    let checksum = crc32c::update(!0, &meta[SUPER_OFFSET..BLOCK]);
    meta[SUPER_OFFSET + 4..SUPER_OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
mod tests;
