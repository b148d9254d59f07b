//! `imager model`, and the golden samples that a build runs, with a stand-in for this machine's
//! runner. The real one is tried in the runner's own tests.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use debian::hash::Sha256;

use crate::world::{World, complaint};

/// A world whose runner prints how it was called, says `says` and ends with `code`.
fn world(says: &str, code: u8) -> World {
    let world = World::new();
    fs::create_dir(world.at("host")).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"called $*\"\necho \"engine ${{LD_LIBRARY_PATH%%:*}}\"\necho \"{says}\" >&2\nexit {code}\n"
    );
    fs::write(world.at("host/runner"), script).unwrap();
    fs::set_permissions(world.at("host/runner"), Permissions::from_mode(0o755)).unwrap();
    fs::write(world.at("host/libtensorflowlite_c.so"), "").unwrap();
    fs::create_dir(world.at("mine")).unwrap();
    fs::write(world.at("mine/model.tflite"), "weights").unwrap();
    fs::write(world.at("mine/model.toml"), "name = \"mine\"\n").unwrap();
    fs::write(world.at("photo.png"), "a photo").unwrap();
    world
}

fn with_runner<'a>(world: &World, command: &'a mut Command) -> &'a mut Command {
    command.env("FERRITE_RUNNER", world.at("host/runner"))
}

fn model(world: &World, words: &[&str]) -> Output {
    with_runner(world, world.imager(&["model"]).args(words)).output().unwrap()
}

#[test]
fn a_model_is_tried_without_a_hash_or_a_library_path_to_type() {
    let world = world("", 0);
    let output = model(&world, &["try", "mine", "photo.png"]);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let sha256 = Sha256::of(b"weights");
    assert!(out.contains(&format!("called infer --model=mine --expect-sha256={sha256} photo.png")));
    assert!(out.contains(&format!("engine {}", world.at("host").display())), "{out}");
    assert!(err.contains(&format!("mine/model.tflite: SHA-256 {sha256}")), "{err}");
    let output = model(&world, &["bench", "mine/model.tflite", "-n", "7"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("called bench --model=mine"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("--runs=7"));
}

#[test]
fn what_a_models_folder_lacks_is_named() {
    let world = world("", 0);
    for (words, expected) in [
        (["try", "none", "photo.png"], ["none: is not a model's folder", "model.toml"]),
        (["try", "device", "photo.png"], ["device/model.tflite", "under this name"]),
    ] {
        complaint(&model(&world, &words), &expected);
    }
    fs::remove_file(world.at("mine/model.toml")).unwrap();
    complaint(&model(&world, &["try", "mine", "x"]), &["mine/model.toml", "docs/models.md"]);
    fs::write(world.at("mine/model.toml"), "name = \"mine\"\n").unwrap();
    fs::remove_file(world.at("host/libtensorflowlite_c.so")).unwrap();
    complaint(&model(&world, &["try", "mine", "x"]), &["libtensorflowlite_c.so", "./do host"]);
}

#[test]
fn a_golden_sample_is_written_with_what_the_image_file_says_of_it() {
    let world = world("", 0);
    let output = model(&world, &["golden", "mine", "photo.png"]);
    assert!(output.status.success(), "{output:?}");
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(fs::read(world.at("mine/golden.png")).unwrap(), b"a photo");
    for line in [
        "called golden --model=mine",
        "model = \"mine/model.tflite\"",
        "files = [\"mine/golden.png\", \"mine/golden.json\"]",
        "command = [\"/usr/bin/runner\", \"--model=/usr/share/models/mine\"]",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    // One that is there stays.
    fs::write(world.at("other.png"), "another").unwrap();
    complaint(
        &model(&world, &["golden", "mine", "other.png"]),
        &["mine/golden.png", "remove it first"],
    );
    assert_eq!(fs::read(world.at("mine/golden.png")).unwrap(), b"a photo");
}

#[test]
fn a_model_that_fails_its_golden_sample_is_not_signed() {
    let world = world("face: golden sample mismatch: score", 3);
    world.refuses(
        with_runner(&world, &mut world.build(&[])),
        &["model face", "golden sample mismatch: score", "imager model golden", "--skip-golden"],
    );
    let built = with_runner(&world, &mut world.build(&["--skip-golden"])).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    // What was built without asking the samples is not up to date.
    let again = with_runner(&world, &mut world.build(&[])).output().unwrap();
    complaint(&again, &["golden sample mismatch: score"]);
    fs::write(world.at("host/runner"), "#!/bin/sh\n[ \"$1\" = check ]\n").unwrap();
    for up_to_date in [false, true] {
        let built = with_runner(&world, &mut world.build(&[])).output().unwrap();
        assert!(built.status.success(), "{built:?}");
        let said = String::from_utf8_lossy(&built.stdout).contains("is up to date");
        assert_eq!(said, up_to_date);
    }
}

#[test]
fn a_refused_sample_does_not_stay_in_the_way_of_the_next_one() {
    let world = world("mine: this is no picture", 1);
    for _ in 0..2 {
        let output = model(&world, &["golden", "mine", "photo.png"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("no golden sample was written"), "{output:?}");
        assert!(!world.at("mine/golden.png").exists());
    }
}
