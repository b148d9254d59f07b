use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::foreign;
use super::*;

const MIB: u64 = 1 << 20;

fn options(size: u64) -> Options {
    let uuid = *b"\x12\x34\x56\x78\x9a\xbc\xde\xf0\x01\x23\x45\x67\x89\xab\xcd\xef";
    Options { size, uuid, label: "data".into(), time: 1_700_000_000 }
}

fn image(work: &Path, options: &Options) -> PathBuf {
    let path = work.join("image");
    let mut file = File::create(&path).unwrap();
    file.set_len(options.size).unwrap();
    write(options, &mut file).unwrap();
    path
}

fn e2fsck(image: &Path) {
    foreign::run("e2fsck", "e2fsprogs", &["-fn".into(), image.into()]);
}

#[test]
fn e2fsck_finds_nothing_at_any_size() {
    let work = tempfile::tempdir().unwrap();
    for size in [SIZE_MIN, SIZE_MIN + 4096, 16 * MIB, 100 * MIB, SIZE_MAX - 4096, SIZE_MAX] {
        e2fsck(&image(work.path(), &options(size)));
    }
}

#[test]
fn dumpe2fs_says_what_was_given() {
    let work = tempfile::tempdir().unwrap();
    let image = image(work.path(), &options(16 * MIB));
    let text = foreign::run("dumpe2fs", "e2fsprogs", &["-h".into(), image.into()]);
    for (key, value) in [
        ("Filesystem volume name:", "data"),
        ("Filesystem UUID:", "12345678-9abc-def0-0123-456789abcdef"),
        ("Filesystem state:", "clean"),
        ("Block count:", "4096"),
        ("Block size:", "4096"),
        ("Reserved GDT blocks:", "31"),
        ("Inode size:", "256"),
        ("Journal inode:", "8"),
        ("Total journal blocks:", "1024"),
        ("Checksum type:", "crc32c"),
        ("Filesystem created:", "Tue Nov 14 22:13:20 2023"),
    ] {
        let line = text.lines().find(|line| line.starts_with(key));
        let line = line.unwrap_or_else(|| panic!("{key} is missing in {text}"));
        assert_eq!(line[key.len()..].trim(), value, "{line}");
    }
}

#[test]
fn its_root_is_empty_and_belongs_to_root() {
    let work = tempfile::tempdir().unwrap();
    let image = image(work.path(), &options(16 * MIB));
    let debugfs = |request: &str| {
        let args = ["-R".into(), request.into(), image.clone().into()];
        foreign::run("debugfs", "e2fsprogs", &args)
    };
    let list = debugfs("ls -p /");
    let lines: Vec<&str> = list.lines().filter(|line| !line.is_empty()).collect();
    let expected = ["/2/040755/0/0/.//", "/2/040755/0/0/..//", "/11/040700/0/0/lost+found//"];
    assert_eq!(lines, expected);
    assert!(debugfs("ls -p /lost+found").starts_with("/11/040700/0/0/.//"));
}

/// Growing offline uses the same reserved blocks as the kernel does online.
#[test]
fn resize2fs_grows_it_to_many_gigabytes() {
    let work = tempfile::tempdir().unwrap();
    for size in [300 * MIB, 7 * 1024 * MIB, 20 * 1024 * MIB] {
        let image = image(work.path(), &options(16 * MIB));
        File::options().write(true).open(&image).unwrap().set_len(size).unwrap();
        foreign::run("resize2fs", "e2fsprogs", &["-f".into(), image.clone().into()]);
        e2fsck(&image);
        let text = foreign::run("dumpe2fs", "e2fsprogs", &["-h".into(), image.into()]);
        let blocks = format!("Block count:              {}", size / BLOCK as u64);
        assert!(text.contains(&blocks), "{text}");
        let taken = size.div_ceil(8 * 1024 * MIB) - 1;
        let left = format!("Reserved GDT blocks:      {}", u64::from(RESERVED_GDT) - taken);
        assert!(text.contains(&left), "{text}");
    }
}

#[test]
fn files_can_be_written_into_it() {
    let work = tempfile::tempdir().unwrap();
    let image = image(work.path(), &options(16 * MIB));
    let from = work.path().join("from");
    std::fs::write(&from, vec![7; 3_000_000]).unwrap();
    for request in ["mkdir d".into(), format!("write {} d/f", from.display())] {
        let args = ["-w".into(), "-R".into(), request.into(), image.clone().into()];
        foreign::run("debugfs", "e2fsprogs", &args);
    }
    e2fsck(&image);
    let to = work.path().join("to");
    let dump = format!("dump d/f {}", to.display());
    foreign::run("debugfs", "e2fsprogs", &["-R".into(), dump.into(), image.into()]);
    assert!(std::fs::read(to).unwrap() == vec![7; 3_000_000]);
}

#[test]
fn zero_blocks_stay_holes() {
    let work = tempfile::tempdir().unwrap();
    let image = image(work.path(), &options(SIZE_MAX));
    assert!(image.metadata().unwrap().blocks() * 512 < 256 * 1024);
}

#[test]
fn it_is_written_where_the_output_stands_and_always_alike() {
    let mut one = io::Cursor::new(vec![0; 16 << 20]);
    let mut two = io::Cursor::new(vec![0; 17 << 20]);
    two.set_position(MIB);
    write(&options(16 * MIB), &mut one).unwrap();
    write(&options(16 * MIB), &mut two).unwrap();
    assert!(one.get_ref()[..] == two.get_ref()[1 << 20..]);
}

#[test]
fn impossible_sizes_and_labels_are_refused() {
    let refused = |options: &Options| write(options, &mut io::Cursor::new(Vec::new())).is_err();
    for size in [0, SIZE_MIN - 4096, SIZE_MIN + 512, SIZE_MAX + 4096, u64::MAX] {
        assert!(refused(&options(size)), "{size}");
    }
    assert!(refused(&Options { label: "seventeen letters".into(), ..options(16 * MIB) }));
}
