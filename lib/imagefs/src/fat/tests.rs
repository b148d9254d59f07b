use std::path::Path;

use proptest::prelude::*;

use super::super::external_tools;
use super::super::fat_reader::FatVolume;
use super::*;

const MIB: u64 = 1 << 20;

fn options(size: u64, reserved_sectors: u16) -> Options {
    Options {
        size,
        reserved_sectors,
        file_alignment: SECTOR,
        volume_id: 0x1234_ABCD,
        label: *b"FIRMWARE   ",
    }
}

fn image(tree: &Tree, options: &Options) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(tree, options, &mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, options.size);
    bytes
}

/// fsck.fat finds nothing, and both our reader and mtools read every file back.
fn check(tree: &Tree, options: &Options) -> Vec<u8> {
    let bytes = image(tree, options);
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("image");
    std::fs::write(&file, &bytes).unwrap();
    let text = external_tools::run("fsck.fat", "dosfstools", &["-nv".into(), file.clone().into()]);
    assert!(!text.contains("differ") && !text.contains("ixed"), "{text}");
    let out = work.path().join("out");
    std::fs::create_dir(&out).unwrap();
    if tree.count() > 1 {
        let args = ["-snmi".into(), file.into(), "::*".into(), out.clone().into()];
        external_tools::run("mcopy", "mtools", &args);
    }
    let entries = FatVolume::open(&bytes).unwrap().entries().unwrap();
    assert_eq!(entries.len() + 1, tree.count());
    for (path, node) in tree.iter().skip(1) {
        let ours = entries.iter().find(|entry| entry.path == path).unwrap();
        let copied: &Path = &out.join(path);
        match &node.kind {
            Kind::File(content) => {
                let content = content.bytes();
                assert!(std::fs::read(copied).unwrap() == content, "{path}");
                assert!(ours.bytes.as_deref() == Some(content), "{path}");
            }
            _ => assert!(copied.is_dir() && ours.bytes.is_none(), "{path}"),
        }
    }
    bytes
}

fn boot_files() -> Tree {
    let mut tree = Tree::new(0);
    tree.file("boot.scr", 0o644, vec![1; 1500]).unwrap();
    tree.file("kernel", 0o644, vec![2; 1_234_567]).unwrap();
    tree.file("empty", 0o644, &b""[..]).unwrap();
    tree.file("bcm2710-rpi-3-b.dtb", 0o644, vec![3; 512]).unwrap();
    tree.file("bcm2710-rpi-3-b-plus.dtb", 0o644, vec![4; 513]).unwrap();
    tree.file("UPPER.TXT", 0o644, vec![5; 2048]).unwrap();
    tree.file("overlays/one/two/README", 0o644, vec![6; 3]).unwrap();
    tree.dir("none", 0o755).unwrap();
    for number in 0..200 {
        tree.file(&format!("many/file number {number:03}.bin"), 0o644, vec![7; number]).unwrap();
    }
    tree
}

#[test]
#[ignore = "needs dosfstools and mtools: `just unit`"]
fn volumes_of_both_types_and_all_sizes_hold_their_files() {
    for (size, reserved) in [
        (3 * MIB, 1),
        (8 * MIB, 32),
        (40 * MIB, 1),
        (200 * MIB, 4),
        (512 * MIB, 8),
        (600 * MIB, 32),
    ] {
        let bytes = check(&boot_files(), &options(size, reserved));
        let kind = FatVolume::open(&bytes).unwrap().kind();
        assert_eq!(kind == FatType::Fat32, size >= 512 * MIB);
    }
}

#[test]
#[ignore = "needs dosfstools and mtools: `just unit`"]
fn aligned_files_share_no_block_with_anything() {
    let options = Options { file_alignment: 4096, ..options(8 * MIB, 32) };
    let bytes = check(&boot_files(), &options);
    let at = |content: u8| {
        let block = |block: &[u8]| block.starts_with(&[content; 512]);
        bytes.chunks_exact(4096).position(block).map(|index| index * 4096)
    };
    // The shortest file has its block for itself.
    let alone = at(3).expect("it begins a block");
    assert!(bytes[alone + 512..alone + 4096].iter().all(|byte| *byte == 0));
    assert!(at(1).is_some() && at(4).is_some() && at(5).is_some());
}

