//! `newc` cpio archives, as the kernel unpacks them into the initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::Write;

use anyhow::{Context, Result};

use super::tree::{Kind, Node, Tree};

const TRAILER: &str = "TRAILER!!!";

/// Writes `tree` as an uncompressed archive and returns its length in bytes. The root itself is
/// left out: the kernel has one already. Inode numbers count from 1 in the order of the paths.
/// Fails on a file of 4 GiB or more, on one that cannot be read, and when `out` fails.
pub fn write(tree: &Tree, out: &mut impl Write) -> Result<u64> {
    let mut archive = Archive { out, length: 0 };
    let mtime = u32::try_from(tree.mtime()).context("cpio holds times until 2106 only")?;
    for (index, (path, node)) in tree.iter().enumerate().skip(1) {
        let links = match node.kind {
            Kind::Dir => 2 + tree.children(path).filter(|(_, child)| child.is_dir()).count(),
            _ => 1,
        };
        archive.header(path, u32::try_from(index)?, u32::try_from(links)?, mtime, node)?;
        match &node.kind {
            Kind::File(content) => {
                archive.out.write_all(content.bytes())?;
                archive.length += content.len();
            }
            Kind::Symlink(target) => archive.bytes(target.as_bytes())?,
            Kind::Dir | Kind::CharDevice { .. } => {}
        }
        archive.pad()?;
    }
    // The kernel and GNU cpio stop at this name whatever the fields say; they are zero elsewhere.
    archive.fields([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], TRAILER)?;
    Ok(archive.length)
}

struct Archive<'a, W: Write> {
    out: &'a mut W,
    length: u64,
}

impl<W: Write> Archive<'_, W> {
    fn header(&mut self, path: &str, ino: u32, links: u32, mtime: u32, node: &Node) -> Result<()> {
        let size = match &node.kind {
            Kind::File(content) => u32::try_from(content.len())
                .with_context(|| format!("{path}: cpio holds files below 4 GiB only"))?,
            Kind::Symlink(target) => u32::try_from(target.len())?,
            Kind::Dir | Kind::CharDevice { .. } => 0,
        };
        let (major, minor) = match node.kind {
            Kind::CharDevice { major, minor } => (major, minor),
            _ => (0, 0),
        };
        let mode = u32::from(node.st_mode());
        self.fields([ino, mode, node.uid, node.gid, links, mtime, size, 0, 0, major, minor], path)
    }

    fn fields(&mut self, fields: [u32; 11], name: &str) -> Result<()> {
        let mut header = String::from("070701");
        let name_size = u32::try_from(name.len() + 1)?;
        for field in fields.into_iter().chain([name_size, 0]) {
            header.push_str(&format!("{field:08X}"));
        }
        self.bytes(header.as_bytes())?;
        self.bytes(name.as_bytes())?;
        self.bytes(&[0])?;
        self.pad()
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> Result<()> {
        let rest = (self.length.next_multiple_of(4) - self.length) as usize;
        self.bytes(&[0; 4][..rest])
    }
}

#[cfg(test)]
mod tests {
    use super::super::external_tools;
    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::usr_merged(0);
        tree.file("init", 0o755, &b"\x7fELF"[..]).unwrap();
        tree.file("etc/empty", 0o600, &b""[..]).unwrap();
        tree.file("etc/five", 0o640, &b"12345"[..]).unwrap();
        tree.file(&format!("etc/{}", "n".repeat(255)), 0o644, vec![7; 100_001]).unwrap();
        tree.symlink("etc/link", "five").unwrap();
        tree
    }

    #[test]
    #[ignore = "needs cpio: `just unit`"]
    fn gnu_cpio_unpacks_the_same_tree() {
        let tree = sample();
        let work = tempfile::tempdir().unwrap();
        let archive = work.path().join("a.cpio");
        let mut bytes = Vec::new();
        assert_eq!(write(&tree, &mut bytes).unwrap(), bytes.len() as u64);
        std::fs::write(&archive, &bytes).unwrap();
        let to = work.path().join("out");
        std::fs::create_dir(&to).unwrap();
        let args = ["-idm", "--quiet", "--no-absolute-filenames", "-D"];
        external_tools::run_from("cpio", "cpio", &args.map(Into::into), Some(&to), &archive);
        external_tools::assert_same(&tree, &to);
    }

    #[test]
    #[ignore = "needs cpio: `just unit`"]
    fn device_nodes_are_listed_with_their_numbers() {
        let mut tree = Tree::new(0);
        let console = Node::new(Kind::CharDevice { major: 5, minor: 1 }, 0o600);
        tree.insert("dev/console", console).unwrap();
        let work = tempfile::tempdir().unwrap();
        let archive = work.path().join("a.cpio");
        write(&tree, &mut std::fs::File::create(&archive).unwrap()).unwrap();
        let args = ["-itv", "--quiet"].map(Into::into);
        let list = external_tools::run_from("cpio", "cpio", &args, None, &archive);
        let console = list.lines().find(|line| line.ends_with("dev/console")).unwrap();
        assert!(console.starts_with("crw-------"), "{console}");
        assert!(console.contains("5,   1"), "{console}");
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        write(&sample(), &mut one).unwrap();
        write(&sample(), &mut two).unwrap();
        assert_eq!(one, two);
    }
}
