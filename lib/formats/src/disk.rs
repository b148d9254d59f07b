//! Finding the partitions of the device by their labels, through sysfs. Which of several disks is
//! the device's own is for [`crate::origin`] to say.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::io as io_error;
use crate::gpt::Guid;
use crate::layout::LABELS;
use crate::medium::{self, Access, Medium, Partitions};
use crate::{Error, Result};

/// The longest `uevent` file worth reading.
const MAX_UEVENT: usize = 4096;

/// A disk that carries all of Ferrite's partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// Kernel name of the whole disk, such as `vda` or `mmcblk0`.
    pub name: String,
    /// Kernel name of each partition, such as `vda2`, by label.
    pub partitions: BTreeMap<String, String>,
    /// The unique GUIDs of these partitions. None from a kernel that does not tell them (`PARTUUID=`
    /// in `uevent`, since Linux 6.12).
    pub guids: Vec<Guid>,
}

impl Disk {
    /// The kernel name of the partition with this label.
    pub fn partition(&self, label: &str) -> Result<&str> {
        self.partitions
            .get(label)
            .map(String::as_str)
            .ok_or_else(|| Error::new(["no partition `", label, "`"].concat()))
    }
}

/// The disks below `/sys/class/block` (or a stand-in) that have every label of [`LABELS`] by now, in
/// the order of their names. Nothing of the disks themselves is read.
pub fn complete(class_block: &Path) -> Result<Vec<Disk>> {
    let mut disks: BTreeMap<String, Disk> = BTreeMap::new();
    for entry in std::fs::read_dir(class_block).map_err(|e| io_error(class_block, &e))? {
        let path = entry.map_err(|e| io_error(class_block, &e))?.path();
        let Some(partition) = partition(&path) else {
            continue;
        };
        // The class folder links to …/block/vda/vda2: the parent folder is the disk.
        let Ok(real) = std::fs::canonicalize(&path) else {
            continue;
        };
        let parent = real.parent().and_then(Path::file_name);
        if let Some(name) = parent.and_then(|name| name.to_str()) {
            let disk = disks.entry(name.to_string()).or_default();
            disk.name = name.to_string();
            disk.partitions.insert(partition.label, partition.name);
            disk.guids.extend(partition.guid);
        }
    }
    let has_all = |disk: &Disk| LABELS.iter().all(|label| disk.partitions.contains_key(*label));
    Ok(disks.into_values().filter(has_all).collect())
}

struct Partition {
    label: String,
    name: String,
    guid: Option<Guid>,
}

/// A partition with one of our labels, from its `uevent` file.
fn partition(path: &Path) -> Option<Partition> {
    let uevent = std::fs::read(path.join("uevent")).ok()?;
    if uevent.len() > MAX_UEVENT {
        return None;
    }
    let text = std::str::from_utf8(&uevent).ok()?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let label = value("PARTNAME=").filter(|label| LABELS.contains(label))?.to_string();
    let name = path.file_name()?.to_str()?.to_string();
    Some(Partition { label, name, guid: value("PARTUUID=").and_then(Guid::parse) })
}

/// The partitions of one disk by the kernel's own names, before anything is linked to them.
#[derive(Debug, Clone)]
pub struct DiskNodes {
    dev: PathBuf,
    disk: Disk,
}

impl DiskNodes {
    /// Those of `disk`, whose nodes lie in the folder `dev`.
    pub fn new(dev: &Path, disk: &Disk) -> DiskNodes {
        DiskNodes { dev: dev.to_owned(), disk: disk.clone() }
    }
}

impl Partitions for DiskNodes {
    fn open(&self, label: &str, access: Access) -> io::Result<Box<dyn Medium>> {
        medium::open(&self.path(label), access)
    }

    fn path(&self, label: &str) -> PathBuf {
        self.dev.join(self.disk.partition(label).unwrap_or(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const GUID: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

    fn disk(root: &Path, name: &str, labels: &[&str], guid: Option<&str>) {
        let class = root.join("class");
        std::fs::create_dir_all(&class).unwrap();
        for (i, label) in labels.iter().enumerate() {
            let partition = format!("{name}p{}", i + 1);
            let real = root.join("devices").join(name).join(&partition);
            std::fs::create_dir_all(&real).unwrap();
            let guid = guid.map_or(String::new(), |guid| format!("PARTUUID={guid}\n"));
            std::fs::write(
                real.join("uevent"),
                format!("DEVTYPE=partition\nPARTN={}\nPARTNAME={label}\n{guid}", i + 1),
            )
            .unwrap();
            symlink(&real, class.join(&partition)).unwrap();
        }
    }

    #[test]
    fn finds_the_disks_with_every_label() {
        let root = tempfile::tempdir().unwrap();
        let class = root.path().join("class");
        disk(root.path(), "sda", &["data", "boot-a", "somebody's"], None);
        assert_eq!(complete(&class).unwrap(), []);
        disk(root.path(), "mmcblk0", &LABELS, Some(GUID));
        let found = complete(&class).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "mmcblk0");
        assert_eq!(found[0].partition("root-b").unwrap(), "mmcblk0p5");
        assert_eq!(found[0].guids, [Guid::parse(GUID).unwrap(); 6]);
        disk(root.path(), "sdb", &LABELS, None);
        let names: Vec<_> = complete(&class).unwrap().into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["mmcblk0", "sdb"]);
        assert!(complete(&class).unwrap()[1].guids.is_empty());
    }

    #[test]
    fn a_disks_partitions_are_opened_by_the_kernels_names() {
        let dev = tempfile::tempdir().unwrap();
        std::fs::write(dev.path().join("sdb1"), [7; 512]).unwrap();
        let partitions = [("firmware".into(), "sdb1".into())].into();
        let nodes = DiskNodes::new(dev.path(), &Disk { partitions, ..Disk::default() });
        let mut byte = [0];
        nodes.open("firmware", Access::Read).unwrap().read_at(3, &mut byte).unwrap();
        assert_eq!(byte, [7]);
        assert!(nodes.open("boot-a", Access::Read).is_err());
    }
}
