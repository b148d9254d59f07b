//! `Tree`: the files of one file system, in memory, sorted, with neither clock nor host in it.
//!
//! Paths are relative to the tree's root, with `/` between names and none around them; the root
//! itself is the empty path. One time stamp holds for all nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};

/// Longest file name in bytes: the limit of Linux, EROFS, ext4 and FAT alike.
pub const NAME_MAX: usize = 255;
/// Longest path and longest symlink target in bytes, without a final NUL (Linux' PATH_MAX − 1).
pub const PATH_MAX: usize = 4095;
/// Symlinks followed in one look-up before it counts as a loop, as in Linux.
const LINKS_MAX: usize = 40;

/// What a regular file holds. Copies share the bytes.
#[derive(Clone, Debug)]
pub struct Content(Arc<[u8]>);

impl Content {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content(bytes.into())
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Content(bytes.into())
    }
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File(Content),
    /// A symbolic link to this target.
    Symlink(String),
    /// A character device, major at most 0xFFF, minor at most 0xFFFFF.
    CharDevice {
        /// Driver.
        major: u32,
        /// Device of that driver.
        minor: u32,
    },
}

/// One file system object without its name.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Node {
    /// A node owned by root.
    pub fn new(kind: Kind, mode: u16) -> Node {
        Node { kind, mode, uid: 0, gid: 0 }
    }

    /// The same node with another owner and group.
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Node {
        self.uid = uid;
        self.gid = gid;
        self
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir)
    }

    /// `st_mode`: type and permissions in Linux' encoding.
    pub fn st_mode(&self) -> u16 {
        let kind = match self.kind {
            Kind::Dir => 0o040_000,
            Kind::File(_) => 0o100_000,
            Kind::Symlink(_) => 0o120_000,
            Kind::CharDevice { .. } => 0o020_000,
        };
        kind | self.mode
    }

    fn check(&self, path: &str) -> Result<()> {
        ensure!(self.mode <= 0o7777, "{path}: mode {:o} is not twelve permission bits", self.mode);
        match &self.kind {
            Kind::Symlink(target) => ensure!(
                !target.is_empty() && target.len() <= PATH_MAX && !target.contains('\0'),
                "{path}: a symlink's target needs 1 to {PATH_MAX} bytes without NUL"
            ),
            Kind::CharDevice { major, minor } => ensure!(
                *major <= 0xFFF && *minor <= 0xF_FFFF,
                "{path}: device number {major}:{minor} is out of range"
            ),
            Kind::Dir | Kind::File(_) => {}
        }
        Ok(())
    }
}

/// The files of one file system.
#[derive(Clone, Debug)]
pub struct Tree {
    // A parent's path is a prefix of its children's, so it always sorts before them.
    nodes: BTreeMap<String, Node>,
    mtime: u64,
}

impl Tree {
    /// An empty root directory (0755, root). `mtime` is every node's time, in seconds of the Unix
    /// epoch.
    pub fn new(mtime: u64) -> Tree {
        let root = Node::new(Kind::Dir, 0o755);
        Tree { nodes: BTreeMap::from([(String::new(), root)]), mtime }
    }

    /// A tree with the merged `/usr` of Debian: `bin`, `lib`, `lib64` and `sbin` are symlinks to
    /// the directories of the same name below `usr`.
    pub fn usr_merged(mtime: u64) -> Tree {
        let mut tree = Tree::new(mtime);
        tree.nodes.insert("usr".into(), Node::new(Kind::Dir, 0o755));
        for name in ["bin", "lib", "lib64", "sbin"] {
            let target = format!("usr/{name}");
            tree.nodes.insert(target.clone(), Node::new(Kind::Dir, 0o755));
            tree.nodes.insert(name.into(), Node::new(Kind::Symlink(target), 0o777));
        }
        tree
    }

    /// Every node's time, in seconds of the Unix epoch.
    pub fn mtime(&self) -> u64 {
        self.mtime
    }

