//! Finding the partitions of the device by their labels, through sysfs.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::io as io_error;
use crate::layout::LABELS;
use crate::{Error, Result};

/// The longest `uevent` file worth reading.
const MAX_UEVENT: usize = 4096;

/// The disk that carries all of Ferrite's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Kernel name of the whole disk, such as `vda` or `mmcblk0`.
    pub name: String,
    /// Kernel name of each partition, such as `vda2`, by label.
    pub partitions: BTreeMap<String, String>,
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

/// Looks through `/sys/class/block` (or a stand-in) for the one disk that has every label of
/// [`LABELS`].
///
/// `Ok(None)`: not there yet. Fails when two disks have them, which no rule can decide.
pub fn find(class_block: &Path) -> Result<Option<Disk>> {
    let mut disks: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for entry in std::fs::read_dir(class_block).map_err(|e| io_error(class_block, &e))? {
        let path = entry.map_err(|e| io_error(class_block, &e))?.path();
        let Some((label, partition)) = label_of(&path) else {
            continue;
        };
        // The class folder links to …/block/vda/vda2: the parent folder is the disk.
        let Ok(real) = std::fs::canonicalize(&path) else {
            continue;
        };
        let parent = real.parent().and_then(Path::file_name);
        if let Some(disk) = parent.and_then(|name| name.to_str()) {
            disks.entry(disk.to_string()).or_default().insert(label, partition);
        }
    }
    let mut complete = disks
        .into_iter()
        .filter(|(_, partitions)| LABELS.iter().all(|label| partitions.contains_key(*label)));
    match (complete.next(), complete.next()) {
        (Some((a, _)), Some((b, _))) => {
            Err(Error::new(["disks ", &a, " and ", &b, " both carry Ferrite; remove one"].concat()))
        }
        (Some((name, partitions)), None) => Ok(Some(Disk { name, partitions })),
        (None, _) => Ok(None),
    }
}

/// Label and kernel name of a partition, from its `uevent` file.
fn label_of(path: &Path) -> Option<(String, String)> {
    let uevent = std::fs::read(path.join("uevent")).ok()?;
    if uevent.len() > MAX_UEVENT {
        return None;
    }
    let text = std::str::from_utf8(&uevent).ok()?;
    let label = text.lines().find_map(|l| l.strip_prefix("PARTNAME="))?;
    let name = path.file_name()?.to_str()?;
    LABELS.contains(&label).then(|| (label.to_string(), name.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn disk(root: &Path, name: &str, labels: &[&str]) {
        let class = root.join("class");
        std::fs::create_dir_all(&class).unwrap();
        for (i, label) in labels.iter().enumerate() {
            let partition = format!("{name}p{}", i + 1);
            let real = root.join("devices").join(name).join(&partition);
            std::fs::create_dir_all(&real).unwrap();
            std::fs::write(
                real.join("uevent"),
                format!("DEVTYPE=partition\nPARTN={}\nPARTNAME={label}\n", i + 1),
            )
            .unwrap();
            symlink(&real, class.join(&partition)).unwrap();
        }
    }

    #[test]
    fn finds_the_disk_with_every_label() {
        let root = tempfile::tempdir().unwrap();
        let class = root.path().join("class");
        disk(root.path(), "sda", &["data", "boot-a", "somebody's"]);
        assert_eq!(find(&class).unwrap(), None);
        disk(root.path(), "mmcblk0", &LABELS);
        let found = find(&class).unwrap().unwrap();
        assert_eq!(found.name, "mmcblk0");
        assert_eq!(found.partition("root-b").unwrap(), "mmcblk0p5");
        disk(root.path(), "sdb", &LABELS);
        let error = find(&class).unwrap_err().to_string();
        assert!(error.contains("mmcblk0") && error.contains("sdb"), "{error}");
    }
}
