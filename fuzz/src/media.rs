//! Cards, sticks and disks that somebody puts into a host or a device.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use formats::Slot;
use formats::gpt::{Gpt, Guid, Partition};
use formats::layout;
use formats::medium::{Access, Medium as Partitioned, Partitions};
use formats::rpi::autoboot::{self, Method};
use formats::rpi::plan::Write;
use formats::rpi::{BOOT_VOLUME, Rpi};
use imagefs::ext4_reader::Volume as Ext4;
use imagefs::fat_reader::FatVolume;
use imagefs::tree::Tree;
use imagefs::{erofs, erofs_reader, ext4, fat};

use crate::patched::Medium;
use crate::read_at;

/// Bytes of the disk that [`data_disk`] patches.
const DISK: usize = 10 << 20;
/// Where its data partition begins.
const DATA_AT: u64 = 64 << 10;
/// Its settings, within the data partition.
const SETTINGS: &str = "ferrite/settings";

/// Settings of a device as `imager flash` writes them.
pub const CONF: &str = "ferrite-settings 1\nhostname kitchen-1\ntimezone Europe/Berlin CET-1CEST,M3.5.0,M10.5.0/3\n\
    wifi Home Net\nssh-key ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPh0 me@desk\nfile face/labels.txt\n";

fn lasting<T>(cell: &'static OnceLock<T>, make: impl FnOnce() -> Option<T>) -> &'static T {
    cell.get_or_init(|| make().expect("the sound medium can be made"))
}

fn files() -> Option<Tree> {
    let mut tree = Tree::new(0);
    for folder in ["ferrite", "workloads", "workloads/ota", "workloads/face"] {
        tree.dir(folder, 0o755).ok()?;
    }
    tree.file(SETTINGS, 0o600, CONF.as_bytes()).ok()?;
    tree.file("workloads/ota/token", 0o600, &b"secret"[..]).ok()?;
    tree.file("workloads/face/labels.txt", 0o644, vec![b'x'; 9000]).ok()?;
    Some(tree)
}

fn disk() -> Option<Medium> {
    let mut bytes = vec![0; DISK];
    let sectors = (DISK / 512) as u64;
    let partition = Partition {
        kind: Guid::from_hash([1; 16]),
        guid: Guid::from_hash([2; 16]),
        first: DATA_AT / 512,
        last: sectors - 40,
        attributes: 0,
        label: layout::DATA.into(),
    };
    let size = (partition.last + 1 - partition.first) * 512 / 4096 * 4096;
    let gpt = Gpt { disk: Guid::from_hash([9; 16]), sectors, partitions: vec![partition] };
    let options =
        ext4::Options { size, uuid: [3; 16], label: "data".into(), time: 0, quotas: true };
    let runs = ext4::blocks(&options, &files()?).ok()?;
    let table = gpt.writes().into_iter().map(|write| (write.offset, write.bytes));
    for (at, run) in table.chain(runs.into_iter().map(|(at, run)| (DATA_AT + at, run))) {
        let at = usize::try_from(at).ok()?;
        bytes.get_mut(at..at + run.len())?.copy_from_slice(&run);
    }
    Some(Medium::new(bytes))
}

/// Patches to a disk with a partition table and an ext4: what `imager settings` reads of it.
pub fn data_disk(input: &[u8]) {
    static DISK: OnceLock<Medium> = OnceLock::new();
    lasting(&DISK, disk).patched(input, |bytes| {
        let read = |at: u64, out: &mut [u8]| read_at(bytes, at, out);
        // The sums are not made right here: a patch of the table shows what is read of the backup.
        let table = formats::gpt::read((bytes.len() / 512) as u64, read);
        let data = table.ok().and_then(|table| Some(table.find(layout::DATA).ok()?.bytes()));
        for start in [Some(DATA_AT), data.map(|data| data.start)].into_iter().flatten() {
            let source = |at: u64, out: &mut [u8]| read(start.saturating_add(at), out);
            let Ok(volume) = Ext4::open(&source) else { continue };
            let _ = volume.needs_recovery();
            for path in ["workloads/ota/token", "workloads/face/labels.txt", "ferrite"] {
                if let Ok(Some(stat)) = volume.stat(path) {
                    let _ = (stat.is_file(), stat.is_dir());
                }
            }
            let most = 64 << 10;
            if let Ok(Some(file)) = volume.file(SETTINGS, most) {
                assert!(file.len() as u64 <= most);
                settings(&file);
            }
        }
    });
}

/// The settings of a device, as everything reads them that does.
pub fn settings(input: &[u8]) {
    let Ok(conf) = formats::settings::parse(input) else { return };
    if let Ok(Some(name)) = formats::settings::hostname(&conf) {
        assert!(name.len() <= 63 && !name.contains(['.', '/', '\n']), "{name:?}");
    }
    if let Ok(Some(zone)) = formats::settings::timezone(&conf) {
        assert!(!zone.name.starts_with('/') && !zone.name.contains(".."), "{zone:?}");
        assert!(!zone.rule.starts_with([':', '/']), "{zone:?}");
    }
    if let Ok(Some(ssid)) = formats::settings::wifi(&conf) {
        assert!(ssid.len() <= 32 && !ssid.contains('\n'));
    }
    for key in formats::settings::ssh_keys(&conf).unwrap_or_default() {
        assert!(!key.contains('\n'));
    }
}

/// Patches to an EROFS: what `imager inspect` looks for in it.
pub fn erofs(input: &[u8]) {
    static IMAGE: OnceLock<Medium> = OnceLock::new();
    let make = || {
        let mut tree = Tree::usr_merged(0);
        for program in ["usr/bin/dash", "usr/bin/runner", "usr/sbin/init"] {
            tree.file(program, 0o755, vec![7; 5000]).ok()?;
        }
        tree.file("etc/ferrite/system.conf", 0o644, &b"ferrite-system 1\nhostname x\n"[..]).ok()?;
        let mut image = Vec::new();
        erofs::write(&tree, [1; 16], &mut image).ok()?;
        Some(Medium::new(image))
    };
    lasting(&IMAGE, make).patched(input, |bytes| {
        let Ok(volume) = erofs_reader::Volume::open(bytes) else { return };
        for path in ["/usr/bin/dash", layout::SYSTEM_CONF] {
            let _ = volume.file(path);
        }
        for folder in ["/usr/bin", "/usr/sbin", "/bin"] {
            let _ = volume.names(folder);
        }
    });
}

/// Patches to a FAT16 volume: all that is on it.
pub fn fat(input: &[u8]) {
    static IMAGE: OnceLock<Medium> = OnceLock::new();
    let make = || {
        let mut tree = Tree::new(0);
        tree.dir("overlays", 0o755).ok()?;
        tree.file("config.txt", 0o644, &b"kernel=vmlinuz\n"[..]).ok()?;
        tree.file("a file with a long name.dtb", 0o644, vec![5; 3000]).ok()?;
        tree.file("overlays/README", 0o644, &b"x"[..]).ok()?;
        let options = fat::Options {
            size: 3 << 20,
            reserved_sectors: 1,
            file_alignment: 512,
            volume_id: 7,
            label: *b"FIRMWARE   ",
        };
        let mut image = Vec::new();
        fat::write(&tree, &options, &mut image).ok()?;
        Some(Medium::new(image))
    };
    lasting(&IMAGE, make).patched(input, |bytes| {
        let Ok(volume) = FatVolume::open(bytes) else { return };
        if let Ok(entries) = volume.entries() {
            let all: usize =
                entries.iter().filter_map(|entry| Some(entry.bytes.as_ref()?.len())).sum();
            assert!(all <= bytes.len(), "more came out than is there");
        }
    });
}

/// The first sectors of a Raspberry Pi's `firmware` partition: what is read of it, and that pointing
/// at a slot changes one sector and no other.
pub fn autoboot(input: &[u8]) {
    for method in [Method::Pointer, Method::Tryboot] {
        let partition = Sectors(Arc::new(Mutex::new(input.to_vec())));
        let rpi = Rpi::new(Arc::new(partition.clone()), method);
        let _ = rpi.state();
        let pointer = rpi.pointer();
        let _ = rpi.running(&format!("root=x {BOOT_VOLUME}00000007"), pointer.ok().flatten());
        if let Some(slot) = autoboot::read(method, input) {
            let text = autoboot::text(method, slot);
            assert_eq!(autoboot::read(method, text.as_bytes()), Some(slot));
        }
        if rpi.write(&Write::Pointer(Slot::B)).is_ok() {
            assert_eq!(rpi.pointer(), Ok(Some(Slot::B)));
            let after = partition.lock().clone();
            let changed = |at: &usize| after[*at] != input[*at];
            let first = (0..input.len()).find(changed);
            let last = (0..input.len()).rfind(changed);
            let span = first.zip(last).map_or(0, |(first, last)| last - first);
            assert!(span < 512, "{span} bytes between what changed");
        }
    }
}

/// A partition in memory; every label leads to it.
#[derive(Debug, Clone)]
struct Sectors(Arc<Mutex<Vec<u8>>>);

impl Sectors {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Partitions for Sectors {
    fn open(&self, _: &str, _: Access) -> io::Result<Box<dyn Partitioned>> {
        Ok(Box::new(self.clone()))
    }

    fn path(&self, label: &str) -> PathBuf {
        label.into()
    }
}

impl Partitioned for Sectors {
    fn size(&self) -> u64 {
        self.lock().len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        read_at(&self.lock(), offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let mut all = self.lock();
        let place = all.get_mut(start..start.saturating_add(bytes.len()));
        place.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }
}
