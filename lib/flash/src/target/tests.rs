//! Made-up machines: trees like those of sysfs and proc, one for each way a disk can be used.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::machine::Roots;

const IMAGE: u64 = 256 << 20;

struct World {
    folder: tempfile::TempDir,
    mounts: String,
    swaps: String,
}

impl World {
    /// A machine with a system disk `sda` and an empty card `sdb` in a USB reader.
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        for path in ["sys/block", "proc/self", "dev/mapper", "dev/disk/by-id", "udev"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let swaps = "Filename Type Size Used Priority\n".into();
        let mut world = World { folder, mounts: String::new(), swaps };
        world.disk("sda", "8:0", "pci0000:00/ata1/host0");
        world.partition("sda", "sda1", "8:1");
        world.partition("sda", "sda2", "8:2");
        world.mount("8:2", "/dev/sda2", "/");
        world.disk("sdb", "8:16", "pci0000:00/usb2/2-1");
        world.partition("sdb", "sdb1", "8:17");
        world.partition("sdb", "sdb2", "8:18");
        world.write("sys/block/sdb/device/model", "SD Reader \u{7}\n");
        world.write("udev/b8:16", "S:disk/by-id/x\nE:ID_SERIAL_SHORT=0815\n");
        world.link("../../sdb", "dev/disk/by-id/usb-SD_Reader_0815-0:0");
        world
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, to: &str, path: &str) {
        symlink(to, self.folder.path().join(path)).unwrap();
    }

    /// As in sysfs, `block/NAME` is a link to where the device hangs.
    fn disk(&mut self, name: &str, number: &str, place: &str) {
        self.write(&format!("sys/devices/{place}/block/{name}/dev"), number);
        self.link(&format!("../devices/{place}/block/{name}"), &format!("sys/block/{name}"));
        for (file, text) in
            [("size", "62521344\n"), ("ro", "0\n"), ("holders/.x", ""), ("slaves/.x", "")]
        {
            self.write(&format!("sys/block/{name}/{file}"), text);
        }
        for list in ["holders", "slaves"] {
            fs::remove_file(self.folder.path().join(format!("sys/block/{name}/{list}/.x")))
                .unwrap();
        }
        self.write(&format!("dev/{name}"), "");
    }

    fn partition(&mut self, disk: &str, name: &str, number: &str) {
        for (file, text) in [("partition", "1"), ("dev", number), ("size", "2048"), ("ro", "0")] {
            self.write(&format!("sys/block/{disk}/{name}/{file}"), text);
        }
        self.write(&format!("dev/{name}"), "");
    }

    /// `upper` is made of `lower` (`sdb/sdb1` for a partition), as sysfs shows it on both sides.
    fn stack(&self, upper: &str, lower: &str) {
        self.write(&format!("sys/block/{lower}/holders/{upper}"), "");
        let name = lower.rsplit('/').next().unwrap();
        self.write(&format!("sys/block/{upper}/slaves/{name}"), "");
    }

    fn mount(&mut self, number: &str, source: &str, target: &str) {
        let source = source.replace("/dev", &self.folder.path().join("dev").to_string_lossy());
        self.mounts += &format!("22 1 {number} / {target} rw shared:1 - ext4 {source} rw\n");
    }

    fn swap(&mut self, node: &str) {
        let node = self.folder.path().join("dev").join(node);
        self.swaps += &format!("{} partition 1 0 -2\n", node.display());
    }

    fn read(&self) -> Machine {
        self.write("proc/self/mountinfo", &self.mounts);
        self.write("proc/swaps", &self.swaps);
        let at = |path: &str| self.folder.path().join(path);
        let roots = Roots { sys: at("sys"), proc: at("proc"), dev: at("dev"), udev: at("udev") };
        Machine::read(&roots).unwrap()
    }

    /// The verdict on the card.
    fn verdict(&self) -> Result<Care> {
        let machine = self.read();
        let device = &machine.devices["sdb"];
        judge(&machine, device, IMAGE, Members::Keep).map(|(_, care)| care)
    }

