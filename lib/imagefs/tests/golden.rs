//! The same files have given the same bytes since version 0.1: what a device has on its medium, and
//! what a delta begins with, is compared with hashes of these bytes.

use std::io::Cursor;

use imagefs::tree::{Kind, Node, Tree};
use imagefs::{cpio, erofs, ext4, fat};
use sha2::{Digest, Sha256};

const UUID: [u8; 16] = *b"0123456789abcdef";

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files of every kind and size class, owners of 16 and 32 bits.
fn tree() -> Tree {
    let mut tree = Tree::new(1_700_000_000);
    tree.dir("empty", 0o1777).unwrap();
    tree.file("etc/hostname", 0o644, b"camera\n".as_slice()).unwrap();
    tree.file("etc/none", 0o600, b"".as_slice()).unwrap();
    let large: Vec<u8> = (0..300_000u32).map(|at| (at * 31 + at / 251) as u8).collect();
    let node = Node::new(Kind::File(large.into()), 0o4755);
    tree.insert("usr/bin/large", node.clone().owned_by(70_000, 5)).unwrap();
    tree.insert("usr/bin/twin", node.owned_by(5, 70_000)).unwrap();
    for number in 0..100 {
        tree.file(&format!("many/a file with number {number}"), 0o640, vec![number; 40]).unwrap();
    }
    tree
}

#[test]
fn erofs_has_the_bytes_of_0_1() {
    let mut tree = tree();
    tree.symlink("etc/name", "hostname").unwrap();
    tree.insert("dev/x", Node::new(Kind::CharDevice { major: 5, minor: 300 }, 0o600)).unwrap();
    let mut image = Vec::new();
    erofs::write(&tree, UUID, &mut image).unwrap();
    assert_eq!(hash(&image), "92c4c412fb78b0805ab7f6ea674a5ea3264b6b621cc471ccc5b719ec24ec5e4a");
}

#[test]
fn cpio_has_the_bytes_of_0_1() {
    let mut archive = Vec::new();
    cpio::write(&tree(), &mut archive).unwrap();
    assert_eq!(hash(&archive), "124deec3acbe0d73166fb86361c6b574050998e4a29d1c23150b9a2bd07fb6f8");
}

#[test]
fn ext4_has_the_bytes_of_0_1() {
    for (quotas, expected) in [
        (true, "4b4445cfb2b692de0f5ae7fcbff14bceefa7b6773ec41fb9148c4aac06498f57"),
        (false, "b01e734300381cb6445ab928aa1398bfd2b72d45aeeb03add126a64311e27c82"),
    ] {
        let label = "data".to_owned();
        let options =
            ext4::Options { size: 16 << 20, uuid: UUID, label, time: 1_700_000_000, quotas };
        let mut image = vec![0; 16 << 20];
        for (at, bytes) in ext4::blocks(&options, &tree()).unwrap() {
            image[at as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        assert_eq!(hash(&image), expected, "quotas: {quotas}");
    }
    let mut empty = Cursor::new(vec![0; 16 << 20]);
    let options = ext4::Options {
        size: 16 << 20,
        uuid: UUID,
        label: "sixteen letters.".into(),
        time: 7,
        quotas: true,
    };
    ext4::write(&options, &mut empty).unwrap();
    assert_eq!(
        hash(empty.get_ref()),
        "09a659957f561a7c16a37f014cad8cac00c78b0daac9b814b597338605ec6543"
    );
}

#[test]
fn fat_has_the_bytes_of_0_1() {
    for (size, expected) in [
        (8 << 20, "2f4283b45f819c4605c69cd0eb22f986ae8dc603aad0904f66d62a726226a287"),
        (512 << 20, "408e3736110c9867a93f5bea4724b48bbeea4ffb8504fad82fbe21f37b76ff56"),
    ] {
        let options = fat::Options {
            size,
            reserved_sectors: 32,
            file_alignment: 4096,
            volume_id: 0x1234_5678,
            label: *b"BOOT       ",
        };
        let mut image = Vec::new();
        fat::write(&tree(), &options, &mut image).unwrap();
        // The files all lie near the start.
        assert_eq!(hash(&image[..8 << 20]), expected, "{size} bytes");
    }
}
