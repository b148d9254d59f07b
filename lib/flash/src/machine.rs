//! What this machine's kernel says of its block devices, read once into plain data: `/sys/block`
//! (Documentation/ABI/stable/sysfs-block of Linux), `/proc/self/mountinfo`, `/proc/swaps`
//! (proc(5)), and udev's names in `/dev/disk/by-id`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Longest attribute that is looked at, in bytes.
const MAX_ATTRIBUTE: usize = 4096;
/// Longest text about a device that is shown, in characters.
const MAX_SHOWN: usize = 64;

/// The folders in which the kernel's view is found; tests have their own.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/sys`
    pub sys: PathBuf,
    /// `/proc`
    pub proc: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
    /// `/run/udev/data`
    pub udev: PathBuf,
}

impl Roots {
    /// Those of the running machine.
    pub fn real() -> Roots {
        Roots {
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
            udev: "/run/udev/data".into(),
        }
    }
}

/// Major and minor number of a device.
pub type Number = (u32, u32);

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// A card in a slot of its own, or soldered eMMC.
    Mmc,
    /// A stick, a card reader, a disk in a case.
    Usb,
    /// SATA or PATA.
    Ata,
    /// NVMe.
    Nvme,
    /// A virtual machine's.
    Virtio,
    /// A file that the kernel shows as a disk.
    Loop,
    /// Some other real disk.
    Other,
    /// Memory, a mapping, an array: nothing to put an image on.
    NoDisk,
}

impl Bus {
    /// What it is called in a list.
    pub fn name(self) -> &'static str {
        match self {
            Bus::Mmc => "SD/MMC",
            Bus::Usb => "USB",
            Bus::Ata => "ATA",
            Bus::Nvme => "NVMe",
            Bus::Virtio => "virtio",
            Bus::Loop => "loop",
            Bus::Other => "other",
            Bus::NoDisk => "none",
        }
    }
}

/// A block device: a disk, a partition, or something that is made of others.
#[derive(Debug, Clone)]
pub struct Device {
    /// The kernel's name, such as `sda` or `mmcblk0p1`.
    pub name: String,
    /// Its number.
    pub number: Number,
    /// The disk it is a partition of.
    pub disk: Option<String>,
    /// Bytes.
    pub bytes: u64,
    /// The medium cannot be written.
    pub read_only: bool,
    /// How it is attached.
    pub bus: Bus,
    /// As its maker calls it; empty if unknown.
    pub model: String,
    /// Its serial number; empty if unknown.
    pub serial: String,
    /// What is made of it: mappings, arrays, caches.
    pub holders: Vec<String>,
    /// What it is made of.
    pub slaves: Vec<String>,
    /// What a holder is: `LVM-…`, `CRYPT-LUKS2-…` (dm/uuid), `raid1` (md/level); empty for others.
    pub kind: String,
    /// The file or device behind a loop or zram device.
    pub backing: Option<PathBuf>,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The device's number; of file systems over several devices not a real one.
    pub number: Number,
    /// The device, as whoever mounted it named it.
    pub source: PathBuf,
    /// Where.
    pub target: PathBuf,
}

/// Everything that decides what may be written.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// By name.
    pub devices: BTreeMap<String, Device>,
    /// All mounts.
    pub mounts: Vec<Mount>,
    /// Devices and files that are swapped to.
    pub swaps: Vec<PathBuf>,
    /// Devices that mounted btrfs file systems lie on: only one of them is in `mounts`.
    pub btrfs: Vec<String>,
    /// Stable names (`/dev/disk/by-id/…`) by kernel name.
    pub by_id: BTreeMap<String, Vec<PathBuf>>,
    dev: PathBuf,
}