#[test]
fn reserved_sectors_have_room_for_the_boot_state() {
    let bytes = image(&boot_files(), &options(8 * MIB, 32));
    assert_eq!(bytes[14..16], [32, 0]);
    assert!(bytes[SECTOR..32 * SECTOR].iter().all(|byte| *byte == 0));
    // The FAT begins right behind them.
    assert_eq!(bytes[32 * SECTOR..][..4], [0xF8, 0xFF, 0xFF, 0xFF]);
}

#[test]
#[ignore = "needs dosfstools and mtools: `just unit`"]
fn label_and_serial_number_are_those_given() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("image");
    for size in [8 * MIB, 512 * MIB] {
        std::fs::write(&file, image(&Tree::new(0), &options(size, 32))).unwrap();
        let text = external_tools::run("minfo", "mtools", &["-i".into(), file.clone().into()]);
        assert!(text.contains("1234ABCD"), "{text}");
        assert!(text.contains("\"FIRMWARE   \""), "{text}");
        let text = external_tools::run("mlabel", "mtools", &["-si".into(), file.clone().into()]);
        assert!(text.contains("FIRMWARE"), "{text}");
    }
}

#[test]
fn impossible_sizes_and_labels_are_refused() {
    let refused = |options: &Options| write(&Tree::new(0), options, &mut Vec::new()).is_err();
    for size in [0, 512, 8 * MIB + 1, MIB, 2 * MIB, 1 << 42] {
        assert!(refused(&options(size, 1)), "{size}");
    }
    assert!(refused(&options(8 * MIB, 0)));
    assert!(refused(&options(512 * MIB, 7)));
    assert!(refused(&options(8 * MIB, 65_535)));
    assert!(refused(&Options { label: *b"lower      ", ..options(8 * MIB, 1) }));
}

#[test]
fn what_fat_cannot_hold_is_refused() {
    let refused = |tree: &Tree| write(tree, &options(8 * MIB, 1), &mut Vec::new()).is_err();
    let with = |names: &[&str]| {
        let mut tree = Tree::new(0);
        for name in names {
            tree.file(name, 0o644, &b"x"[..]).unwrap();
        }
        tree
    };
    assert!(refused(&with(&["kernel", "Kernel"])));
    assert!(refused(&with(&["a:b"])));
    assert!(!refused(&with(&["a/kernel", "b/Kernel"])));
    let mut link = Tree::new(0);
    link.symlink("a", "b").unwrap();
    assert!(refused(&link));
    let mut large = Tree::new(0);
    large.file("a", 0o644, vec![0; 8 << 20]).unwrap();
    assert!(refused(&large));
    let names: Vec<String> = (0..300).map(|n| format!("long name {n}")).collect();
    assert!(refused(&with(&names.iter().map(String::as_str).collect::<Vec<_>>())));
}

#[test]
#[ignore = "needs dosfstools and mtools: `just unit`"]
fn the_last_cluster_can_be_used() {
    let empty = Geometry::choose(&options(8 * MIB, 32)).unwrap();
    let room = empty.clusters * empty.cluster_bytes();
    let mut tree = Tree::new(0);
    tree.file("all", 0o644, vec![9; room]).unwrap();
    check(&tree, &options(8 * MIB, 32));
    tree.file("more", 0o644, vec![9; 1]).unwrap();
    assert!(write(&tree, &options(8 * MIB, 32), &mut Vec::new()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    #[ignore = "needs dosfstools and mtools: `just unit`"]
    fn any_files_come_back(
        files in proptest::collection::vec(
            ("[A-Za-z0-9_+.-]{0,40}[a-z]([/][A-Za-z .]{0,20}[a-z~]){0,3}", 0usize..20_000), 0..60),
        mib in 3u64..64,
        reserved in 1u16..64,
    ) {
        let mut tree = Tree::new(0);
        let mut folded = std::collections::BTreeSet::new();
        for (path, size) in files {
            let path = path.trim_start_matches('.').replace("/.", "/x").replace("/ ", "/x");
            // Names that clash are refused; what_fat_cannot_hold_is_refused tests those.
            if folded.insert(path.to_ascii_uppercase()) {
                let lower = path.rsplit_once('/').map(|(dir, name)| format!("{}/{name}", dir.to_lowercase()));
                let _ = tree.file(&lower.unwrap_or(path), 0o644, vec![size as u8; size]);
            }
        }
        let clash = {
            let mut seen = std::collections::BTreeSet::new();
            !tree.iter().all(|(path, _)| seen.insert(path.to_ascii_uppercase()))
        };
        if !clash {
            check(&tree, &options(mib * MIB, reserved));
        }
    }
}
