//! A model that is not the manifest's, that is damaged, or that says something else than its
//! golden sample never becomes ready, and says why.

mod model;

use formats::manifest::{FileHash, Manifest, encode_header};
use model::{FACE_SHA256, Workload, face, fetched, output, runner, runner_verb, sha256};
use std::path::Path;
use std::process::Output;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A slot header with one model; nobody checks its signature any more.
fn slot_header(folder: &Path, sha256: &str, model: &str) -> std::path::PathBuf {
    let manifest = Manifest {
        board: "qemu-arm64".into(),
        name: "demo".into(),
        version: "1".into(),
        sequence: 1,
        rollback_floor: 0,
        root_size: 8192,
        root_hash_size: 4096,
        root_verity_hash: [0; 32],
        root_verity_salt: [0; 32],
        boot_size: 4096,
        chunk_size: 65536,
        chunk_table_sha256: [0; 32],
        boot_files: vec![],
        models: vec![FileHash {
            sha256: formats::hex::decode(sha256).unwrap(),
            size: 1,
            name: model.into(),
        }],
    };
    let header = encode_header(&manifest.to_text(), &[([0; 8], [0; 64])]).unwrap();
    let path = folder.join("slot-header");
    std::fs::write(&path, header).unwrap();
    path
}

#[test]
fn another_hash_than_expected() {
    let folder = face();
    let mut command = runner(folder.path());
    command.arg(format!("--expect-sha256={}", "0".repeat(64)));
    let output = output(command);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text(&output).contains("face: ") && text(&output).contains(FACE_SHA256),
        "{}",
        text(&output)
    );
    assert!(!text(&output).contains("ready"));
}

#[test]
fn a_workload_without_any_expected_hash() {
    let folder = face();
    let output = output(runner(folder.path()));
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).contains("--manifest"), "{}", text(&output));
}

#[test]
fn a_manifest_that_names_another_hash_or_no_such_model() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("usr/share/models/face");
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    let made = face();
    std::fs::rename(made.path(), &folder).unwrap();
    for (sha256, line, word) in [
        ("0".repeat(64), "/usr/share/models/face/model.tflite", "manifest in"),
        (FACE_SHA256.to_owned(), "/usr/share/models/other/model.tflite", "not named"),
    ] {
        let header = slot_header(root.path(), &sha256, line);
        let mut command = runner(&folder);
        command.arg(format!("--manifest={}", header.display()));
        let output = output(command);
        assert_eq!(output.status.code(), Some(4), "{line}: {}", text(&output));
        assert!(text(&output).contains(word), "{line}: {}", text(&output));
    }
    let header = slot_header(root.path(), FACE_SHA256, "/usr/share/models/face/model.tflite");
    let photos = tempfile::tempdir().unwrap();
    let mut command = runner(&folder);
    command
        .arg(format!("--manifest={}", header.display()))
        .arg(format!("--folder={}", photos.path().display()))
        .arg("--http=127.0.0.1:0")
        .arg(format!("--results={}", root.path().join("r").display()));
    let mut workload = Workload::start(command);
    workload.line("face: ready in ");
    assert_eq!(workload.terminate().code(), Some(0));
}

#[test]
fn a_golden_sample_with_another_result() {
    let folder = face();
    let path = folder.path().join("golden.json");
    let mut golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    golden["expected"]["detections"][0]["box"]["x"] = 5.0.into();
    std::fs::write(&path, golden.to_string()).unwrap();
    let mut command = runner(folder.path());
    command.arg(format!("--expect-sha256={FACE_SHA256}"));
    let output = output(command);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("detections[0].box.x: expected 5.0000"), "{}", text(&output));
    assert!(!text(&output).contains("ready"));
}

/// A step of Knuth's 64-bit linear congruential generator: the same damage in every run.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

