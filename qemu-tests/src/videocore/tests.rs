//! The firmware's rules on small cards made with mkfs.fat and mtools: what boots, and each thing
//! that does not.

use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;

const MIB: u64 = 1 << 20;

/// A card: three FAT partitions of 4 MiB (room for 8) under the numbers 1 to 3, and their files.
struct Card {
    file: tempfile::NamedTempFile,
}

impl Card {
    fn new() -> Card {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(32 * MIB).unwrap();
        let mut mbr = vec![0; 512];
        for number in 0..3u64 {
            let entry = &mut mbr[446 + number as usize * 16..][..16];
            entry[4] = 0x0C;
            entry[8..12].copy_from_slice(&(((number * 8 + 1) * MIB / 512) as u32).to_le_bytes());
            entry[12..16].copy_from_slice(&((8 * MIB / 512) as u32).to_le_bytes());
        }
        mbr[510..].copy_from_slice(&[0x55, 0xAA]);
        file.as_file().write_all_at(&mbr, 0).unwrap();
        let card = Card { file };
        (1..=3).for_each(|number| card.format(number, &["-s", "1"]));
        card.put(1, "bootcode.bin", b"loader");
        card.put(1, "autoboot.txt", b"[all]\nboot_partition=2\n[tryboot]\nboot_partition=3\n");
        for (number, letter) in [(2, b'a'), (3, b'b')] {
            let mut kernel = vec![letter; 64];
            kernel[56..60].copy_from_slice(b"ARMd");
            card.put(number, "kernel", &kernel);
            card.put(number, "initrd", b"initramfs");
            card.put(number, "start.elf", b"firmware");
            card.put(number, "fixup.dat", b"fixup");
            card.put(number, "bcm2837-rpi-3-b.dtb", TREE);
            card.put(number, "cmdline.txt", b"console=ttyS1 quiet\n");
            card.put(number, "config.txt", CONFIG.as_bytes());
        }
        card
    }

    fn start(number: u64) -> u64 {
        ((number - 1) * 8 + 1) * MIB
    }

    fn format(&self, number: u64, options: &[&str]) {
        self.format_to(number, 4, options);
    }

    /// An empty volume of so many MiB.
    fn format_to(&self, number: u64, mib: u64, options: &[&str]) {
        let part = tempfile::NamedTempFile::new().unwrap();
        part.as_file().set_len(mib * MIB).unwrap();
        let made = Command::new("mkfs.fat")
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .args(options)
            .arg(part.path())
            .output()
            .expect("mkfs.fat: install the package dosfstools");
        assert!(made.status.success(), "{made:?}");
        let bytes = std::fs::read(part.path()).unwrap();
        self.file.as_file().write_all_at(&bytes, Card::start(number)).unwrap();
    }