    /// Adds a node. Leading `/` and `./` are taken off; missing parents become 0755 directories of
    /// root; symlinks among the parents are followed, so that `lib/x` of a package lands in
    /// `usr/lib/x`. A directory that is there already takes the new one's mode and owner, except
    /// that one reached by a symlink of that name stays as it is. Fails on `..`, NUL, a name over
    /// 255 bytes, a parent that is a file, and a path that is taken.
    pub fn insert(&mut self, path: &str, node: Node) -> Result<()> {
        let path = self.place(path, &node)?;
        match self.nodes.get(&path) {
            None => {}
            Some(there) if there.is_dir() && node.is_dir() => {}
            Some(Node { kind: Kind::Symlink(_), .. }) if node.is_dir() => {
                let target = self.resolve(&path, Last::Followed)?;
                match self.nodes.get(&target) {
                    Some(there) if there.is_dir() => return Ok(()),
                    Some(_) => bail!("{path} is a symlink to {target}, which is no directory"),
                    None => return self.insert(&target, node),
                }
            }
            Some(_) => bail!("{path} is in the tree twice; remove one of the inputs that bring it"),
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Adds a directory of root.
    pub fn dir(&mut self, path: &str, mode: u16) -> Result<()> {
        self.insert(path, Node::new(Kind::Dir, mode))
    }

    /// Adds a regular file of root.
    pub fn file(&mut self, path: &str, mode: u16, content: impl Into<Content>) -> Result<()> {
        self.insert(path, Node::new(Kind::File(content.into()), mode))
    }

    /// Adds a symlink.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.insert(path, Node::new(Kind::Symlink(target.into()), 0o777))
    }

    /// The node at `path`, parents' symlinks followed, its own not; `None` also for a path that no
    /// tree could hold.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(&self.resolve(path, Last::Kept).ok()?)
    }

    /// The node at `path`, all symlinks followed inside the tree.
    pub fn follow(&self, path: &str) -> Option<&Node> {
        self.nodes.get(&self.resolve(path, Last::Followed).ok()?)
    }

    /// All nodes with their paths, each parent before its children; the first is the root, with
    /// an empty path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Names and nodes directly in the directory at the exact path `path`, sorted by path.
    pub fn children(&self, path: &str) -> impl Iterator<Item = (&str, &Node)> {
        let below = if path.is_empty() { String::new() } else { format!("{path}/") };
        let skip = below.len();
        self.nodes
            .range(below.clone()..)
            .take_while(move |(path, _)| path.starts_with(&below))
            .map(move |(path, node)| (&path[skip..], node))
            .filter(|(name, _)| !name.is_empty() && !name.contains('/'))
    }

    /// Number of nodes, the root counted.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Finds where a node goes and makes its parents.
    fn place(&mut self, path: &str, node: &Node) -> Result<String> {
        let path = self.resolve(path, Last::Kept)?;
        node.check(&path)?;
        ensure!(!path.is_empty() || node.is_dir(), "the root of a tree has to be a directory");
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            match self.nodes.get(parent) {
                None => {
                    self.nodes.insert(parent.into(), Node::new(Kind::Dir, 0o755));
                }
                Some(there) => {
                    ensure!(there.is_dir(), "{path}: {parent} is in the tree and no directory")
                }
            }
        }
        Ok(path)
    }

    /// The path without symlinks among its parents, and none at its end if `last` says so. Never
    /// leaves the tree: `..` is refused in `path` itself and stops at the root in a link's target.
    fn resolve(&self, path: &str, last: Last) -> Result<String> {
        ensure!(path.len() <= PATH_MAX, "a path of {} bytes is too long: {path}", path.len());
        for name in path.split('/') {
            ensure!(name != "..", "{path:?} has `..` in it and could leave the tree");
            ensure!(!name.contains('\0'), "{path:?} has a NUL in it");
            ensure!(name.len() <= NAME_MAX, "{path}: names have at most {NAME_MAX} bytes");
        }
        let mut left: Vec<String> = path.split('/').rev().map(String::from).collect();
        let mut done = String::new();
        let mut links = 0;
        while let Some(name) = left.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => done.truncate(done.rfind('/').unwrap_or(0)),
                _ => {
                    let parent = done.len();
                    if parent > 0 {
                        done.push('/');
                    }
                    done.push_str(&name);
                    let at_end = left.iter().all(|name| name.is_empty() || name == ".");
                    if at_end && matches!(last, Last::Kept) {
                        continue;
                    }
                    if let Some(Kind::Symlink(target)) = self.nodes.get(&done).map(|n| &n.kind) {
                        links += 1;
                        ensure!(links <= LINKS_MAX, "{path}: too many symlinks on the way");
                        done.truncate(if target.starts_with('/') { 0 } else { parent });
                        left.extend(target.split('/').rev().map(String::from));
                    }
                }
            }
        }
        ensure!(done.len() <= PATH_MAX, "{path} becomes too long behind symlinks");
        Ok(done)
    }
}

/// What a look-up does with a symlink at the end of the path.
#[derive(Clone, Copy)]
enum Last {
    Kept,
    Followed,
}

#[cfg(test)]
mod tests;
