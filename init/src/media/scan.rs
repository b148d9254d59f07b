//! Which removable media are plugged in, from `/sys/class/block`. Nothing of them is read for it.

use std::path::Path;

use formats::layout;

/// Where media are mounted, each in a folder of its own.
pub const FOLDER: &str = layout::RUN_MEDIA;

/// Entries of the class folder that are looked at.
const MAX_ENTRIES: usize = 1024;

/// A partition, or a whole disk without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// The kernel's name, such as `sda1`.
    pub node: String,
    /// Grows with each disk that is plugged in (`diskseq`): tells it from the one before.
    pub generation: u64,
}

impl Medium {
    /// Where it is mounted: a path that no other medium ever had since the boot.
    pub fn folder(&self) -> String {
        [FOLDER, "/", &self.node, "-", &self.generation.to_string()].concat()
    }
}

/// What `/sys` says of a disk or a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    name: String,
    /// The disk it is on; itself for a whole disk.
    disk: String,
    /// On a USB bus, or the kernel says that its medium can be taken out.
    removable: bool,
    sectors: u64,
    generation: u64,
}

/// The removable media there are, apart from `system_disk`, in the order of their names.
pub fn media(class_block: &Path, system_disk: &str) -> Vec<Medium> {
    let Ok(entries) = std::fs::read_dir(class_block) else { return Vec::new() };
    let blocks = entries.take(MAX_ENTRIES).flatten().filter_map(|entry| block(&entry.path()));
    choose(blocks.collect(), system_disk)
}

/// Partitions, and disks that have none; neither of the system's disk, nor of an empty reader.
fn choose(blocks: Vec<Block>, system_disk: &str) -> Vec<Medium> {
    let is_partition = |block: &Block| block.name != block.disk;
    let is_divided =
        |disk: &Block| blocks.iter().any(|other| is_partition(other) && other.disk == disk.name);
    let mut media: Vec<Medium> = blocks
        .iter()
        .filter(|block| block.removable && block.sectors > 0 && block.disk != system_disk)
        .filter(|block| is_partition(block) || !is_divided(block))
        .map(|block| Medium { node: block.name.clone(), generation: block.generation })
        .collect();
    media.sort_by(|a, b| a.node.cmp(&b.node));
    media
}

/// What the entry at `path` says; `None` when it is on its way out.
fn block(path: &Path) -> Option<Block> {
    let name = path.file_name()?.to_str()?.to_string();
    // The class folder links to …/usb2/2-1/…/block/sda/sda1: the parent of a partition is its disk.
    let real = std::fs::canonicalize(path).ok()?;
    let folder = if real.join("partition").exists() { real.parent()? } else { &real };
    let disk = folder.file_name()?.to_str()?.to_string();
    let number = |file: &Path| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let on_usb = real.components().any(|part| {
        let bus = part.as_os_str().to_str().and_then(|part| part.strip_prefix("usb"));
        bus.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    Some(Block {
        name,
        disk,
        removable: on_usb || number(&folder.join("removable")) == Some(1),
        sectors: number(&real.join("size"))?,
        generation: number(&folder.join("diskseq"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A disk with so many partitions, as `/sys` shows it.
    fn disk(root: &Path, bus: &str, name: &str, partitions: u32, removable: &str, sectors: &str) {
        let class = root.join("class");
        std::fs::create_dir_all(&class).unwrap();
        let folder = root.join("devices").join(bus).join("block").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let write = |path: &Path, text: &str| std::fs::write(path, format!("{text}\n")).unwrap();
        write(&folder.join("removable"), removable);
        write(&folder.join("size"), sectors);
        write(&folder.join("diskseq"), "9");
        symlink(&folder, class.join(name)).unwrap();
        for number in 1..=partitions {
            let partition = folder.join(format!("{name}{number}"));
            std::fs::create_dir(&partition).unwrap();
            write(&partition.join("partition"), &number.to_string());
            write(&partition.join("size"), sectors);
            symlink(&partition, class.join(format!("{name}{number}"))).unwrap();
        }
    }

    #[test]
    fn sticks_are_told_from_fixed_disks_and_from_the_system() {
        let root = tempfile::tempdir().unwrap();
        disk(root.path(), "pci0/virtio1", "vda", 2, "0", "100");
        disk(root.path(), "pci0/usb2/2-1/host0", "sda", 2, "0", "100");
        disk(root.path(), "pci0/usb2/2-2/host1", "sdb", 0, "1", "100");
        disk(root.path(), "pci0/usb2/2-3/host2", "sdc", 0, "1", "0");
        disk(root.path(), "pci0/usb2/2-4/host3", "sdd", 1, "1", "100");
        disk(root.path(), "soc/usb-controller/ata1", "sde", 1, "0", "100");
        disk(root.path(), "soc/reader", "sdf", 1, "1", "100");
        let found = media(&root.path().join("class"), "sdd");
        let nodes: Vec<&str> = found.iter().map(|medium| medium.node.as_str()).collect();
        assert_eq!(nodes, ["sda1", "sda2", "sdb", "sdf1"]);
        assert_eq!(found[0].folder(), "/run/media/sda1-9");
    }

    #[test]
    fn one_that_is_pulled_out_meanwhile_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        disk(root.path(), "usb1", "sda", 1, "1", "100");
        std::fs::remove_dir_all(root.path().join("devices/usb1/block/sda/sda1")).unwrap();
        std::fs::remove_file(root.path().join("devices/usb1/block/sda/diskseq")).unwrap();
        assert_eq!(media(&root.path().join("class"), "vda"), []);
        assert_eq!(media(&root.path().join("missing"), "vda"), []);
    }
}
