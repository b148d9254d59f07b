//! A kernel of the user's own: Debian's, repacked, has to give the image that Debian's packages
//! give, from a folder and from a tarball.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{complaint, World, IMG, PROJECT};

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
        .filter(|deb| text(deb, "name").starts_with("linux-"))
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

/// The Jetson Nano's board file with the device tree of another Jetson.
fn jetson(tree: &str) -> String {
    let text = fs::read_to_string(format!("{PROJECT}/board-configs/jetson-nano.toml")).unwrap();
    let changed = text
        .replace("name = \"jetson-nano\"", "name = \"other\"")
        .replace("tegra210-p3450-0000.dtb", tree);
    assert!(changed.contains("\"other\"") && changed.contains(tree));
    changed
}

/// Debian's kernel has neither the driver of the processor that all clocks and resets of these
/// boards come from, nor of the mailbox that it is spoken to by: their card would never be there.
#[test]
fn a_kernel_that_cannot_reach_the_boards_card_is_refused() {
    let world = World::new();
    let build = || {
        world.imager(&[
            "build",
            "--image",
            "demo/demo.toml",
            "--board",
            "./other.toml",
            "--out",
            "out",
        ])
    };
    for tree in [
        "tegra194-p2972-0000.dtb",
        "tegra194-p3509-0000+p3668-0000.dtb",
        "tegra194-p3509-0000+p3668-0001.dtb",
        "tegra234-p3768-0000+p3767-0000.dtb",
        "tegra234-p3768-0000+p3767-0005.dtb",
        "tegra234-p3737-0000+p3701-0000.dtb",
        "tegra234-p3737-0000+p3701-0008.dtb",
    ] {
        fs::write(world.at("other.toml"), jetson(tree)).unwrap();
        let words = [tree, "holds the card and waits for it", "no driver for /bpmp (nvidia,tegra"];
        complaint(&build().output().unwrap(), &words);
    }

    // A kernel that has both, as far as anybody can tell who does not start it.
    let tree = "tegra234-p3768-0000+p3767-0005.dtb";
    fs::create_dir(world.at("kernel")).unwrap();
    for package in packages(&world) {
        succeeds(Command::new("dpkg-deb").arg("--extract").arg(package).arg(world.at("kernel")));
    }
    let folder = format!("usr/lib/modules/{RELEASE}");
    let image = world.at("kernel").join(&folder).join("vmlinuz");
    let whole = fs::read(&image).unwrap();
    let keys = format!("image = \"{folder}/vmlinuz\"\ndevice_tree_folder = \"{folder}/dtb\"\n");
    let own = with_archive(&jetson(tree), &keys, "kernel");
    fs::write(world.at("other.toml"), own).unwrap();
    let mut kernel = whole.clone();
    for (name, missing) in
        [("nvidia,tegra186-bpmp", Some("/bus@0/hsp@3c00000 (")), ("nvidia,tegra194-hsp", None)]
    {
        // An entry of a driver's table.
        kernel.extend([0; 64]);
        kernel.extend(name.as_bytes());
        kernel.extend(vec![0; 136 - name.len()]);
        fs::write(&image, &kernel).unwrap();
        match missing {
            Some(missing) => complaint(&build().output().unwrap(), &[tree, missing]),
            None => succeeds(&mut build()),
        }
    }
}
