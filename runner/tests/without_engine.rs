//! A runner that was built without TensorFlow Lite.

#[cfg(not(feature = "engine"))]
use sha2::Digest;
use std::process::Command;

#[cfg(not(feature = "engine"))]
#[test]
fn a_model_is_refused_with_the_command_that_brings_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/face/model.toml");
    let toml = std::fs::read_to_string(demo).unwrap();
    let (before, after) = toml.split_once("sha256 = ").unwrap();
    let toml = before.to_owned() + after.split_once('\n').unwrap().1;
    std::fs::write(folder.path().join("model.toml"), toml).unwrap();
    // As much of a model as is looked at before the engine.
    const HEAD: &[u8] = b"\0\0\0\0TFL3";
    std::fs::write(folder.path().join("model.tflite"), HEAD).unwrap();
    let hash = formats::hex::encode(&sha2::Sha256::digest(HEAD));
    let output = Command::new(env!("CARGO_BIN_EXE_runner"))
        .args(["infer", "x.png", "--expect-sha256", &hash, "--model"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("built without TensorFlow Lite") && said.contains("--features engine"));
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Shown as ignored: `cargo test` says nothing of the test files that need a feature.
#[cfg(not(feature = "engine"))]
#[test]
#[ignore = "the tests of models need TensorFlow Lite: scripts/tflite-setup, then cargo test -p runner --features engine"]
fn the_tests_with_the_engine() {}

#[test]
fn help_needs_no_engine() {
    let output = Command::new(env!("CARGO_BIN_EXE_runner")).arg("--help").output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty());
}