impl Machine {
    /// Reads it all.
    ///
    /// Fails when the kernel's lists of disks, mounts or swap cannot be read: without them nothing
    /// is known to be free.
    pub fn read(roots: &Roots) -> Result<Machine> {
        let proc = |name: &str| {
            let path = roots.proc.join(name);
            fs::read_to_string(&path).with_context(|| {
                format!("{}: cannot be read, so no disk is known to be free", path.display())
            })
        };
        let mut machine = Machine {
            mounts: mounts(&proc("self/mountinfo")?),
            swaps: swaps(&proc("swaps")?),
            btrfs: btrfs(&roots.sys.join("fs/btrfs")),
            by_id: by_id(&roots.dev.join("disk/by-id")),
            dev: roots.dev.clone(),
            ..Machine::default()
        };
        let block = roots.sys.join("block");
        let disks = fs::read_dir(&block).with_context(|| {
            format!("{}: cannot be read, so no disk is known to be free", block.display())
        })?;
        for entry in disks {
            let folder = entry.with_context(|| block.display().to_string())?.path();
            let Some(disk) = device(&folder, None, roots) else { continue };
            for inner in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if inner.path().join("partition").is_file() {
                    let partition = device(&inner.path(), Some(&disk), roots);
                    machine.devices.extend(partition.map(|p| (p.name.clone(), p)));
                }
            }
            machine.devices.insert(disk.name.clone(), disk);
        }
        Ok(machine)
    }

    /// The device with this number.
    pub fn by_number(&self, number: Number) -> Option<&Device> {
        self.devices.values().find(|device| device.number == number)
    }

    /// The kernel's name of a node such as `/dev/mapper/home`, if it is one of ours.
    pub fn name_of(&self, node: &Path) -> Option<&str> {
        let real = fs::canonicalize(node).unwrap_or_else(|_| node.to_owned());
        let dev = fs::canonicalize(&self.dev).unwrap_or_else(|_| self.dev.clone());
        let below = real.strip_prefix(dev).ok()?.to_str()?;
        // `cciss!c0d0` in sysfs is `cciss/c0d0` in /dev.
        let (name, _) = self.devices.get_key_value(&below.replace('/', "!"))?;
        Some(name)
    }

    /// The node of a device.
    pub fn node(&self, device: &Device) -> PathBuf {
        self.dev.join(device.name.replace('!', "/"))
    }

    /// The partitions of a disk.
    pub fn partitions<'a>(&'a self, disk: &'a str) -> impl Iterator<Item = &'a Device> {
        self.devices.values().filter(move |device| device.disk.as_deref() == Some(disk))
    }
}

fn device(folder: &Path, disk: Option<&Device>, roots: &Roots) -> Option<Device> {
    let name = folder.file_name()?.to_str()?.to_owned();
    let number = number(&attribute(&folder.join("dev"))?)?;
    let sectors: u64 = attribute(&folder.join("size"))?.parse().ok()?;
    let text = |path: &str| attribute(&folder.join(path)).map(|t| shown(&t)).unwrap_or_default();
    let first = |paths: &[&str]| paths.iter().map(|p| text(p)).find(|t| !t.is_empty());
    let udev = || udev_serial(&roots.udev.join(format!("b{}:{}", number.0, number.1)));
    let backing = ["loop/backing_file", "backing_dev"].iter().find_map(|path| {
        let path = attribute(&folder.join(path)).filter(|path| path != "none")?;
        Some(PathBuf::from(path))
    });
    let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    Some(Device {
        number,
        disk: disk.map(|disk| disk.name.clone()),
        // Sysfs counts 512 bytes a sector, whatever the medium's own are.
        bytes: sectors.checked_mul(512)?,
        read_only: attribute(&folder.join("ro")).is_some_and(|ro| ro != "0"),
        bus: disk.map_or_else(|| bus(&name, &real.to_string_lossy()), |disk| disk.bus),
        model: first(&["device/model", "device/name"]).unwrap_or_default(),
        serial: first(&["device/serial", "serial"]).or_else(udev).unwrap_or_default(),
        holders: names(&folder.join("holders")),
        slaves: names(&folder.join("slaves")),
        kind: first(&["dm/uuid", "md/level"]).unwrap_or_default(),
        backing,
        name,
    })
}

/// From a device's name and its real folder, `/sys/devices/pci0000:00/…/usb1/…/block/sda`.
fn bus(name: &str, folder: &str) -> Bus {
    let has = |part: &str| folder.split('/').any(|piece| piece.starts_with(part));
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match kind {
        "loop" => Bus::Loop,
        "ram" | "zram" | "dm-" | "md" | "sr" | "fd" | "nbd" | "bcache" | "mtdblock" => Bus::NoDisk,
        _ if has("usb") => Bus::Usb,
        _ if has("mmc_host") => Bus::Mmc,
        _ if has("nvme") => Bus::Nvme,
        _ if has("ata") => Bus::Ata,
        _ if has("virtio") => Bus::Virtio,
        _ => Bus::Other,
    }
}