#[test]
fn damaged_models_end_with_a_message_or_say_what_they_said_before() {
    let whole = std::fs::read(fetched("models/face_detection_short_range.tflite")).unwrap();
    let mut state = 2;
    let mut refused = 0;
    for n in 0..36 {
        let mut bytes = whole.clone();
        if n % 3 == 0 {
            bytes.truncate(next(&mut state) % whole.len());
        } else {
            // Flat buffers keep their tables near both ends; weights lie between.
            let reach = if n % 3 == 1 { 2048 } else { whole.len() };
            let at = next(&mut state) % reach;
            let at = if n % 2 == 0 { at } else { whole.len() - 1 - at };
            bytes[at] ^= 1 << (next(&mut state) % 8);
        }
        let folder = face();
        std::fs::write(folder.path().join("model.tflite"), &bytes).unwrap();
        let toml = std::fs::read_to_string(folder.path().join("model.toml")).unwrap();
        std::fs::write(
            folder.path().join("model.toml"),
            toml.replace(FACE_SHA256, &sha256(&bytes)),
        )
        .unwrap();
        // The golden sample decides, and with no folder to read a model that passes ends here.
        let mut command = runner(folder.path());
        command
            .arg(format!("--expect-sha256={}", sha256(&bytes)))
            .args(["--folder=/nonexistent", "--http=127.0.0.1:0"]);
        let output = output(command);
        let code = output.status.code().unwrap_or_else(|| {
            panic!("damage {n}: died of {:?}: {}", output.status, text(&output))
        });
        match code {
            // Passed its golden sample: then it really does find the face.
            6 => {
                let mut command = runner_verb("infer", folder.path());
                command.arg(folder.path().join("golden.png"));
                let result: serde_json::Value =
                    serde_json::from_slice(&model::output(command).stdout).unwrap();
                assert_eq!(
                    result["detections"].as_array().map(Vec::len),
                    Some(1),
                    "damage {n}: {result}"
                );
            }
            2 | 3 | 5 => {
                refused += 1;
                assert!(
                    text(&output)
                        .lines()
                        .any(|l| l.starts_with("face: ") || l.starts_with("runner: internal")),
                    "damage {n}: {}",
                    text(&output)
                );
            }
            other => panic!("damage {n}: exit code {other}: {}", text(&output)),
        }
    }
    assert!(refused >= 12, "only {refused} of 36: is the damage real?");
}

#[test]
fn settings_that_are_not_the_models() {
    for (from, to, word) in [
        ("width = 128", "width = 96", "shape"),
        ("\"float32\"", "\"int8\"", "dtype"),
        ("\"regressors\"", "\"boxes\"", "regressors"),
        ("[8, 16, 16, 16]", "[8, 16]", "strides"),
    ] {
        let folder = face();
        let path = folder.path().join("model.toml");
        let toml = std::fs::read_to_string(&path).unwrap();
        assert!(toml.contains(from));
        std::fs::write(&path, toml.replace(from, to)).unwrap();
        let mut command = runner_verb("golden", folder.path());
        command.arg(format!("--expect-sha256={FACE_SHA256}"));
        let output = output(command);
        assert_eq!(output.status.code(), Some(2), "{to}: {}", text(&output));
        assert!(text(&output).contains(word), "{to}: {}", text(&output));
    }
}

#[test]
fn an_int8_model_with_raw_tensors_has_its_golden_sample_too() {
    let folder = tempfile::tempdir().unwrap();
    let model = std::fs::read(fetched("models/okay_nabu.tflite")).unwrap();
    std::fs::write(folder.path().join("model.tflite"), &model).unwrap();
    let hash = sha256(&model);
    std::fs::write(
        folder.path().join("model.toml"),
        format!("name = \"wake\"\nsha256 = \"{hash}\"\nstateful = true\n[input]\nkind = \"tensor\"\n[decoder]\nkind = \"raw\"\n[golden]\nsample = \"golden.bin\"\n"),
    )
    .unwrap();
    // Too short on purpose: the message says how many bytes the model takes.
    std::fs::write(folder.path().join("golden.bin"), [0]).unwrap();
    let said = text(&output(runner_verb("golden", folder.path())));
    let length: usize = said
        .split("int8, ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    let sample: Vec<u8> = (0..length).map(|i| (i * 37 % 251) as u8).collect();
    std::fs::write(folder.path().join("golden.bin"), sample).unwrap();
    assert!(output(runner_verb("golden", folder.path())).status.success());
    let mut command = runner(folder.path());
    command.args([&format!("--expect-sha256={hash}"), "--folder=/nonexistent"]);
    let said = output(command);
    assert_eq!(
        said.status.code(),
        Some(6),
        "golden passed, then the folder is missing: {}",
        text(&said)
    );
}

#[test]
fn a_check_compares_with_the_golden_sample_and_ends() {
    let folder = face();
    let check = || output(runner_verb("check", folder.path()));
    let well = check();
    assert!(well.status.success(), "{well:?}");
    let path = folder.path().join("golden.json");
    let golden = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, golden.replace("\"score\": 0.899", "\"score\": 0.199")).unwrap();
    let other = check();
    assert_eq!(other.status.code(), Some(3), "{other:?}");
    assert!(text(&other).contains("golden sample mismatch"), "{other:?}");
}
