//! Outputs that would take the place of something else: refused, with everything left as it was.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::world::{PROJECT, World};
use publisher::publish::{Request, publish};
use tuf::Time;

/// A world with a repository of one update, and a disk image.
fn published() -> World {
    let world = World::new();
    let update =
        publisher::sample::update(&world.at(""), &world.at("keys"), "qemu-arm64", "1.0.0", 1);
    let request = Request::new(&world.at("repo"), &world.at("keys"), &[&update.unwrap()]);
    publish(&request, Time(1_800_000_000), &mut |_| ()).unwrap();
    fs::write(world.at("demo.img"), flash::sample::image().unwrap()).unwrap();
    fs::write(world.at("notes.txt"), "much work\n").unwrap();
    fs::hard_link(world.at("demo.img"), world.at("same.img")).unwrap();
    world
}

/// `imager run` of the image for a machine that would start, were everything right.
fn run(world: &World, more: &[&str]) -> Command {
    let board = format!("{PROJECT}/board-configs/qemu-arm64.toml");
    fs::write(world.at("firmware"), vec![0xD5; 1 << 17]).unwrap();
    let mut command = world.imager(&["run", "demo.img", "--board", &board, "--firmware"]);
    command.arg("firmware").args(more).env("PATH", "/nowhere");
    command
}

#[test]
fn a_bundle_replaces_bundles_only() {
    let world = published();
    let bundle = |out: &str| world.imager(&["bundle", "--repo", "repo", "--out", out]);
    for out in ["keys/image.key", "keys/new.bundle"] {
        world.refuses(&mut bundle(out), &["keys holds the private key", "another folder"]);
    }
    for out in ["repo/metadata/timestamp.json", "repo/new.bundle"] {
        world
            .refuses(&mut bundle(out), &[out.split('/').next().unwrap(), "lies in the repository"]);
    }
    world.refuses(&mut bundle("notes.txt"), &["notes.txt", "is not a bundle", "remove it first"]);
    world.refuses(&mut bundle("demo.img"), &["demo.img", "is not a bundle"]);
    for _ in 0..2 {
        let output = bundle("new.bundle").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_machine_writes_no_file_that_is_no_disk_and_not_the_built_image() {
    let world = published();
    for option in ["--disk", "--disk-before", "--disk-behind"] {
        let text = ["notes.txt", "is not a disk image"];
        world.refuses(&mut run(&world, &[option, "notes.txt", "--drive-size", "64M"]), &text);
        for image in ["same.img", "demo.img"] {
            world.refuses(&mut run(&world, &[option, image]), &[image, "the built image itself"]);
        }
    }
    world.refuses(&mut run(&world, &["--disk", "repo/disk"]), &["lies in the repository"]);
    world.refuses(&mut run(&world, &["--disk", "keys/disk"]), &["private key"]);
    world.refuses(
        &mut run(&world, &["--variables", "notes.txt"]),
        &["notes.txt", "is not a store of UEFI variables"],
    );
    fs::write(world.at("demo.img.disk"), "much work\n").unwrap();
    world.refuses(&mut run(&world, &[]), &["demo.img.disk", "is not a disk image"]);
}

#[test]
fn a_machine_is_not_started_with_what_cannot_start() {
    let world = published();
    world.refuses(&mut run(&world, &["--memory", "1"]), &["--memory is 1 bytes", "512M"]);
    let run_with = |firmware: &str| {
        let board = format!("{PROJECT}/board-configs/qemu-arm64.toml");
        let mut command = world.imager(&["run", "demo.img", "--board", &board]);
        command.args(["--firmware", firmware]).env("PATH", "/nowhere");
        command
    };
    for file in ["notes.txt", "demo.img", "keys/image.pub"] {
        world.refuses(&mut run_with(file), &[file, "is no firmware", "leave --firmware out"]);
    }
}

#[test]
fn a_build_does_not_go_into_a_repository_or_beside_keys_nor_over_other_files() {
    let world = published();
    world.refuses(&mut world.build_to("repo"), &["lies in the repository"]);
    world.refuses(&mut world.build_to("keys"), &["private key"]);
    fs::create_dir(world.at("out")).unwrap();
    fs::write(world.at(crate::world::IMG), "much work\n").unwrap();
    world.refuses(&mut world.build(&[]), &[crate::world::IMG, "is not a disk image"]);
}

#[test]
fn a_medium_is_not_flashed_into_a_repository_or_beside_keys_and_a_small_file_is_not_enlarged() {
    let world = published();
    let flash = |to: &str| world.imager(&["flash", "demo.img", to]);
    world.refuses(&mut flash("repo/card.img"), &["lies in the repository"]);
    world.refuses(&mut flash("keys/card.img"), &["private key"]);
    let small = fs::File::create(world.at("card.img")).unwrap();
    small.set_len(1 << 20).unwrap();
    let bytes = flash::sample::SIZE.to_string();
    world.refuses(&mut flash("card.img"), &["too small: it has 1048576 bytes", &bytes, "truncate"]);
}

#[test]
fn keys_are_not_made_in_a_repository_nor_a_repository_among_keys() {
    let world = published();
    world.refuses(&mut world.imager(&["keygen", "--out", "repo"]), &["lies in the repository"]);
    let update = update_in(&world.at(""));
    for (repo, words) in [
        ("keys", &["keys holds the private key", "served to everybody"][..]),
        ("repo/metadata", &["is a part of a repository", "the folder above"]),
    ] {
        world.refuses(&mut world.imager(&["publish", "--repo", repo, &update]), words);
        world
            .refuses(&mut world.imager(&["repo", "init", "--repo", repo, "--keys", "keys"]), words);
    }
}

fn update_in(folder: &Path) -> String {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names = names.filter_map(|name| name.into_string().ok());
    names.find(|name| name.ends_with(".update")).unwrap()
}

#[test]
fn nothing_is_renewed_where_no_repository_is() {
    let world = published();
    for words in [
        &["publish"][..],
        &["publish", "--prune", "3"],
        &["publish", "--pause", "1.0.0"],
        &["repo", "refresh", "--keys", "keys"],
        &["repo", "publish", "--keys", "keys"],
        &["repo", "threshold", "2", "--role", "root", "--keys", "keys"],
        &["repo", "show"],
        &["repo", "verify"],
    ] {
        let mut command = world.imager(words);
        world.refuses(command.args(["--repo", "typo"]), &["typo", "no repository"]);
    }
    fs::create_dir(world.at("empty")).unwrap();
    world.refuses(&mut world.imager(&["publish", "--repo", "empty"]), &["empty", "no repository"]);
}
