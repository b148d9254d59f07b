//! Whether anything on this machine would be hurt when a disk is overwritten: pure decisions over
//! what [`crate::machine`] has read.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::machine::{Device, Machine};

/// Something that stands on a disk, directly or over a stack of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// From the disk's own device up to the one that is used: `sda2`, `dm-0 (crypt)`.
    pub path: Vec<String>,
    /// What it is used for.
    pub what: What,
}

/// What a device is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file system that is mounted here.
    Mounted(PathBuf),
    /// Part of a mounted btrfs.
    Btrfs,
    /// Swap.
    Swap,
    /// A mapping, array or cache is made of it.
    Held,
    /// A loop or zram device is backed by it.
    Backing,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.path.join(" below "))?;
        match &self.what {
            What::Mounted(target) => write!(f, "is mounted on {}", target.display()),
            What::Btrfs => f.write_str("belongs to a mounted btrfs"),
            What::Swap => f.write_str("is swapped to"),
            What::Held => f.write_str("is set up"),
            What::Backing => f.write_str("is backed by it"),
        }
    }
}

impl Use {
    /// What to do so that the disk becomes free.
    pub fn remedy(&self) -> String {
        let device = self.path.last().map(|name| name.split(' ').next().unwrap_or(name));
        let device = device.unwrap_or_default();
        match &self.what {
            What::Mounted(target) => format!("`umount {}` first", target.display()),
            What::Btrfs => "unmount that file system first".into(),
            What::Swap => format!("`swapoff /dev/{device}` first"),
            What::Held if self.path.iter().any(|name| name.contains("crypt")) => {
                format!("`cryptsetup close` /dev/{device} first")
            }
            What::Held if self.path.iter().any(|name| name.contains("LVM")) => {
                "`vgchange --activate n` its volume group first".into()
            }
            What::Held if device.starts_with("md") => format!("`mdadm --stop /dev/{device}` first"),
            What::Held => format!("take /dev/{device} down first"),
            What::Backing if device.starts_with("loop") => {
                format!("`losetup --detach /dev/{device}` first")
            }
            What::Backing => format!("take /dev/{device} down first"),
        }
    }
}

/// Everything that stands on the disk `name`. What is nearest to people comes first: mounts before
/// the mappings they stand on.
pub fn uses(machine: &Machine, name: &str) -> Vec<Use> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let own = machine.devices.get(name).into_iter().chain(machine.partitions(name));
    for device in own {
        walk(machine, device, &mut Vec::new(), &mut seen, &mut found);
    }
    found.sort_by_key(|one: &Use| match one.what {
        What::Mounted(_) | What::Btrfs => 0,
        What::Swap => 1,
        What::Backing => 2,
        What::Held => 3,
    });
    found
}

fn walk<'a>(
    machine: &'a Machine,
    device: &'a Device,
    path: &mut Vec<String>,
    seen: &mut BTreeSet<&'a str>,
    found: &mut Vec<Use>,
) {
    if !seen.insert(&device.name) {
        return;
    }
    path.push(display_name(device));
    let mut add = |what| found.push(Use { path: path.clone(), what });
    let is_it = |node: &Path| machine.name_of(node) == Some(&device.name);
    for mount in &machine.mounts {
        // The number is not a device's own with btrfs, the path may be anybody's link.
        if mount.number == device.number || is_it(&mount.source) {
            add(What::Mounted(mount.target.clone()));
        }
    }
    if machine.btrfs.contains(&device.name) {
        add(What::Btrfs);
    }
    if machine.swaps.iter().any(|swap| is_it(swap)) {
        add(What::Swap);
    }
    if path.len() > 1 {
        add(if device.backing.is_some() { What::Backing } else { What::Held });
    }
    for upper in machine.devices.values() {
        let holds = device.holders.contains(&upper.name) || upper.slaves.contains(&device.name);
        let stands = upper.backing.as_deref().is_some_and(is_it);
        // The partitions of a mapping are used like itself.
        let part = path.len() > 1 && upper.disk.as_ref() == Some(&device.name);
        if holds || stands || part {
            walk(machine, upper, path, seen, found);
        }
    }
    for holder in device.holders.iter().filter(|name| !machine.devices.contains_key(*name)) {
        // A holder that sysfs shows nowhere else, such as one that was just made.
        let mut above = path.clone();
        above.push(holder.clone());
        found.push(Use { path: above, what: What::Held });
    }
    path.pop();
}

fn display_name(device: &Device) -> String {
    let kind = match device.kind.split('-').next().unwrap_or_default() {
        "" => return device.name.clone(),
        "CRYPT" => "crypt",
        other => other,
    };
    format!("{} ({kind})", device.name)
}

/// Why the file `path` must not be written: a loop device shows it to somebody.
pub fn file_use<'a>(machine: &'a Machine, path: &Path) -> Option<&'a Device> {
    let real = std::fs::canonicalize(path).ok()?;
    machine.devices.values().find(|device| device.backing.as_deref() == Some(&real))
}