    #[track_caller]
    fn refuses(&self, words: &[&str]) {
        let error = self.verdict().expect_err("it has to be refused").to_string();
        for word in words {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
    }
}

#[test]
fn a_card_that_nobody_uses_is_offered_with_all_that_tells_it_from_others() {
    let world = World::new();
    assert_eq!(world.verdict().unwrap(), Care::Ask);
    let text = list(&world.read(), IMAGE);
    let (offered, others) = text.split_once("Not offered:").unwrap();
    assert!(offered.contains("/dev/sdb"), "{text}");
    assert!(offered.contains("32.0 GB  USB     SD Reader, serial 0815\n"), "{text}");
    assert!(offered.contains("disk/by-id/usb-SD_Reader_0815-0:0"), "{text}");
    assert!(others.contains("/dev/sda is in use: sda2 is mounted on /"), "{text}");
    assert!(!offered.contains("sda"), "{text}");
}

#[test]
fn a_mounted_partition_keeps_the_disk() {
    let mut world = World::new();
    world.mount("8:18", "/dev/sdb2", "/media/me/photos\\040of\\0402026");
    world.refuses(&["sdb2 is mounted on /media/me/photos of 2026", "umount"]);
}

#[test]
fn the_whole_disk_may_be_mounted_without_partitions() {
    let mut world = World::new();
    world.mount("8:16", "/dev/sdb", "/mnt");
    world.refuses(&["sdb is mounted on /mnt"]);
}

#[test]
fn a_mount_is_found_by_its_source_where_the_number_is_not_the_devices() {
    let mut world = World::new();
    world.mount("0:44", "/dev/sdb1", "/srv");
    world.refuses(&["sdb1 is mounted on /srv"]);
}

#[test]
fn the_second_device_of_a_btrfs_is_in_no_list_of_mounts() {
    let world = World::new();
    world.write("sys/fs/btrfs/1234/devices/sdb1", "");
    world.refuses(&["sdb1 belongs to a mounted btrfs"]);
}

#[test]
fn swap_keeps_the_disk() {
    let mut world = World::new();
    world.swap("sdb2");
    world.refuses(&["sdb2 is swapped to", "swapoff /dev/sdb2"]);
}

#[test]
fn a_file_system_on_lvm_on_crypt_on_raid_is_found() {
    let mut world = World::new();
    for (name, number, lower, kind, text) in [
        ("md0", "9:0", "sdb/sdb1", "md/level", "raid1"),
        ("dm-0", "253:0", "md0", "dm/uuid", "CRYPT-LUKS2-0123-home"),
        ("dm-1", "253:1", "dm-0", "dm/uuid", "LVM-abcdef"),
    ] {
        world.disk(name, number, "virtual");
        world.write(&format!("sys/block/{name}/{kind}"), text);
        world.stack(name, lower);
    }
    world.refuses(&["sdb1 below md0 (raid1) is set up", "mdadm --stop /dev/md0"]);
    world.mount("253:1", "/dev/mapper/vg-home", "/home");
    world.refuses(&[
        "sdb1 below md0 (raid1) below dm-0 (crypt) below dm-1 (LVM) is mounted on /home",
    ]);
}

#[test]
fn an_open_crypt_device_with_nothing_on_it_keeps_the_disk() {
    let mut world = World::new();
    world.disk("dm-0", "253:0", "virtual");
    world.write("sys/block/dm-0/dm/uuid", "CRYPT-LUKS2-0123-x");
    world.stack("dm-0", "sdb");
    world.refuses(&["sdb below dm-0 (crypt) is set up", "cryptsetup close"]);
}

#[test]
fn swap_on_a_mapping_is_found_through_its_name() {
    let mut world = World::new();
    world.disk("dm-0", "253:0", "virtual");
    world.stack("dm-0", "sdb/sdb2");
    world.link("../dm-0", "dev/mapper/swap");
    world.swap("mapper/swap");
    world.refuses(&["sdb2 below dm-0 is swapped to"]);
}

#[test]
fn loop_and_zram_devices_that_stand_on_it_keep_the_disk() {
    for (name, file) in [("loop3", "loop/backing_file"), ("zram0", "backing_dev")] {
        let mut world = World::new();
        world.disk(name, "7:3", "virtual");
        let node = world.folder.path().join("dev/sdb1");
        world.write(&format!("sys/block/{name}/{file}"), &node.to_string_lossy());
        world.refuses(&[&format!("sdb1 below {name} is backed by it")]);
    }
}

#[test]
fn what_is_mounted_from_a_partition_of_a_loop_device_on_it_is_found() {
    let mut world = World::new();
    world.disk("loop3", "7:3", "virtual");
    world.partition("loop3", "loop3p1", "259:0");
    let node = world.folder.path().join("dev/sdb");
    world.write("sys/block/loop3/loop/backing_file", &node.to_string_lossy());
    world.mount("259:0", "/dev/loop3p1", "/mnt");
    world.refuses(&["sdb below loop3 below loop3p1 is mounted on /mnt"]);
}

#[test]
fn a_holder_that_is_nowhere_else_in_sysfs_still_counts() {
    let world = World::new();
    world.write("sys/block/sdb/holders/strange0", "");
    world.refuses(&["sdb below strange0 is set up"]);
}

#[test]
fn a_stack_that_bites_its_tail_is_no_endless_walk() {
    let mut world = World::new();
    world.disk("dm-0", "253:0", "virtual");
    world.stack("dm-0", "sdb");
    world.stack("sdb", "dm-0");
    world.refuses(&["dm-0"]);
}

#[test]
fn media_that_cannot_hold_the_image_are_refused() {
    let world = World::new();
    world.write("sys/block/sdb/ro", "1\n");
    world.refuses(&["read-only", "switch"]);
    let world = World::new();
    world.write("sys/block/sdb/size", "0\n");
    world.refuses(&["no medium"]);
    assert!(!list(&world.read(), IMAGE).contains("sdb"), "an empty reader is not worth a line");
    let world = World::new();
    world.write("sys/block/sdb/size", "524287\n");
    // 512 bytes too few: both would be 268.4 MB.
    world.refuses(&["too small", "268434944 bytes", "268435456 bytes"]);
    world.write("sys/block/sdb/size", "400000\n");
    world.refuses(&["too small", "204.8 MB", "268.4 MB"]);
    world.write("sys/block/sdb/size", "524288\n");
    assert!(world.verdict().is_ok());
}

#[test]
fn partitions_mappings_and_memory_are_no_disks() {
    let mut world = World::new();
    world.disk("dm-7", "253:7", "virtual");
    world.disk("zram0", "252:0", "virtual");
    world.disk("loop0", "7:0", "virtual");
    let machine = world.read();
    let judge = |name: &str| {
        judge(&machine, &machine.devices[name], IMAGE, Members::Keep).map(|(_, care)| care)
    };
    assert!(judge("sdb1").unwrap_err().to_string().contains("name /dev/sdb"));
    assert!(judge("dm-7").unwrap_err().to_string().contains("no disk of its own"));
    assert!(judge("zram0").unwrap_err().to_string().contains("no disk of its own"));
    assert_eq!(judge("loop0").unwrap(), Care::None);
    let text = list(&machine, IMAGE);
    assert!(!text.contains("loop0") && !text.contains("dm-7"), "{text}");
}

#[test]
fn without_the_kernels_lists_nothing_is_known_to_be_free() {
    let world = World::new();
    world.read();
    for missing in ["proc/self/mountinfo", "proc/swaps", "sys/block"] {
        let at = |path: &str| world.folder.path().join(path);
        let aside = at("aside");
        fs::rename(at(missing), &aside).unwrap();
        let roots = Roots { sys: at("sys"), proc: at("proc"), dev: at("dev"), udev: at("udev") };
        let error = Machine::read(&roots).unwrap_err().to_string();
        assert!(error.contains(missing.rsplit('/').next().unwrap()), "{error}");
        fs::rename(&aside, at(missing)).unwrap();
    }
}

#[test]
fn a_file_that_a_loop_device_shows_is_found() {
    let mut world = World::new();
    world.disk("loop0", "7:0", "virtual");
    let file = world.folder.path().join("card.img");
    fs::write(&file, "").unwrap();
    assert!(in_use::file_use(&world.read(), &file).is_none());
    let real = fs::canonicalize(&file).unwrap();
    world.write("sys/block/loop0/loop/backing_file", &real.to_string_lossy());
    assert_eq!(in_use::file_use(&world.read(), &file).unwrap().name, "loop0");
}

#[test]
fn an_inactive_member_is_refused_until_somebody_says_that_it_may_go() {
    let put = |world: &World, node: &str, at: usize, bytes: &[u8]| {
        let mut disk = vec![0; 1 << 20];
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(world.folder.path().join("dev").join(node), disk).unwrap();
    };
    let uberblock = 0x00BA_B10Cu64.to_le_bytes();
    let label = [&b"LABELONE"[..], &[0; 16], b"LVM2 001"].concat();
    for (node, at, bytes, words) in [
        ("sdb1", 512, &label[..], ["sdb1 is a member of an LVM", "--overwrite-member"]),
        (
            "sdb2",
            4096,
            b"\xFC\x4E\x2B\xA9\x01\0\0\0",
            ["sdb2 is a member of a Linux RAID", "blkid"],
        ),
        ("sdb", 0, b"LUKS\xBA\xBE", ["sdb is a member of an encrypted volume", "blkid /dev/sdb`"]),
        ("sdb1", 0x2_0400, &uberblock, ["sdb1 is a member of a ZFS pool", "not set up here"]),
    ] {
        let world = World::new();
        put(&world, node, at, bytes);
        world.refuses(&words);
        assert!(!list(&world.read(), IMAGE).contains("Disks that may be written"), "{node}");
        let machine = world.read();
        let judged = judge(&machine, &machine.devices["sdb"], IMAGE, Members::Overwrite);
        assert_eq!(judged.unwrap().1, Care::Ask, "{node}");
    }
    // What is in use is refused all the same.
    let mut world = World::new();
    world.mount("8:17", "/dev/sdb1", "/mnt");
    let machine = world.read();
    assert!(judge(&machine, &machine.devices["sdb"], IMAGE, Members::Overwrite).is_err());
}

#[test]
fn a_full_name_lies_below_by_id_itself() {
    let by_id = Path::new("/dev/disk/by-id");
    assert!(is_full_name(Path::new("/dev/disk/by-id/ata-x"), by_id));
    assert!(!is_full_name(Path::new("/dev/disk/by-id/../by-path/x"), by_id));
}