/// One attribute of sysfs, without the line feed at its end.
fn attribute(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok().filter(|bytes| bytes.len() <= MAX_ATTRIBUTE)?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// What a device says of itself, fit for a terminal: the maker of a stick decides these bytes.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect::<String>().trim().to_owned()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn number(text: &str) -> Option<Number> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The serial number that udev found, for buses where sysfs has none.
fn udev_serial(path: &Path) -> Option<String> {
    let text = attribute(path)?;
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(shown);
    line("E:ID_SERIAL_SHORT=").or_else(|| line("E:ID_SERIAL="))
}

fn btrfs(folder: &Path) -> Vec<String> {
    let systems = fs::read_dir(folder).into_iter().flatten().flatten();
    systems.flat_map(|system| names(&system.path().join("devices"))).collect()
}

fn by_id(folder: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut all: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for name in names(folder) {
        let link = folder.join(name);
        let target = fs::read_link(&link).ok();
        if let Some(device) = target.as_deref().and_then(Path::file_name) {
            all.entry(device.to_string_lossy().into_owned()).or_default().push(link);
        }
    }
    all
}

/// The mounts of `/proc/self/mountinfo`: number in the third field, target in the fifth, source in
/// the second behind ` - `.
fn mounts(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(2);
        Some(Mount {
            number: number(front.next()?)?,
            target: unescaped(front.nth(1)?),
            source: unescaped(back.split(' ').nth(1)?),
        })
    };
    text.lines().filter_map(mount).collect()
}

/// The first column of `/proc/swaps`, below its heading.
fn swaps(text: &str) -> Vec<PathBuf> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(unescaped).collect()
}

/// Undoes the kernel's `\040` for a space and the like.
fn unescaped(text: &str) -> PathBuf {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            digits.iter().try_fold(0u32, |value, digit| match digit {
                b'0'..=b'7' => Some(value * 8 + u32::from(digit - b'0')),
                _ => None,
            })
        };
        match tail.get(..3).filter(|_| byte == b'\\').and_then(octal).map(u8::try_from) {
            Some(Ok(escaped)) => {
                out.push(escaped);
                rest = &tail[3..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_and_swaps_are_read_with_their_escapes() {
        let text = "36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n\
                    24 27 0:6 / /dev rw - devtmpfs udev rw\nnonsense\n";
        let found = mounts(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].number, found[0].target.as_path()), ((98, 0), Path::new("/mnt/a b")));
        assert_eq!(found[0].source, Path::new("/dev/root"));
        let text =
            "Filename Type Size Used Priority\n/dev/sda3 partition 1 0 -2\n/a\\134b file 1\n";
        assert_eq!(swaps(text), [Path::new("/dev/sda3"), Path::new("/a\\b")]);
        assert_eq!(unescaped("\\9\\04"), Path::new("\\9\\04"));
    }

    #[test]
    fn the_bus_is_told_from_the_folder() {
        for (name, folder, expected) in [
            ("sdb", "/sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/host6/block/sdb", Bus::Usb),
            ("sda", "/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/block/sda", Bus::Ata),
            (
                "mmcblk0",
                "/sys/devices/platform/soc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0",
                Bus::Mmc,
            ),
            ("nvme0n1", "/sys/devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1", Bus::Nvme),
            ("vda", "/sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda", Bus::Virtio),
            ("loop7", "/sys/devices/virtual/block/loop7", Bus::Loop),
            ("dm-3", "/sys/devices/virtual/block/dm-3", Bus::NoDisk),
            ("zram0", "/sys/devices/virtual/block/zram0", Bus::NoDisk),
        ] {
            assert_eq!(bus(name, folder), expected, "{name}");
        }
    }

    #[test]
    fn what_a_stick_calls_itself_cannot_write_to_the_terminal() {
        assert_eq!(shown(" Good\u{1b}[2J Stick\n"), "Good[2J Stick");
        assert_eq!(shown(&"x".repeat(1000)).len(), MAX_SHOWN);
    }
}
