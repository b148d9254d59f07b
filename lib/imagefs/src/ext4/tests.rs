use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::external_tools;
use super::super::tree::Node;
use super::*;

const MIB: u64 = 1 << 20;

fn options(size: u64) -> Options {
    let uuid = *b"\x12\x34\x56\x78\x9a\xbc\xde\xf0\x01\x23\x45\x67\x89\xab\xcd\xef";
    Options { size, uuid, label: "data".into(), time: 1_700_000_000, quotas: true }
}

fn image(work: &Path, options: &Options) -> PathBuf {
    let path = work.join("image");
    let mut file = File::create(&path).unwrap();
    file.set_len(options.size).unwrap();
    write(options, &mut file).unwrap();
    path
}

fn e2fsck(image: &Path) {
    external_tools::run("e2fsck", "e2fsprogs", &["-fn".into(), image.into()]);
}

#[test]
fn e2fsck_finds_nothing_at_any_size() {
    let work = tempfile::tempdir().unwrap();
    for size in [SIZE_MIN, SIZE_MIN + 4096, 16 * MIB, 100 * MIB, SIZE_MAX - 4096, SIZE_MAX] {
        for quotas in [true, false] {
            e2fsck(&image(work.path(), &Options { quotas, ..options(size) }));
        }
    }
}

#[test]
fn dumpe2fs_says_what_was_given() {
    let work = tempfile::tempdir().unwrap();
    let image = image(work.path(), &options(16 * MIB));
    let text = external_tools::run("dumpe2fs", "e2fsprogs", &["-h".into(), image.into()]);
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
        ("Inode count:", "8192"),
        ("User quota inode:", "3"),
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
        external_tools::run("debugfs", "e2fsprogs", &args)
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
        external_tools::run("resize2fs", "e2fsprogs", &["-f".into(), image.clone().into()]);
        e2fsck(&image);
        let text = external_tools::run("dumpe2fs", "e2fsprogs", &["-h".into(), image.into()]);
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
    // debugfs does not keep account.
    let image = image(work.path(), &Options { quotas: false, ..options(16 * MIB) });
    let from = work.path().join("from");
    std::fs::write(&from, vec![7; 3_000_000]).unwrap();
    for request in ["mkdir d".into(), format!("write {} d/f", from.display())] {
        let args = ["-w".into(), "-R".into(), request.into(), image.clone().into()];
        external_tools::run("debugfs", "e2fsprogs", &args);
    }
    e2fsck(&image);
    let to = work.path().join("to");
    let dump = format!("dump d/f {}", to.display());
    external_tools::run("debugfs", "e2fsprogs", &["-R".into(), dump.into(), image.into()]);
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

/// A tree as it goes onto a data partition, and more than that.
fn tree() -> Tree {
    let mut tree = Tree::new(0);
    let mut add = |path: &str, kind: Kind, mode: u16, uid: u32| {
        tree.insert(path, Node::new(kind, mode).owned_by(uid, uid + 1)).unwrap();
    };
    let file = |bytes: &[u8]| Kind::File(bytes.into());
    add("ferrite", Kind::Dir, 0o755, 0);
    add("ferrite/settings", file(b"ferrite-settings 1\n"), 0o644, 0);
    add("ferrite/empty", file(b""), 0o600, 0);
    add("ferrite/secrets", Kind::Dir, 0o700, 0);
    add("workloads", Kind::Dir, 0o711, 0);
    add("workloads/face", Kind::Dir, 0o700, 41_234);
    add("workloads/face/large", file(&[7; 3_000_001]), 0o640, 141_234);
    add("workloads/face/block", file(&[9; BLOCK]), 0o755, 41_234);
    tree
}

fn image_of(work: &Path, options: &Options, tree: &Tree) -> PathBuf {
    let path = work.join("image");
    let file = File::create(&path).unwrap();
    file.set_len(options.size).unwrap();
    for (at, bytes) in blocks(options, tree).unwrap() {
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, at).unwrap();
    }
    path
}

