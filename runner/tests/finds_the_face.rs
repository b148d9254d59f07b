//! The real model on the real photograph, and the workload's life: ready, result, stop.

mod model;

use model::{FACE_SHA256, Workload, face, fetched, output, runner, runner_verb};
use serde_json::Value;
use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

/// Where the astronaut's face is, by eye: forehead to chin, ear to ear (columns, rows).
const FACE: [f64; 4] = [177.0, 80.0, 272.0, 175.0];

fn assert_one_face(result: &Value) {
    let faces = result["detections"].as_array().unwrap();
    assert_eq!(faces.len(), 1, "{result}");
    assert!(faces[0]["score"].as_f64().unwrap() > 0.8, "{result}");
    let side = |key: &str| faces[0]["box"][key].as_f64().unwrap();
    let (left, top) = (side("x"), side("y"));
    let found = [left, top, left + side("width"), top + side("height")];
    for (found, expected) in found.iter().zip(FACE) {
        assert!((found - expected).abs() < 12.0, "box {found:?}, expected {FACE:?}");
    }
    let names: Vec<_> = faces[0]["keypoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| k["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["right_eye", "left_eye", "nose", "mouth", "right_ear", "left_ear"]);
    let eye = |n: usize| faces[0]["keypoints"][n]["x"].as_f64().unwrap();
    assert!(eye(0) < eye(1), "her right eye is left in the picture: {result}");
    assert_eq!((result["width"].as_u64(), result["height"].as_u64()), (Some(512), Some(512)));
}

#[test]
fn one_face_where_it_is() {
    let folder = face();
    let mut command = runner_verb("infer", folder.path());
    command.arg(fetched("photos/astronaut.png"));
    let output = output(command);
    assert!(output.status.success(), "{output:?}");
    assert_one_face(&serde_json::from_slice(&output.stdout).unwrap());
}

#[test]
fn a_photograph_without_a_face_has_none() {
    let folder = face();
    let path = folder.path().join("grey.png");
    image::RgbImage::from_pixel(300, 200, image::Rgb([128, 120, 90])).save(&path).unwrap();
    let mut command = runner_verb("infer", folder.path());
    command.arg(path);
    let result: Value = serde_json::from_slice(&output(command).stdout).unwrap();
    assert_eq!(result["detections"], Value::Array(vec![]));
}

#[test]
fn a_workload_says_ready_reads_its_folder_beats_and_stops() {
    let folder = face();
    let photos = tempfile::tempdir().unwrap();
    std::fs::copy(fetched("photos/astronaut.png"), photos.path().join("a.png")).unwrap();
    let log = folder.path().join("results.jsonl");
    let toml = std::fs::read_to_string(folder.path().join("model.toml")).unwrap();
    let toml = toml
        .replace("threads = 1", "threads = 1\nheartbeat_ms = 100")
        .replace("[source]", "[source]\npoll_ms = 50");
    std::fs::write(folder.path().join("model.toml"), toml).unwrap();

    let (mut reader, writer) = std::io::pipe().unwrap();
    // The shell moves the pipe from standard input to descriptor 3.
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" \"$@\" 3>&0 0</dev/null", env!("CARGO_BIN_EXE_runner")])
        .arg(format!("--model={}", folder.path().display()))
        .arg(format!("--expect-sha256={FACE_SHA256}"))
        .arg(format!("--folder={}", photos.path().display()))
        .arg("--http=127.0.0.1:0")
        .arg(format!("--results={}", log.display()))
        .env("FERRITE_NOTIFY_FD", "3")
        .stdin(writer);
    let mut workload = Workload::start(command);
    let mut byte = [0];
    reader.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"\n", "ready is one newline");
    workload.line("face: ready in ");
    assert_one_face(&workload.result());

    let begun = Instant::now();
    for _ in 0..3 {
        reader.read_exact(&mut byte).unwrap();
    }
    assert!(begun.elapsed() >= Duration::from_millis(150), "heartbeats come at their interval");

    put_photo(photos.path(), "b.png");
    let second = workload.result();
    assert!(
        second["source"].as_str().unwrap().ends_with("b.png"),
        "{second}: each file once, then new ones"
    );
    assert_eq!(workload.terminate().code(), Some(0));
    let kept = std::fs::read_to_string(&log).unwrap();
    assert_eq!(kept.lines().count(), 2);
    kept.lines().for_each(|line| assert_one_face(&serde_json::from_str(line).unwrap()));
}

/// Whole from its first moment, as models.md tells who fills a watched folder.
fn put_photo(folder: &std::path::Path, name: &str) {
    let half = folder.join(format!(".{name}"));
    std::fs::copy(fetched("photos/astronaut.png"), &half).unwrap();
    std::fs::rename(half, folder.join(name)).unwrap();
}

#[test]
fn a_full_disk_is_said_and_inference_goes_on() {
    let folder = face();
    let photos = tempfile::tempdir().unwrap();
    std::fs::copy(fetched("photos/astronaut.png"), photos.path().join("a.png")).unwrap();
    let mut command = runner(folder.path());
    command
        .arg(format!("--expect-sha256={FACE_SHA256}"))
        .arg(format!("--folder={}", photos.path().display()))
        .args(["--http=127.0.0.1:0", "--results=/dev/full"]);
    let mut workload = Workload::start(command);
    workload.line("No space left");
    put_photo(photos.path(), "b.png");
    while !workload.result()["source"].as_str().unwrap().ends_with("b.png") {}
    let said = workload.seen.iter().filter(|l| l.contains("No space left")).count();
    assert_eq!(said, 1, "{:#?}", workload.seen);
    assert_eq!(workload.terminate().code(), Some(0));
}

#[test]
fn bench_reports_the_whole_pipeline_beside_the_bare_invoke() {
    let folder = face();
    let mut command = runner_verb("bench", folder.path());
    command.args(["-n", "20"]);
    let report: Value = serde_json::from_slice(&output(command).stdout).unwrap();
    assert_eq!(report["delegate"], "xnnpack");
    let (infer, invoke) =
        (report["infer_ms"]["p50"].as_f64().unwrap(), report["invoke_ms"]["p50"].as_f64().unwrap());
    assert!(
        invoke > 0.0 && infer > 0.0 && report["total_ms"]["p50"].as_f64().unwrap() >= infer,
        "{report}"
    );
}
