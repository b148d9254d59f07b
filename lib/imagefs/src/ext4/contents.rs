//! Where the files of a tree go: their inodes behind the reserved ones, each one's blocks in a row
//! behind the journal.

use std::collections::BTreeMap;
use std::io;

use super::block::{BLOCK, refuse};
use crate::ext4_fs::DIR_TAIL;
use crate::tree::{Kind, Node, Tree};

/// A name in a directory.
#[derive(Debug)]
pub struct Entry<'a> {
    pub inode: u32,
    pub name: &'a str,
    pub is_dir: bool,
}

/// A file or directory with its place.
#[derive(Debug)]
pub struct Placed<'a> {
    pub inode: u32,
    /// The inode of the directory it is in.
    pub parent: u32,
    pub node: &'a Node,
    /// Its first block, if it has any.
    pub first: u32,
    /// How many it has.
    pub blocks: u32,
    /// What is in it, if it is a directory.
    pub entries: Vec<Entry<'a>>,
}

/// A tree with every place decided.
#[derive(Debug)]
pub struct Contents<'a> {
    /// What is in the root.
    pub root: Vec<Entry<'a>>,
    /// Everything else; the inodes follow each other.
    pub placed: Vec<Placed<'a>>,
    /// Blocks of all of them.
    pub blocks: u32,
}

impl<'a> Contents<'a> {
    /// Places the nodes of `tree` from this inode and this block on. `root` is the root's inode.
    ///
    /// Fails on what is neither file nor directory, and on a directory whose names do not fit into
    /// one block.
    pub fn place(tree: &'a Tree, root: u32, inode: u32, block: u32) -> io::Result<Contents<'a>> {
        let mut inodes = BTreeMap::from([("", root)]);
        let mut contents = Contents { root: Vec::new(), placed: Vec::new(), blocks: 0 };
        for ((path, node), number) in tree.iter().skip(1).zip(inode..) {
            let parent = path.rfind('/').map_or("", |slash| &path[..slash]);
            let bytes = match &node.kind {
                Kind::Dir => BLOCK as u64,
                Kind::File(content) => content.len(),
                _ => return refuse(format!("{path} is neither a file nor a directory")),
            };
            let blocks = u32::try_from(bytes.div_ceil(BLOCK as u64))
                .or_else(|_| refuse(format!("{path} is too large")))?;
            inodes.insert(path, number);
            contents.placed.push(Placed {
                inode: number,
                parent: inodes.get(parent).copied().unwrap_or(root),
                node,
                first: block.saturating_add(contents.blocks),
                blocks,
                entries: Vec::new(),
            });
            contents.blocks = contents.blocks.saturating_add(blocks);
        }
        contents.root = entries(tree, "", &inodes)?;
        for ((path, _), placed) in tree.iter().skip(1).zip(&mut contents.placed) {
            if placed.node.is_dir() {
                placed.entries = entries(tree, path, &inodes)?;
            }
        }
        Ok(contents)
    }

    /// Directories among them, the root not counted.
    pub fn directories(&self) -> u32 {
        self.placed.iter().filter(|placed| placed.node.is_dir()).count() as u32
    }
}

impl Placed<'_> {
    /// Names that lead to it: of a directory its own, its `.`, and each child's `..`.
    pub fn links(&self) -> u16 {
        match self.node.is_dir() {
            true => links(&self.entries),
            false => 1,
        }
    }

    /// Bytes of it.
    pub fn size(&self) -> u64 {
        match &self.node.kind {
            Kind::File(content) => content.len(),
            _ => u64::from(self.blocks) * BLOCK as u64,
        }
    }
}

/// The links of a directory with these entries.
pub fn links(entries: &[Entry<'_>]) -> u16 {
    2 + entries.iter().filter(|entry| entry.is_dir).count() as u16
}

fn entries<'a>(
    tree: &'a Tree,
    path: &str,
    inodes: &BTreeMap<&str, u32>,
) -> io::Result<Vec<Entry<'a>>> {
    let below = if path.is_empty() { String::new() } else { format!("{path}/") };
    let entries: Vec<_> = tree
        .children(path)
        .filter_map(|(name, node)| {
            let inode = *inodes.get(format!("{below}{name}").as_str())?;
            Some(Entry { inode, name, is_dir: node.is_dir() })
        })
        .collect();
    // `.`, `..` and, in the root, `lost+found` come before.
    let own: usize = 12 + 12 + 20;
    let length: usize = entries.iter().map(|entry| entry_length(entry.name)).sum();
    if own + length > BLOCK - DIR_TAIL {
        return refuse(format!("/{path} has more names than fit into one block; use fewer"));
    }
    Ok(entries)
}

/// Bytes that a directory needs for a name.
pub fn entry_length(name: &str) -> usize {
    (8 + name.len()).next_multiple_of(4)
}