#[test]
fn files_have_their_bytes_owners_and_modes() {
    let work = tempfile::tempdir().unwrap();
    let image = image_of(work.path(), &options(16 * MIB), &tree());
    e2fsck(&image);
    let debugfs = |request: &str| {
        let args = ["-R".into(), request.into(), image.clone().into()];
        external_tools::run("debugfs", "e2fsprogs", &args)
    };
    let list = debugfs("ls -p /workloads/face");
    for line in [
        "/040700/41234/41235/.//",
        "/100640/141234/141235/large/3000001/",
        "/100755/41234/41235/block/4096/",
    ] {
        assert!(list.contains(line), "no {line} in {list}");
    }
    let list = debugfs("ls -p /ferrite");
    for line in ["/100644/0/1/settings/19/", "/100600/0/1/empty/0/", "/040700/0/1/secrets//"] {
        assert!(list.contains(line), "no {line} in {list}");
    }
    let to = work.path().join("to");
    debugfs(&format!("dump /workloads/face/large {}", to.display()));
    assert!(std::fs::read(to).unwrap() == vec![7; 3_000_001]);
}

/// e2fsck counts for itself what each user has, and the tools of the quota format read ours.
#[test]
fn what_each_user_has_is_accounted_for() {
    let work = tempfile::tempdir().unwrap();
    let mut tree = tree();
    // More users than one leaf of the tree of quotas holds.
    for user in 0..40_u32 {
        let node = Node::new(Kind::File(vec![1; 5000].into()), 0o600).owned_by(user * 70_001, 0);
        tree.insert(&format!("workloads/{user}"), node).unwrap();
    }
    let image = image_of(work.path(), &options(16 * MIB), &tree);
    e2fsck(&image);
    let list = ["-R".into(), "list_quota user".into(), image.clone().into()];
    let text = external_tools::run("debugfs", "e2fsprogs", &list);
    let row = |user: u32| {
        let line = text.lines().find(|l| l.split_whitespace().next() == Some(&user.to_string()));
        line.map(|line| line.split_whitespace().map(String::from).collect::<Vec<_>>())
    };
    // Used bytes, their two limits, used inodes, their two limits.
    let large = row(141_234).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(large[1..7], ["3002368", "0", "0", "1", "0", "0"], "{text}");
    assert_eq!(row(39 * 70_001).unwrap()[1..5], ["8192", "0", "0", "1"], "{text}");
    // Somebody who has it wrong is found out.
    let wrong = ["-w".into(), "-R".into(), "sif workloads/1 uid 9".into(), image.clone().into()];
    external_tools::run("debugfs", "e2fsprogs", &wrong);
    let check = std::process::Command::new("e2fsck")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .arg("-fn")
        .arg(&image)
        .output()
        .unwrap();
    assert!(!check.status.success(), "{check:?}");
}

#[test]
fn one_with_files_grows_and_takes_more() {
    let work = tempfile::tempdir().unwrap();
    let grown = |quotas| {
        let image = image_of(work.path(), &Options { quotas, ..options(16 * MIB) }, &tree());
        File::options().write(true).open(&image).unwrap().set_len(900 * MIB).unwrap();
        external_tools::run("resize2fs", "e2fsprogs", &["-f".into(), image.clone().into()]);
        e2fsck(&image);
        image
    };
    grown(true);
    // debugfs does not keep account.
    let image = grown(false);
    let from = work.path().join("from");
    std::fs::write(&from, vec![1; 50_000_000]).unwrap();
    let request = format!("write {} workloads/face/more", from.display());
    external_tools::run(
        "debugfs",
        "e2fsprogs",
        &["-w".into(), "-R".into(), request.into(), image.clone().into()],
    );
    e2fsck(&image);
}

#[test]
fn what_does_not_fit_is_refused_with_both_sizes() {
    let mut tree = tree();
    tree.file("huge", 0o644, vec![1; 20_000_000]).unwrap();
    let error = blocks(&options(16 * MIB), &tree).unwrap_err().to_string();
    assert!(error.contains("23027712") && error.contains("room for"), "{error}");
    let work = tempfile::tempdir().unwrap();
    e2fsck(&image_of(work.path(), &options(32 * MIB), &tree));
    tree.symlink("link", "huge").unwrap();
    assert!(blocks(&options(32 * MIB), &tree).is_err());
    let mut names = Tree::new(0);
    for number in 0..20 {
        names.file(&format!("d/{}{number}", "x".repeat(250)), 0o644, vec![]).unwrap();
    }
    assert!(blocks(&options(32 * MIB), &names).unwrap_err().to_string().contains("/d has more"));
}
