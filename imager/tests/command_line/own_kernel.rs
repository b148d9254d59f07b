//! A kernel of the user's own: Debian's, repacked, has to give the image that Debian's packages
//! give, from a folder and from a tarball.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{IMG, PROJECT, World, complaint};

const RELEASE: &str = "7.2.12+deb13-arm64";

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{output:?}");
}

/// The cached files of the kernel's packages, by the hashes in the lock.
fn packages(world: &World) -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = variable("FERRITE_CACHE")
        .map(PathBuf::from)
        .or_else(|| variable("XDG_CACHE_HOME").map(|home| Path::new(&home).join("ferrite")))
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache/ferrite")))
        .unwrap();
    let lock: toml::Table =
        fs::read_to_string(world.at("demo/demo.lock")).unwrap().parse().unwrap();
    let text = |deb: &toml::Value, key: &str| deb[key].as_str().unwrap().to_owned();
    let debs = lock["deb"].as_array().unwrap();
    let found: Vec<_> = debs
        .iter()
        .filter(|deb| {
            text(deb, "name").starts_with("linux-") && text(deb, "architecture") == "arm64"
        })
        .map(|deb| cache.join("files").join(text(deb, "sha256")))
        .collect();
    assert_eq!(found.len(), 3);
    found
}

/// The board file of `qemu-arm64` with the kernel out of this archive.
fn board_file(archive: &str) -> String {
    let text = fs::read_to_string(format!("{PROJECT}/board-configs/qemu-arm64.toml")).unwrap();
    with_archive(&text, &format!("image = \"usr/lib/modules/{RELEASE}/vmlinuz\"\n"), archive)
}

/// A board file with the kernel out of this archive, by these keys.
fn with_archive(text: &str, keys: &str, archive: &str) -> String {
    let is_debians = |line: &str| {
        ["suite = ", "version = ", "packages = "].iter().any(|key| line.starts_with(key))
    };
    let kept: Vec<&str> = text.lines().filter(|line| !is_debians(line)).collect();
    let tail = format!("\n[[kernel.archive]]\npath = {archive:?}\n\n[boot]\n");
    kept.join("\n").replace("[kernel]\n", &format!("[kernel]\n{keys}")).replace("\n[boot]\n", &tail)
}

#[test]
#[ignore = "needs dpkg-deb: `just unit`"]
fn debians_kernel_repacked_gives_the_same_image() {
    let world = World::new();
    // The packages are in the cache then.
    succeeds(&mut world.build_to("first"));
    fs::create_dir(world.at("kernel")).unwrap();
    for package in packages(&world) {
        succeeds(Command::new("dpkg-deb").arg("--extract").arg(package).arg(world.at("kernel")));
    }
    fs::write(world.at("qemu-arm64.toml"), board_file("kernel")).unwrap();
    let build = |out: &str| {
        world.imager(&[
            "build",
            "--image",
            "demo/demo.toml",
            "--board",
            "./qemu-arm64.toml",
            "--out",
            out,
        ])
    };
    succeeds(&mut build("folder"));
    let built = |out: &str| fs::read(world.at(&IMG.replacen("out", out, 1))).unwrap();
    let tar = || {
        let mut tar = Command::new("tar");
        tar.args(["-C", "kernel", "-czf", "kernel.tar.gz", "."]).current_dir(world.at(""));
        tar
    };
    succeeds(&mut tar());
    fs::write(world.at("qemu-arm64.toml"), board_file("kernel.tar.gz")).unwrap();
    // The lock is of the folder.
    let output = build("tarball").arg("--locked").output().unwrap();
    complaint(&output, &["other archives", "imager lock"]);
    succeeds(&mut build("tarball"));
    succeeds(build("tarball").arg("--locked"));
    assert!(built("tarball") == built("folder"), "the tarball gives another image");
    let sbom = fs::read_to_string(world.at("tarball/demo-qemu-arm64-1.0.0.spdx.json")).unwrap();
    let lock = fs::read_to_string(world.at("demo/demo.lock")).unwrap();
    let hash = Command::new("sha256sum").arg(world.at("kernel.tar.gz")).output().unwrap().stdout;
    let hash = String::from_utf8_lossy(&hash[..64]).into_owned();
    assert!(sbom.contains("\"kernel.tar.gz\"") && sbom.contains(&hash), "the SBOM names it");
    assert!(lock.contains(&hash), "the lock pins it");

    // Another archive under the same name.
    fs::write(world.at("kernel/new"), "new").unwrap();
    succeeds(&mut tar());
    let output = build("tarball").arg("--locked").output().unwrap();
    complaint(&output, &["kernel.tar.gz has changed", &hash, "imager lock"]);

    // Last, since asking for Debian's packages again may bring newer ones of the others.
    succeeds(&mut world.build(&[]));
    assert!(built("out") == built("folder"), "Debian's own packages give another image");
}

