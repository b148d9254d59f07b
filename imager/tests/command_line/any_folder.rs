//! imager brings along what it needs: it works in a folder that has nothing of the project's.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::world::{ARM64, IMG, PROJECT, World, complaint, program_for};

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn boards_are_listed_and_printed_in_a_folder_without_board_files() {
    let world = World::new();
    let list = said(&world.imager(&["boards"]).output().unwrap());
    assert!(list.contains("qemu-arm64 ") && list.contains("rpi5 "), "{list}");
    let printed = said(&world.imager(&["boards", "rpi4"]).output().unwrap());
    assert_eq!(printed, fs::read_to_string(format!("{PROJECT}/board-configs/rpi4.toml")).unwrap());
    complaint(
        &world.imager(&["boards", "rpi44"]).output().unwrap(),
        &["no board `rpi44`", "did you mean `rpi4`?"],
    );
}

#[test]
fn an_image_runs_in_a_folder_without_board_files() {
    let world = World::new();
    let img = "demo-qemu-arm64-1.0.0.img";
    fs::write(world.at(img), [&[0; 512], b"EFI PART".as_slice()].concat()).unwrap();
    fs::write(world.at("u-boot.bin"), vec![0xD5; 1 << 17]).unwrap();
    let run = ["run", img, "--firmware", "u-boot.bin", "--dry-run"];
    let line = said(&world.imager(&run).output().unwrap());
    assert!(line.starts_with("qemu-system-aarch64 -machine virt "), "{line}");
}

#[test]
fn a_board_file_beside_the_image_goes_before_imagers_own() {
    let world = World::new();
    let own = own_board(&world);
    let text = fs::read_to_string(&own).unwrap();
    fs::write(&own, text.replace("[partitions]\nfirmware", "[partitions]\nfirmwear")).unwrap();
    world.refuses(&mut world.build(&[]), &["board-configs/qemu-arm64.toml:", "`firmwear`"]);
    fs::write(&own, text).unwrap();
    // From elsewhere, too.
    let elsewhere = tempfile::tempdir().unwrap();
    let demo = world.at("demo");
    let mut boards = world.imager(&["boards", "--near", demo.to_str().unwrap()]);
    let list = said(&boards.current_dir(elsewhere.path()).output().unwrap());
    assert!(list.lines().any(|l| l.starts_with("qemu-arm64 ") && l.ends_with("mine")), "{list}");
    assert!(list.contains("rpi5 "), "{list}");
}

/// The board file `qemu-arm64` with another description, in the world's own `board-configs`.
fn own_board(world: &World) -> PathBuf {
    let text = fs::read_to_string(format!("{PROJECT}/board-configs/qemu-arm64.toml")).unwrap();
    let text = text.replace("QEMU virt, 64-bit ARM, U-Boot", "mine");
    fs::create_dir(world.at("board-configs")).unwrap();
    let path = world.at("board-configs/qemu-arm64.toml");
    fs::write(&path, text).unwrap();
    path
}

/// `bin/imager` of a release that is unpacked in the world.
fn released(world: &World) -> Command {
    fs::create_dir_all(world.at("release/bin")).unwrap();
    // By another program: what a thread beside this one starts would have the file open for writing
    // for a moment, and nothing starts a file that is (execve(2), `ETXTBSY`).
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_imager")).arg(world.at("release/bin/imager"));
    assert!(copy.status().unwrap().success());
    let mut command = Command::new(world.at("release/bin/imager"));
    command.current_dir(world.at("")).env_remove("FERRITE_DEVICE");
    command
}

#[test]
fn a_release_builds_with_the_devices_programs_that_lie_beside_it() {
    let world = World::new();
    let build = ["build", "--image", "demo/demo.toml", "--board", "qemu-arm64", "--out", "out"];
    let output = released(&world).args(build).output().unwrap();
    complaint(&output, &["../lib/ferrite/device/arm64", "./do device", "--device"]);
    let device = world.at("release/lib/ferrite/device/arm64");
    fs::create_dir_all(device.parent().unwrap()).unwrap();
    fs::rename(world.at("device"), &device).unwrap();
    fs::write(device.join("ota"), "#!/bin/sh\n").unwrap();
    let output = released(&world).args(build).output().unwrap();
    complaint(&output, &["lib/ferrite/device/arm64/ota", "is not a Linux program"]);
    fs::write(device.join("ota"), program_for(ARM64)).unwrap();
    let output = released(&world).args(build).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(world.at(IMG).is_file());
}

#[test]
fn do_alone_lists_the_targets_and_installs_nothing() {
    let output = Command::new(format!("{PROJECT}/do")).env("PATH", "/usr/bin:/bin").output();
    let output = output.unwrap();
    let list = said(&output);
    assert!(list.contains("    demo ") && list.contains("    host "), "{list}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
