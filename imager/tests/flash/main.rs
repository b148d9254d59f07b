//! `imager flash` as people call it: onto files, and onto real loop devices where there are any.

mod loops;
mod settings;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use formats::gpt;
use loops::Loop;

/// The image that is flashed.
mod made_up {
    pub use flash::sample::{SIZE, table};

    pub fn image() -> Vec<u8> {
        flash::sample::image().unwrap()
    }
}

const MIB: u64 = 1 << 20;

struct Folder(tempfile::TempDir);

impl Folder {
    /// A folder with the image `a.img` in it.
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::write(folder.at("a.img"), made_up::image()).unwrap();
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn flash(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imager"));
        command.arg("flash").args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let output = self.flash(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!text.contains("panicked"), "{text}");
        for word in words {
            assert!(text.contains(word), "no {word:?} in: {text}");
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What has to be on a medium of `bytes` bytes: the image's bytes wherever nothing belongs to the
/// table, and the table of that medium in both copies.
fn check(medium: &[u8], what_was_there: u8) {
    let image = made_up::image();
    let sectors = medium.len() as u64 / 512;
    let read = |medium: &[u8]| {
        gpt::read(sectors, |at, out| {
            out.copy_from_slice(&medium[at as usize..][..out.len()]);
            std::io::Result::Ok(())
        })
    };
    let table = read(medium).unwrap();
    assert_eq!(table.sectors, sectors);
    assert_eq!(table.grown(sectors).unwrap(), None, "data reaches to the end");
    let mut without = medium.to_vec();
    without[512..1024].fill(0);
    assert_eq!(read(&without).unwrap(), table, "the backup");
    assert!(medium[..512] == image[..512], "the first sector is the image's");
    let (start, end) = (MIB as usize, (made_up::SIZE - MIB) as usize);
    let at = (start..end).find(|at| medium[*at] != image[*at]);
    assert_eq!(at, None, "a byte differs, where zeros have to be zeros whatever was there");
    if medium.len() > image.len() {
        let old_backup = &medium[image.len() - 33 * 512..image.len()];
        assert!(old_backup.iter().all(|byte| *byte == 0));
        // What is behind the image and before the last MiB nobody has promised anything about.
        assert!(
            medium[image.len()..medium.len() - MIB as usize].iter().all(|b| *b == what_was_there)
        );
    }
}

#[test]
fn a_new_file_is_the_image_and_has_its_holes() {
    let folder = Folder::new();
    let text = done(folder.flash(&["a.img", "card.img"]));
    check(&fs::read(folder.at("card.img")).unwrap(), 0);
    assert!(text.contains("wrote ") && text.contains("read back and compared 29.4 MB"), "{text}");
    assert!(text.contains("card.img is ready"), "{text}");
    let about = fs::metadata(folder.at("card.img")).unwrap();
    assert!(about.blocks() * 512 < made_up::SIZE / 2, "{}", about.blocks());
    assert_eq!(about.permissions().mode() & 0o777, 0o644);
    assert_eq!(folder.names(), ["a.img", "card.img"]);
}

/// Two media of one image in one device could not be told apart otherwise.
#[test]
fn every_medium_has_guids_of_its_own() {
    let folder = Folder::new();
    let guids = |name: &str| {
        let medium = fs::read(folder.at(name)).unwrap();
        let table = gpt::read(medium.len() as u64 / 512, |at, out| {
            out.copy_from_slice(&medium[at as usize..][..out.len()]);
            std::io::Result::Ok(())
        });
        let table = table.unwrap();
        table.partitions.iter().map(|p| p.guid.0).chain([table.disk.0]).collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    for name in ["one.img", "two.img"] {
        done(folder.flash(&["a.img", name]));
        all.extend(guids(name));
    }
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (14, 14));
    assert!(guids("a.img").iter().all(|guid| !all.contains(guid)));
}

#[test]
fn a_compressed_image_is_the_same() {
    let folder = Folder::new();
    let image = made_up::image();
    // In two frames, each behind a skippable one, as pzstd writes it.
    let (front, back) = image.split_at(10_000_000);
    let skippable = *b"\x50\x2a\x4d\x18\x04\0\0\0size";
    let mut packed = Vec::new();
    for part in [front, back] {
        packed.extend(skippable);
        packed.extend(zstd::encode_all(part, 3).unwrap());
    }
    fs::write(folder.at("b.img.zst"), packed).unwrap();
    done(folder.flash(&["b.img.zst", "card.img"]));
    check(&fs::read(folder.at("card.img")).unwrap(), 0);
}

#[test]
fn nothing_of_an_older_disk_is_left_where_the_image_has_zeros() {
    let folder = Folder::new();
    let mut old = vec![0xFF; 40 * MIB as usize];
    old[512..520].copy_from_slice(b"EFI PART");
    fs::write(folder.at("card.img"), old).unwrap();
    done(folder.flash(&["a.img", "card.img"]));
    check(&fs::read(folder.at("card.img")).unwrap(), 0xFF);
}

#[test]
fn a_file_that_is_no_disk_and_the_image_itself_are_left_alone() {
    let folder = Folder::new();
    fs::write(folder.at("thesis"), "much work").unwrap();
    folder.refuses(&["a.img", "thesis"], &["thesis", "no disk image", "remove it"]);
    assert_eq!(fs::read(folder.at("thesis")).unwrap(), b"much work");
    fs::hard_link(folder.at("a.img"), folder.at("same.img")).unwrap();
    folder.refuses(&["a.img", "same.img"], &["is the image itself"]);
    folder.refuses(&["a.img", "/dev/null"], &["/dev/null"]);
    folder.refuses(&["a.img", "/dev/no-such"], &["/dev/no-such is not there", "lists the disks"]);
    folder.refuses(&["a.img", "none/x.img"], &["none"]);
}

#[test]
fn what_is_no_whole_image_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    let image = made_up::image();
    let pack = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let mut long = image.clone();
    long.push(0);
    let mut other = image.clone();
    other[512..512 + 8].fill(0);
    for (name, bytes, words) in [
        ("short.img", image[..image.len() - 512].to_vec(), &["damaged", "29359616"][..]),
        ("long.img", long.clone(), &["damaged", "29360129"]),
        ("other.img", other, &["not a Ferrite disk image"]),
        ("text.img", b"hello".to_vec(), &["not a Ferrite disk image", "imager build"]),
        ("empty.img", vec![], &["not a Ferrite disk image"]),
        ("x.update", b"FERRSLOT and more".to_vec(), &["update", ".img of the same build"]),
        ("x.img.gz", b"\x1f\x8b\x08and more".to_vec(), &["zstd"]),
        ("garbage.zst", b"\x28\xb5\x2f\xfdand more".to_vec(), &["not a Ferrite disk image"]),
        // A window of 4 GiB, and one with a dictionary.
        ("wide.zst", b"\x28\xb5\x2f\xfd\0\xb0\x09\0\0a".to_vec(), &["more than 2 GiB"]),
        ("dict.zst", b"\x28\xb5\x2f\xfd\x01\x58\x07\x09\0\0a".to_vec(), &["a dictionary"]),
        ("head.zst", pack(&image)[..9].to_vec(), &["not a Ferrite disk image", "cut off"]),
        (
            "short.zst",
            pack(&image[..image.len() - 512]),
            &["short.zst", "ends before the disk does", "was not made"],
        ),
        ("cut.zst", pack(&image)[..5_000_000].to_vec(), &["cut.zst", "cut off", "was not made"]),
        ("long.zst", pack(&long), &["goes on behind the disk's end", "was not made"]),
    ] {
        fs::write(folder.at(name), bytes).unwrap();
        folder.refuses(&[name, "card.img"], words);
        fs::remove_file(folder.at(name)).unwrap();
        assert_eq!(folder.names(), ["a.img"], "{name}");
    }
}

#[test]
fn without_a_device_the_disks_are_listed_and_nothing_happens() {
    let folder = Folder::new();
    let text = done(folder.flash(&["a.img"]));
    assert!(text.contains("imager flash a.img DEVICE"), "{text}");
    // Whatever this machine runs from is not offered.
    let offered = text.split("Not offered").next().unwrap();
    let root = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let source = root.lines().find(|l| l.split(' ').nth(4) == Some("/")).unwrap();
    let source = source.split(" - ").nth(1).unwrap().split(' ').nth(1).unwrap();
    assert!(!offered.contains(&format!("{source} ")), "{text}");
    let output = folder.flash(&["--yes", "a.img"]);
    assert_eq!(output.status.code(), Some(2), "--yes means nothing without a device");
    assert_eq!(folder.names(), ["a.img"]);
}

/// The image is so large, and so empty, that reading it back takes seconds.
#[test]
fn ctrl_c_says_what_state_the_medium_is_in() {
    let folder = Folder::new();
    let table = made_up::table(64 << 10);
    let file = File::create(folder.at("huge.img")).unwrap();
    file.set_len(table.sectors * 512).unwrap();
    table.writes().iter().for_each(|w| file.write_all_at(&w.bytes, w.offset).unwrap());
    let mut command = folder.command(&["huge.img", "card.img"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("wrote "));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{text}");
    assert!(text.contains("card.img was not made: stopped by a signal"), "{text}");
    assert_eq!(folder.names(), ["a.img", "huge.img"]);
}

#[test]
fn a_loop_device_gets_the_image_and_nothing_of_before_is_left() {
    let folder = Folder::new();
    fs::write(folder.at("disk"), vec![0xFF; 41 * MIB as usize + 512]).unwrap();
    let Some(device) = Loop::attach(&folder.at("disk")) else { return };
    let text = done(folder.flash(&["a.img", device.path()]));
    assert!(text.contains("losetup --detach"), "{text}");
    drop(device);
    check(&fs::read(folder.at("disk")).unwrap(), 0xFF);
}

#[test]
fn a_loop_device_that_is_used_or_too_small_is_refused() {
    let folder = Folder::new();
    let disk = folder.at("disk");
    File::create(&disk).unwrap().set_len(made_up::SIZE - 512).unwrap();
    let Some(device) = Loop::attach(&disk) else { return };
    folder.refuses(&["a.img", device.path()], &["too small", device.path()]);
    // The file behind it is in use as well.
    folder.refuses(&["a.img", "disk"], &["shows", "losetup"]);
    drop(device);
    File::options().write(true).open(&disk).unwrap().set_len(40 * MIB).unwrap();
    let Some(device) = Loop::attach(&disk) else { return };
    // Held by somebody who shows nowhere in sysfs, as in another mount namespace.
    let held = hold(Path::new(device.path()));
    folder.refuses(
        &["a.img", device.path()],
        &["in use by something that does not show", device.path()],
    );
    drop(held);
}

#[test]
fn a_mounted_loop_device_is_refused_and_stays_as_it_is() {
    let folder = Folder::new();
    let disk = folder.at("disk");
    File::create(&disk).unwrap().set_len(40 * MIB).unwrap();
    let mkfs = Command::new("mke2fs")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-q", "-F"])
        .arg(&disk)
        .status();
    assert!(mkfs.expect("mke2fs of package e2fsprogs").success());
    let Some(device) = Loop::attach(&disk) else { return };
    let target = folder.at("mnt");
    let Some(_mounted) = device.mount(&target) else { return };
    let before = fs::read(&disk).unwrap();
    folder.refuses(&["a.img", device.path()], &["is mounted on", "mnt", "umount"]);
    assert!(fs::read(&disk).unwrap() == before);
}

fn hold(path: &Path) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
    File::options().read(true).write(true).custom_flags(exclusive).open(path).unwrap()
}
