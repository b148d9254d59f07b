//! `imager new`, `check` and `release`: from nothing to a project, and what is wrong with one.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::world::{AMD64, PROJECT, World, complaint, program_for};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A new project in the world, with the world's keys and a lock that needs no network.
fn project(world: &World, name: &str, with: &[&str]) {
    let made = world.imager(&["new", name]).args(with).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    assert!(text(&made).contains(&format!("imager build --image {name}.toml")), "{made:?}");
    let at = |path: &str| world.at(name).join(path);
    fs::copy(format!("{PROJECT}/demo/demo.lock"), at(&format!("{name}.lock"))).unwrap();
    let keys = Command::new("cp").arg("-r").arg(world.at("keys")).arg(at("keys")).status();
    assert!(keys.unwrap().success());
}

/// What the demo is built of comes into the cache, unless it is there.
fn fetch_the_demos_inputs(world: &World) {
    let built = world.build(&["--skip-golden"]).output().unwrap();
    assert!(built.status.success(), "{built:?}");
}

/// `imager` in a project, where it reaches no network.
fn inside(world: &World, project: &str, words: &[&str]) -> Output {
    let mut command = world.imager(words);
    command.current_dir(world.at(project)).env("FERRITE_MIRROR", "http://127.0.0.1:9/debian");
    command.output().unwrap()
}

#[test]
#[ignore = "needs gcc-aarch64-linux-gnu: `just unit`"]
fn a_new_project_is_well_and_builds() {
    let world = World::new();
    fetch_the_demos_inputs(&world);
    for (name, with) in [("plain", None), ("with-shell", Some("shell")), ("with-c", Some("c"))] {
        let option = with.map(|language| ["--with", language]);
        project(&world, name, option.as_ref().map_or(&[], |words| &words[..]));
        if with == Some("c") {
            let made = Command::new("make").arg("-C").arg(world.at("with-c/app")).output().unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        let checked = inside(&world, name, &["check", "--board", "qemu-arm64"]);
        assert!(checked.status.success(), "{name}: {checked:?}");
        assert!(text(&checked).contains(&format!("{name} 0.1.0 is well")), "{checked:?}");
        let image = format!("{name}.toml");
        let build = ["build", "--image", &image, "--board", "qemu-arm64", "--out", "out"];
        let built = inside(&world, name, &build);
        assert!(built.status.success(), "{name}: {built:?}");
        let ignored = fs::read_to_string(world.at(name).join(".gitignore")).unwrap();
        assert!(ignored.lines().any(|line| line == "/keys/"), "{ignored}");
    }
}

#[test]
fn a_project_goes_nowhere_but_into_a_new_or_empty_folder() {
    let world = World::new();
    world.refuses(&mut world.imager(&["new", "demo"]), &["demo", "already and not empty"]);
    world.refuses(&mut world.imager(&["new", "demo/demo.toml"]), &["demo/demo.toml"]);
    world.refuses(&mut world.imager(&["new", "My_Product"]), &["My_Product", "is not a name"]);
    fs::create_dir(world.at("empty")).unwrap();
    assert!(world.imager(&["new", "empty"]).output().unwrap().status.success());
    assert!(world.at("empty/empty.toml").is_file());
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let world = World::new();
    fetch_the_demos_inputs(&world);
    project(&world, "mine", &[]);
    let at = |path: &str| world.at("mine").join(path);
    let image = fs::read_to_string(at("mine.toml")).unwrap();
    fs::remove_file(at("face/golden.png")).unwrap();
    fs::remove_file(at("keys/root.json")).unwrap();
    let more = "[debian]\npackages = [\"python3\"]\n";
    fs::write(at("mine.toml"), format!("{image}\n{more}")).unwrap();
    let all = inside(&world, "mine", &["check", "--board", "qemu-arm64"]);
    assert_eq!(all.status.code(), Some(1), "{all:?}");
    for word in ["face/golden.png", "keys/root.json", "lacks the packages python3", "imager lock"] {
        assert!(text(&all).contains(word), "{word}: {all:?}");
    }
    assert!(String::from_utf8_lossy(&all.stderr).contains("3 things are wrong"), "{all:?}");

    // The models are read with the runner's own code, programs for their processor.
    fs::copy(format!("{PROJECT}/demo/face/golden.png"), at("face/golden.png")).unwrap();
    fs::copy(world.at("keys/root.json"), at("keys/root.json")).unwrap();
    let model = fs::read_to_string(at("face/model.toml")).unwrap();
    fs::write(at("face/model.toml"), model.replace("width = ", "widht = ")).unwrap();
    fs::write(at("own"), program_for(AMD64)).unwrap();
    let own = "[[workload]]\nname = \"own\"\nbinary = \"own\"\ncommand = [\"/usr/bin/own\"]\n";
    fs::write(at("mine.toml"), format!("{image}\n{own}")).unwrap();
    fs::write(at("keys/root.json"), "{\"x\":1}").unwrap();
    let all = inside(&world, "mine", &["check", "--board", "qemu-arm64"]);
    assert_eq!(all.status.code(), Some(1), "{all:?}");
    let wrong =
        ["workload own: own is a program for", "face/model.toml", "widht", "keys/root.json"];
    for word in wrong {
        assert!(text(&all).contains(word), "{word}: {all:?}");
    }

    let wrong = image.replace("poll = ", "pol = ").replace("sequence = 1", "sequence = 0");
    fs::write(at("mine.toml"), wrong).unwrap();
    fs::remove_dir_all(at("keys")).unwrap();
    let all = inside(&world, "mine", &["check", "--board", "qemu-arm46"]);
    assert_eq!(all.status.code(), Some(1), "{all:?}");
    for word in ["`poll`?", "`sequence` starts at 1", "imager keygen", "`qemu-arm64`?"] {
        assert!(text(&all).contains(word), "{word}: {all:?}");
    }
}

#[test]
fn the_demo_is_well() {
    let world = World::new();
    let checked = world.imager(&["check", "--image", "demo/demo.toml"]).output().unwrap();
    // Its lock has boards whose kernel or programs a checkout may not have: those are no mistakes.
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn a_release_raises_version_and_sequence_and_keeps_the_comments() {
    let world = World::new();
    project(&world, "mine", &[]);
    let path = world.at("mine/mine.toml");
    let before = fs::read_to_string(&path).unwrap();
    let released = inside(&world, "mine", &["release", "minor"]);
    assert!(
        text(&released).contains("0.1.0 (sequence 1) is now 0.2.0 (sequence 2)"),
        "{released:?}"
    );
    let after = before.replace("\"0.1.0\"", "\"0.2.0\"").replace("sequence = 1", "sequence = 2");
    assert_eq!(fs::read_to_string(&path).unwrap(), after);
    let folder = Path::new("mine");
    complaint(
        &world.imager(&["release", "patch"]).output().unwrap(),
        &["no image file in this folder", "imager new"],
    );
    assert!(world.at("").join(folder).is_dir());
}
