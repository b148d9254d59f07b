use proptest::prelude::*;

use super::super::external_tools;
use super::*;

const UUID: [u8; 16] = *b"0123456789abcdef";

fn image(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = write(tree, UUID, &mut bytes).unwrap();
    assert_eq!(length, bytes.len() as u64);
    assert_eq!(length % BLOCK as u64, 0);
    bytes
}

/// fsck.erofs accepts the image and unpacks the same tree from it.
fn check(tree: &Tree) -> Vec<u8> {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("image");
    let bytes = image(tree);
    std::fs::write(&file, &bytes).unwrap();
    let to = work.path().join("out");
    let mut extract = std::ffi::OsString::from("--extract=");
    extract.push(&to);
    let args = [extract, "--preserve-perms".into(), "--no-preserve-owner".into(), file.into()];
    external_tools::run("fsck.erofs", "erofs-utils", &args);
    external_tools::assert_same(tree, &to);
    bytes
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251 + seed * 7) as u8).collect()
}

#[test]
#[ignore = "needs erofs-utils: `just unit`"]
fn every_size_around_the_limits() {
    let mut tree = Tree::new(0);
    let sizes = [
        0, 1, 31, 32, 33, 2015, 2016, 2017, 2048, 4031, 4032, 4063, 4064, 4065, 4095, 4096, 4097,
        8191, 8192, 8193, 3_000_001,
    ];
    for (seed, size) in sizes.into_iter().enumerate() {
        tree.file(&format!("f{size}"), 0o644, pattern(size, seed)).unwrap();
    }
    check(&tree);
}

#[test]
#[ignore = "needs erofs-utils: `just unit`"]
fn an_empty_tree() {
    assert_eq!(check(&Tree::new(0)).len(), BLOCK);
}

#[test]
#[ignore = "needs erofs-utils: `just unit`"]
fn symlinks_of_every_length() {
    let mut tree = Tree::new(0);
    for length in [1, 32, 33, 2016, 4000, 4063, 4064, 4065, 4094] {
        let target = "abcdefg/".repeat(512)[..length].to_string();
        tree.symlink(&format!("l{length}"), &target).unwrap();
    }
    check(&tree);
}

#[test]
#[ignore = "needs erofs-utils: `just unit`"]
fn directories_of_many_blocks_long_names_and_deep_paths() {
    let mut tree = Tree::new(0);
    tree.dir("empty", 0o1777).unwrap();
    for number in 0..5000 {
        tree.file(&format!("many/a file with the number {number:05}"), 0o600, &b"x"[..]).unwrap();
    }
    for number in 0..300 {
        tree.dir(&format!("long/{number:0>255}"), 0o755).unwrap();
    }
    // `.` and `..` are not the first names of this one.
    for name in ["!", "-", "+x", ".a", "...", "~", "ä"] {
        tree.file(&format!("odd/{name}"), 0o644, &b""[..]).unwrap();
    }
    tree.file(&"d/".repeat(200), 0o644, &b"deep"[..]).unwrap();
    check(&tree);
}

#[test]
#[ignore = "needs erofs-utils: `just unit`"]
fn directories_that_fill_a_block_exactly() {
    // `.` and `..` take 27 bytes, each entry 12 and its name.
    for first in 150..=255 {
        let mut tree = Tree::new(0);
        let mut left = BLOCK - 27;
        let mut number = 0;
        while left >= 12 + 3 {
            let name = if number == 0 { first } else { 255.min(left - 12) };
            tree.file(&format!("d/{number:0>name$}"), 0o644, &b""[..]).unwrap();
            left -= 12 + name;
            number += 1;
        }
        if first % 15 == 0 {
            check(&tree);
        }
    }
}

