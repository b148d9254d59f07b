//! What is wrong on the command line's side: one clear message, exit code 1, nothing changed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::world::{AMD64, PROJECT, World, program_for};

#[test]
fn a_misspelt_key_is_named_with_its_line_and_the_nearest_one() {
    let world = World::new();
    world.edit("demo/demo.toml", "commit_after", "commit_aftr");
    world.refuses(
        &mut world.build(&[]),
        &["demo/demo.toml:15", "`commit_aftr`", "did you mean `commit_after`?"],
    );
    world.refuses(&mut world.imager(&["lock", "--image", "demo/demo.toml"]), &["demo.toml:15"]);
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_its_line() {
    let world = World::new();
    world.edit("demo/demo.toml", "version = \"1.0.0\"", "version = 100");
    world.refuses(&mut world.build(&[]), &["demo/demo.toml:4", "expected text in quotes, not 100"]);
}

#[test]
fn text_that_is_no_toml_is_named_with_its_line() {
    let world = World::new();
    world.edit("demo/demo.toml", "debug = true", "debug = = true");
    world.refuses(&mut world.build(&[]), &["demo/demo.toml:8"]);
}

#[test]
fn a_misspelt_key_of_a_board_file_is_named() {
    let world = World::new();
    let board = fs::read_to_string(format!("{}/board-configs/qemu-arm64.toml", PROJECT));
    let board = board.unwrap().replace("[partitions]\nfirmware", "[partitions]\nfirmwear");
    fs::write(world.at("other.toml"), board).unwrap();
    let mut build = world.imager(&["build", "--image", "demo/demo.toml", "--out", "out"]);
    world.refuses(
        build.args(["--board", "other.toml"]),
        &["other.toml:", "`firmwear`", "did you mean `firmware`?"],
    );
}

#[test]
fn an_unknown_board_is_answered_with_the_nearest_one() {
    let world = World::new();
    let mut build = world.imager(&["build", "--image", "demo/demo.toml", "--out", "out"]);
    build.current_dir(PROJECT).args(["--keys".as_ref(), world.at("keys").as_os_str()]);
    world.refuses(
        build.args(["--board", "qemu-arm46"]),
        &["no board `qemu-arm46`", "did you mean `qemu-arm64`?"],
    );
}

#[test]
fn signed_boot_files_need_a_board_that_checks_them_and_a_key_that_is_made_once() {
    let world = World::new();
    let text = fs::read_to_string(world.at("demo/demo.toml")).unwrap();
    let text = format!("{text}[secure_boot]\nraspberry_pi = true\n");
    fs::write(world.at("demo/demo.toml"), text).unwrap();
    world.refuses(
        &mut world.build(&[]),
        &["[secure_boot] `raspberry_pi`", "board qemu-arm64", "leave it out"],
    );
    let board = format!("{PROJECT}/board-configs/rpi4.toml");
    let mut build = world.imager(&["build", "--image", "demo/demo.toml", "--out", "out"]);
    world.refuses(
        build.args(["--board", &board]),
        &["keys/raspberry-pi-secure-boot.pem", "imager keygen --raspberry-pi-secure-boot"],
    );
    let make = || world.imager(&["keygen", "--raspberry-pi-secure-boot", "--out", "keys"]);
    assert!(make().output().unwrap().status.success());
    let key = fs::metadata(world.at("keys/raspberry-pi-secure-boot.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    world.refuses(&mut make(), &["raspberry-pi-secure-boot.pem exists", "--out"]);
    fs::set_permissions(
        world.at("keys/raspberry-pi-secure-boot.pem"),
        Permissions::from_mode(0o644),
    )
    .unwrap();
    let mut build = world.imager(&["build", "--image", "demo/demo.toml", "--out", "out"]);
    world.refuses(build.args(["--board", &board]), &["chmod 600"]);
}

#[test]
fn missing_files_are_named() {
    let world = World::new();
    let mut none = world.imager(&["build", "--image", "none.toml", "--out", "out"]);
    world.refuses(none.args(["--board", "qemu-arm64"]), &["none.toml", "cannot be read"]);
    world.refuses(&mut world.build(&["--keys", "nokeys"]), &["nokeys", "imager keygen"]);
    world.refuses(&mut world.build(&["--device", "nodevice"]), &["nodevice", "./do device"]);
    world.refuses(&mut world.imager(&["inspect", "none.img"]), &["none.img"]);
    world.refuses(&mut world.imager(&["run", "none.img"]), &["none.img"]);
    fs::remove_file(world.at("demo/face/golden.png")).unwrap();
    world.refuses(&mut world.build(&[]), &["demo/face/golden.png", "cannot be read"]);
}

#[test]
fn programs_that_are_none_are_refused() {
    let world = World::new();
    fs::write(world.at("device/ota"), "#!/bin/sh\n").unwrap();
    world.refuses(&mut world.build(&[]), &["device/ota", "is not a Linux program"]);
    fs::write(world.at("device/ota"), program_for(AMD64)).unwrap();
    world.refuses(&mut world.build(&[]), &["device/ota", "another processor", "(arm64)"]);
}

#[test]
fn a_lock_out_of_step_is_an_error_under_locked() {
    let world = World::new();
    fs::write(world.at("demo/face/golden.json"), "{}").unwrap();
    world.refuses(
        &mut world.build(&["--locked"]),
        &["demo/demo.lock", "face/golden.json has changed", "imager lock"],
    );
    fs::remove_file(world.at("demo/demo.lock")).unwrap();
    world.refuses(&mut world.build(&["--locked"]), &["demo/demo.lock", "imager lock"]);
    fs::write(world.at("demo/demo.lock"), "format = 1\nnonsense = 2\n").unwrap();
    world.refuses(&mut world.build(&[]), &["demo/demo.lock"]);
}

#[test]
fn a_key_that_others_may_read_is_not_used() {
    let world = World::new();
    let key = world.at("keys/image.key");
    for mode in [0o640, 0o604] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        world.refuses(&mut world.build(&[]), &["keys/image.key", "chmod 600"]);
    }
}

#[test]
fn keys_are_never_overwritten() {
    let world = World::new();
    world.refuses(&mut world.imager(&["keygen", "--out", "keys"]), &["keys"]);
    fs::remove_file(world.at("keys/targets.pub")).unwrap();
    world.refuses(&mut world.imager(&["keygen", "--out", "keys"]), &["keys"]);
}

#[test]
#[ignore = "needs sgdisk: `just unit`"]
fn files_that_are_no_images_are_told_from_images() {
    let world = World::new();
    fs::write(world.at("empty"), "").unwrap();
    fs::write(world.at("text"), "hello\n").unwrap();
    fs::write(
        world.at("noise"),
        (0..1 << 20).map(|i: u32| (i.wrapping_mul(i) / 7) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    // A disk with a partition table of somebody else.
    let other = std::process::Command::new("sh")
        .args(["-c", "truncate -s 8M other && sgdisk --clear --new=1:2048:4096 other"])
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .current_dir(world.at(""))
        .output()
        .unwrap();
    assert!(other.status.success(), "this test needs sgdisk from the package gdisk: {other:?}");
    for file in ["empty", "text", "noise", "other", "demo"] {
        world.refuses(
            &mut world.imager(&["inspect", file]),
            &[file, "is no Ferrite image, update, bundle"],
        );
    }
    for file in ["empty", "text", "noise"] {
        world.refuses(&mut world.imager(&["run", file]), &[file, "is not a disk image"]);
    }
    world.refuses(&mut world.imager(&["run", "demo"]), &["demo"]);
    for file in ["empty", "text", "noise"] {
        let mut publish = world.imager(&["publish", "--repo", "repo"]);
        world.refuses(publish.arg(file), &[file]);
    }
}

/// Adds this to the demo's image file.
fn add(world: &World, text: &str) {
    let image = world.at("demo/demo.toml");
    let before = fs::read_to_string(&image).unwrap();
    fs::write(image, format!("{before}\n{text}")).unwrap();
}

#[test]
fn what_is_built_does_not_go_into_what_is_built_next() {
    let world = World::new();
    add(&world, "[[file]]\nsource = \"..\"\npath = \"/usr/share/all\"\n");
    let words = ["`source = \"..\"` takes \"out\" along", "add `exclude = [\"out\"]`"];
    world.refuses(&mut world.build(&[]), &words);
    fs::create_dir(world.at("out")).unwrap();
    world.refuses(&mut world.build(&[]), &words);
    let world = World::new();
    add(&world, "[[file]]\nsource = \"files/x\"\npath = \"/usr/share/x\"\n");
    fs::create_dir(world.at("demo/files")).unwrap();
    fs::write(world.at("demo/files/x"), "x").unwrap();
    world.refuses(&mut world.build_to("demo/files"), &["files/x lies in demo/files", "elsewhere"]);
    let world = World::new();
    add(&world, "[[file]]\nsource = \".\"\npath = \"/usr/share/all\"\n");
    fs::write(world.at("demo/demo-qemu-arm64-0.9.0.update"), "FERRSLOT").unwrap();
    let words = ["takes \"demo-qemu-arm64-0.9.0.update\" along", "exclude"];
    world.refuses(&mut world.build_to("demo"), &words);
}
