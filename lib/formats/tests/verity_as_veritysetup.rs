//! The hash tree is the one `veritysetup` (Debian: cryptsetup-bin) makes.

use std::io::Write;
use std::process::Command;

use formats::{hex, verity};

#[test]
#[ignore = "needs veritysetup: `just unit`"]
fn root_hash_and_tree_are_those_of_veritysetup() {
    for blocks in [2usize, 128, 129, 1000, 16500] {
        let mut seed = blocks as u32;
        let data: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .take(blocks * 4096)
        .collect();
        let salt = [blocks as u8; 32];
        let tree = verity::build(&data, &salt);

        let dir = tempfile::tempdir().unwrap();
        let (data_path, tree_path) = (dir.path().join("data"), dir.path().join("tree"));
        std::fs::File::create(&data_path).unwrap().write_all(&data).unwrap();
        let output = Command::new("veritysetup")
            .args(["format", "--no-superblock", "--format=1", "--hash=sha256"])
            .args(["--data-block-size=4096", "--hash-block-size=4096"])
            .arg(format!("--salt={}", hex::encode(&salt)))
            .arg(&data_path)
            .arg(&tree_path)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .output()
            .expect("veritysetup must be installed (Debian package cryptsetup-bin)");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let root = text
            .lines()
            .find_map(|line| line.strip_prefix("Root hash:"))
            .expect("veritysetup prints a root hash")
            .trim();
        assert_eq!(hex::encode(&tree.root_hash), root, "{blocks} blocks");
        assert!(
            std::fs::read(&tree_path).unwrap() == tree.bytes,
            "tree of {blocks} blocks differs"
        );
    }
}