#[test]
#[ignore = "needs erofs-utils: `just unit`"]
fn large_owners_and_special_modes_use_the_long_inode() {
    let mut tree = Tree::new(1_700_000_000);
    let file = |content: &[u8]| Node::new(Kind::File(content.into()), 0o4755);
    tree.insert("a", file(b"a").owned_by(70_000, 5)).unwrap();
    tree.insert("b", file(&[3; 5000]).owned_by(5, 70_000)).unwrap();
    tree.insert("c", file(b"c").owned_by(65_535, 65_535)).unwrap();
    check(&tree);
    let work = tempfile::tempdir().unwrap();
    let image_file = work.path().join("image");
    std::fs::write(&image_file, image(&tree)).unwrap();
    for (path, owner) in
        [("/a", "70000   Gid: 5"), ("/b", "5   Gid: 70000"), ("/c", "65535   Gid: 65535")]
    {
        let args = [format!("--path={path}").into(), image_file.clone().into()];
        let text = external_tools::run("dump.erofs", "erofs-utils", &args);
        assert!(text.contains(&format!("Uid: {owner}")), "{text}");
        // dump.erofs leaves the set-id bits out; check() has compared them.
        assert!(text.contains("Access: 0755"), "{text}");
        assert!(text.contains("2023-11-14"), "{text}");
    }
}

#[test]
#[ignore = "needs erofs-utils: `just unit`"]
fn the_superblock_says_what_was_given() {
    let mut tree = Tree::new(1_700_000_000);
    let device = Node::new(Kind::CharDevice { major: 5, minor: 300 }, 0o600);
    tree.insert("dev/x", device).unwrap();
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("image");
    std::fs::write(&file, image(&tree)).unwrap();
    let text =
        external_tools::run("dump.erofs", "erofs-utils", &["-s".into(), file.clone().into()]);
    assert!(text.contains("30313233-3435-3637-3839-616263646566"), "{text}");
    assert!(text.contains("sb_csum mtime"), "{text}");
    external_tools::run("fsck.erofs", "erofs-utils", &[file.into()]);
}

#[test]
#[ignore = "needs erofs-utils: `just unit`"]
fn a_flipped_superblock_bit_is_noticed() {
    let mut bytes = image(&Tree::new(0));
    bytes[SUPER_OFFSET + 50] ^= 1;
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("image");
    std::fs::write(&file, bytes).unwrap();
    // fsck.erofs 1.5 ends with 0 in that case, but says it.
    let text = external_tools::run_all("fsck.erofs", "erofs-utils", &[file.into()]);
    assert!(text.contains("checksum"), "{text}");
}

#[test]
#[ignore = "needs erofs-utils: `just unit`"]
fn the_same_bytes_are_stored_once() {
    let mut tree = Tree::new(0);
    let bytes = pattern(1 << 20, 1);
    let single = {
        tree.file("a", 0o644, bytes.clone()).unwrap();
        image(&tree).len()
    };
    tree.file("b", 0o600, bytes.clone()).unwrap();
    tree.file("c/d", 0o600, bytes).unwrap();
    assert_eq!(check(&tree).len(), single);
    tree.file("e", 0o600, pattern(1 << 20, 2)).unwrap();
    assert_eq!(check(&tree).len(), single + (1 << 20));
}

#[test]
fn a_larger_file_leaves_the_other_files_blocks_as_they_are() {
    let tree = |length| {
        let mut tree = Tree::new(0);
        tree.file("a", 0o644, pattern(length, 1)).unwrap();
        tree.file("b", 0o644, pattern(500_000, 2)).unwrap();
        image(&tree)
    };
    let (old, new) = (tree(10_000), tree(20_000));
    let tail = 500_000usize.next_multiple_of(BLOCK);
    assert_eq!(old[old.len() - tail..], new[new.len() - tail..]);
}

fn any_node() -> impl Strategy<Value = Node> {
    let content = prop_oneof![0usize..100, 1900usize..2100, 4000usize..4200, 0usize..40_000];
    let kind = prop_oneof![
        Just(Kind::Dir),
        (content, 0usize..4).prop_map(|(size, seed)| Kind::File(pattern(size, seed).into())),
        "[a-z./]{1,80}".prop_map(Kind::Symlink),
    ];
    // Without the owner's own bits only root could look inside what was unpacked.
    (kind, 0u16..0o1000).prop_map(|(kind, mode)| Node::new(kind, mode | 0o700))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    #[ignore = "needs erofs-utils: `just unit`"]
    fn any_tree_comes_back(
        nodes in proptest::collection::vec(("[a-c!~ä.x]{1,12}(/[a-z]{1,40}){0,4}", any_node()), 0..120),
    ) {
        let mut tree = Tree::new(0);
        for (path, node) in nodes {
            // Paths that clash or that no tree takes are left out; tree.rs tests those.
            let _ = tree.insert(&path, node);
        }
        check(&tree);
        prop_assert_eq!(image(&tree), image(&tree.clone()));
    }
}