/// A Jetson's board file for Debian's kernel out of the folder `kernel`. Its boot loader's own part
/// of the image is left out, which needs a UEFI program.
fn jetson(name: &str) -> String {
    let text = fs::read_to_string(format!("{PROJECT}/board-configs/{name}.toml")).unwrap();
    let (text, _) = text.split_once("\n[watchdog]\n").unwrap();
    let (before, behind) = text.split_once("\n[boot]\n").unwrap();
    let (_, partitions) = behind.split_once("\n[partitions]\n").unwrap();
    let folder = format!("usr/lib/modules/{RELEASE}");
    let line = |line: &str| match line.split_once(" = ") {
        Some(("release", _)) => format!("release = \"{RELEASE}\""),
        Some(("image", _)) => format!("image = \"{folder}/vmlinuz\""),
        Some(("device_tree_folder", _)) => format!("device_tree_folder = \"{folder}/dtb\""),
        Some(("rootfs_modules", _)) => "rootfs_modules = []".to_owned(),
        Some(("path", _)) => "path = \"kernel\"".to_owned(),
        _ => line.to_owned(),
    };
    let changed: Vec<String> = before.lines().map(line).collect();
    let memory = "[boot.memory]\nscratch = 0x9004_0000\nkernel = 0x8400_0000";
    format!(
        "{}\n[boot]\nchooser = \"uboot\"\n{memory}\n[partitions]\n{partitions}",
        changed.join("\n")
    )
}

/// Debian's kernel has neither the driver of the processor that all clocks and resets of these
/// boards come from, nor of the mailbox that it is spoken to by: their card would never be there.
#[test]
#[ignore = "needs dpkg-deb: `just unit`"]
fn a_kernel_that_cannot_reach_a_jetsons_card_is_refused_and_one_that_can_is_not() {
    const BOARDS: [&str; 4] =
        ["jetson-xavier-nx", "jetson-agx-xavier", "jetson-orin-nano", "jetson-agx-orin"];
    let world = World::new();
    for board in BOARDS {
        fs::write(world.at(&format!("{board}.toml")), jetson(board)).unwrap();
    }
    let build = |board: &str| {
        let file = format!("./{board}.toml");
        world.imager(&["build", "--image", "demo/demo.toml", "--board", &file, "--out", "out"])
    };
    fs::create_dir(world.at("kernel")).unwrap();
    for package in packages(&world) {
        succeeds(Command::new("dpkg-deb").arg("--extract").arg(package).arg(world.at("kernel")));
    }
    for board in BOARDS {
        let words = ["holds the card and waits for it", "no driver for /bpmp (nvidia,tegra"];
        complaint(&build(board).output().unwrap(), &words);
    }

    // A kernel that has them, as far as anybody can tell who does not start it: a processor's
    // driver alone, then all.
    let image = world.at("kernel").join(format!("usr/lib/modules/{RELEASE}/vmlinuz"));
    let mut kernel = fs::read(&image).unwrap();
    let mut add = |names: &[&str]| {
        for name in names {
            // An entry of a driver's table.
            kernel.extend([0; 64]);
            kernel.extend(name.as_bytes());
            kernel.extend(vec![0; 136 - name.len()]);
        }
        fs::write(&image, &kernel).unwrap();
    };
    add(&["nvidia,tegra186-bpmp"]);
    complaint(
        &build("jetson-orin-nano").output().unwrap(),
        &["no driver for /bus@0/hsp@3c00000 ("],
    );
    add(&["nvidia,tegra194-hsp", "nvidia,tegra186-bpmp-i2c"]);
    for board in BOARDS {
        succeeds(&mut build(board));
    }
}

/// The board files of these boards come without a kernel: who locks for all boards has to be able
/// to go on, who asks for one of them has to be told.
#[test]
fn a_board_whose_kernel_is_not_there_is_passed_over_when_all_are_locked() {
    let world = World::new();
    fs::create_dir(world.at("board-configs")).unwrap();
    for board in ["qemu-arm64", "jetson-orin-nano"] {
        let file = format!("board-configs/{board}.toml");
        fs::copy(Path::new(PROJECT).join(&file), world.at(&file)).unwrap();
    }
    let lock = |more: &[&str]| {
        let mut command = world.imager(&["lock", "--image", "demo/demo.toml"]);
        command.args(more).output().unwrap()
    };
    let output = lock(&[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("NOTICE: jetson-orin-nano is passed over"), "{said}");
    assert!(said.contains("jetson-kernel is not there"), "{said}");
    assert!(said.contains("demo for qemu-arm64"), "{said}");
    complaint(&lock(&["--board", "jetson-orin-nano"]), &["jetson-kernel", "put it there"]);
}