    fn mtools(&self, number: u64, program: &str, arguments: &[&str]) {
        let image = format!("{}@@{}", self.file.path().display(), Card::start(number));
        let done = Command::new(program).args(["-i", &image]).args(arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    fn put(&self, number: u64, name: &str, bytes: &[u8]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        self.mtools(number, "mcopy", &["-o", path.to_str().unwrap(), "::"]);
    }

    fn get(&self, number: u64, name: &str) -> Vec<u8> {
        let image = format!("{}@@{}", self.file.path().display(), Card::start(number));
        let file = format!("::{name}");
        let done = Command::new("mcopy").args(["-n", "-i", &image, &file, "-"]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        done.stdout
    }

    /// Another card like this one.
    fn copy(&self) -> Card {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::copy(self.file.path(), file.path()).unwrap();
        Card { file }
    }

    fn delete(&self, number: u64, name: &str) {
        self.mtools(number, "mdel", &[&format!("::{name}")]);
    }

    fn boot(&self, reset: Reset) -> Result<Started> {
        boot(&Disk::copy_of(self.file.path()).unwrap(), Model::Pi3, reset)
    }

    /// What the firmware says against booting.
    fn refusal(&self) -> String {
        format!("{:#}", self.boot(Reset::default()).unwrap_err())
    }
}

const TREE: &[u8] = b"tree\0raspberrypi,3-model-b\0";
const CONFIG: &str =
    "[all]\narm_64bit=1\nupstream_kernel=1\nkernel=kernel\ninitramfs initrd followkernel\n";

#[test]
fn the_partition_is_the_flags_or_the_resets_or_the_files() {
    let card = Card::new();
    let partition = |reset| card.boot(reset).unwrap().partition;
    assert_eq!(partition(Reset::default()), 2);
    assert_eq!(partition(Reset { tryboot: true, ..Reset::default() }), 3);
    assert_eq!(partition(Reset { partition: Some(3), ..Reset::default() }), 3);
    let started = card.boot(Reset::default()).unwrap();
    assert_eq!((&*started.initramfs, &*started.device_tree), (&b"initramfs"[..], TREE));
    assert_eq!(started.arguments, "console=ttyS1 quiet");
    assert!(started.kernel.starts_with(b"aaaa"));
}

#[test]
fn without_a_readable_autoboot_the_first_bootable_partition_boots() {
    let card = Card::new();
    card.put(1, "autoboot.txt", &[0xFF; 23]);
    assert_eq!(card.boot(Reset::default()).unwrap().partition, 2);
    card.delete(1, "autoboot.txt");
    assert_eq!(card.boot(Reset::default()).unwrap().partition, 2);
    // This is why `firmware` must not hold firmware files of its own.
    card.put(1, "start.elf", b"firmware");
    assert!(card.refusal().contains("partition 1: config.txt is missing"));
}

#[test]
fn filters_choose_the_settings() {
    let card = Card::new();
    let filtered =
        format!("{CONFIG}[none]\nkernel=x\n[pi3]\ncmdline=mine.txt\n[tryboot]\nkernel=y\n");
    card.put(2, "config.txt", filtered.as_bytes());
    card.put(2, "mine.txt", b"mine");
    assert_eq!(card.boot(Reset::default()).unwrap().arguments, "mine");
}

#[test]
fn what_real_firmware_rejects_is_rejected() {
    type Spoils<'a> = &'a dyn Fn(&Card);
    let broken: &[(&str, Spoils)] = &[
        ("autoboot.txt has 513 bytes", &|c| c.put(1, "autoboot.txt", &[b'#'; 513])),
        ("no bootcode.bin", &|c| c.delete(1, "bootcode.bin")),
        ("longer than 78", &|c| {
            c.put(2, "config.txt", format!("{CONFIG}x={}\n", "y".repeat(77)).as_bytes())
        }),
        ("fixup.dat is missing", &|c| c.delete(2, "fixup.dat")),
        ("not bootable", &|c| c.delete(2, "start.elf")),
        ("not compatible with raspberrypi,3-model-b", &|c| {
            c.put(2, "bcm2837-rpi-3-b.dtb", b"raspberrypi,3-model-b-plus\0")
        }),
        ("`initramfs FILE followkernel`", &|c| {
            c.put(2, "config.txt", CONFIG.replace("initramfs ", "initramfs=").as_bytes())
        }),
        ("32 bits", &|c| c.put(2, "config.txt", CONFIG.replace("arm_64bit=1\n", "").as_bytes())),
        ("bcm2710-rpi-3-b.dtb is missing", &|c| {
            c.put(2, "config.txt", CONFIG.replace("upstream_kernel=1\n", "").as_bytes())
        }),
        ("kernel8.img is missing", &|c| {
            c.put(2, "config.txt", CONFIG.replace("kernel=kernel\n", "").as_bytes())
        }),
        ("neither an arm64 Image", &|c| c.put(2, "kernel", &[0; 64])),
        ("second line", &|c| c.put(2, "cmdline.txt", b"one\ntwo\n")),
        ("make FAT12", &|c| c.format(2, &["-F", "12"])),
        ("read as the other one", &|c| c.format(2, &["-F", "32", "-s", "1"])),
        ("needs a hybrid MBR", &|c| c.file.as_file().write_all_at(&[0xEE], 446 + 4).unwrap()),
        ("of type ef", &|c| c.file.as_file().write_all_at(&[0xEF], 446 + 4).unwrap()),
    ];
    for (why, spoil) in broken {
        let card = Card::new();
        spoil(&card);
        assert!(card.refusal().contains(why), "{why}: {}", card.refusal());
    }
}

/// A card whose slots are RAM disks that `key` signed, and `key`.
fn signed_card() -> (Card, tempfile::TempDir) {
    let card = Card::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        done.stdout
    };
    openssl(&["genrsa", "-out", &path("key"), "2048"]);
    openssl(&["rsa", "-in", &path("key"), "-pubout", "-out", &path("pub")]);
    for number in [2, 3] {
        // The partition's volume, files and all, becomes the RAM disk.
        card.put(number, "start4.elf", b"firmware");
        card.put(number, "fixup4.dat", b"fixup");
        card.put(number, "bcm2711-rpi-4-b.dtb", b"tree\0raspberrypi,4-model-b\0");
        let mut bytes = vec![0; 4 << 20];
        card.file.as_file().read_exact_at(&mut bytes, Card::start(number)).unwrap();
        std::fs::write(path("boot.img"), &bytes).unwrap();
        let hash = openssl(&["dgst", "-sha256", "-r", &path("boot.img")]);
        let signature = openssl(&["dgst", "-sha256", "-sign", &path("key"), &path("boot.img")]);
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        let hash = String::from_utf8(hash[..64].to_vec()).unwrap();
        card.format_to(number, 8, &["-s", "1"]);
        card.put(number, "boot.img", &bytes);
        card.put(number, "boot.sig", format!("{hash}\nts: 5\nrsa2048: {hex}\n").as_bytes());
        card.put(number, "config.txt", b"[all]\nboot_ramdisk=1\n");
    }
    (card, folder)
}

#[test]
fn a_bootloader_with_a_key_boots_what_the_key_signed_and_nothing_else() {
    let (card, keys) = signed_card();
    let key = keys.path().join("pub");
    let signed = |card: &Card, reset| {
        let disk = Disk::copy_of(card.file.path()).unwrap();
        boot_signed(&disk, Model::Pi4, reset, &key).map_err(|e| format!("{e:#}"))
    };
    let started = signed(&card, Reset::default()).unwrap();
    assert_eq!((started.partition, &*started.initramfs), (2, &b"initramfs"[..]));
    let tryboot = Reset { tryboot: true, ..Reset::default() };
    assert_eq!(signed(&card, tryboot).unwrap().partition, 3);
    // Without a key the RAM disk is loaded because config.txt says so.
    let disk = Disk::copy_of(card.file.path()).unwrap();
    assert_eq!(boot(&disk, Model::Pi4, Reset::default()).unwrap().partition, 2);
    // A Pi 3's loader knows neither.
    let message = format!("{:#}", boot(&disk, Model::Pi3, Reset::default()).unwrap_err());
    assert!(message.contains("not bootable"), "{message}");
    assert!(boot_signed(&disk, Model::Pi3, Reset::default(), &key).is_err());

    let (_, others) = signed_card();
    let disk = Disk::copy_of(card.file.path()).unwrap();
    let strange = boot_signed(&disk, Model::Pi4, Reset::default(), &others.path().join("pub"));
    assert!(format!("{:#}", strange.unwrap_err()).contains("does not verify"));
    type Spoils<'a> = &'a dyn Fn(&Card);
    let broken: &[(&str, Spoils)] = &[
        ("boot.sig is missing", &|c| c.delete(2, "boot.sig")),
        ("not bootable", &|c| c.delete(2, "boot.img")),
        ("hash of boot.img is not boot.sig's", &|c| {
            let image = c.get(2, "boot.img");
            let last = image.len() - 1;
            c.put(2, "boot.img", &[&image[..last], &[image[last] ^ 1]].concat());
        }),
        ("not three", &|c| c.put(2, "boot.sig", b"hash\n")),
        ("does not verify", &|c| {
            let mut sig = c.get(2, "boot.sig");
            let last = sig.len() - 2;
            sig[last] = if sig[last] == b'0' { b'1' } else { b'0' };
            c.put(2, "boot.sig", &sig);
        }),
    ];
    for (why, spoil) in broken {
        let card = card.copy();
        spoil(&card);
        let message = signed(&card, Reset::default()).unwrap_err();
        assert!(message.contains(why), "{why}: {message}");
    }
    // Files beside the RAM disk are not looked at.
    card.put(2, "cmdline.txt", b"init=/bin/sh\n");
    card.put(2, "kernel", &[b'x'; 64]);
    assert_eq!(signed(&card, Reset::default()).unwrap().arguments, "console=ttyS1 quiet");
}
