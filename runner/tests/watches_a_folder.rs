//! A watched folder, and who writes into it while it is watched.

mod model;
mod tflite;

use model::{Workload, runner, sha256};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const MODEL_TOML: &str = "name = \"line\"\n[input]\nkind = \"tensor\"\n[decoder]\nkind = \"raw\"\n[source]\npoll_ms = 20\n[golden]\nsample = \"golden.csv\"\n";

/// A workload that watches the folder.
fn watching(model: &Path, inputs: &Path) -> Workload {
    let bytes = tflite::dense_with_open_batch();
    std::fs::write(model.join("model.tflite"), &bytes).unwrap();
    std::fs::write(model.join("model.toml"), MODEL_TOML).unwrap();
    std::fs::write(model.join("golden.csv"), numbers(0)).unwrap();
    let hash = format!("--expect-sha256={}", sha256(&bytes));
    let mut golden = model::runner_verb("golden", model);
    golden.arg(&hash);
    assert!(model::output(golden).status.success());
    let mut command = runner(model);
    command.arg(hash).arg(format!("--folder={}", inputs.display()));
    command.arg(format!("--results={}", model.join("results.jsonl").display()));
    let mut workload = Workload::start(command);
    workload.line("ready in");
    workload
}

fn numbers(first: u32) -> String {
    (first..first + 64).map(|n| n.to_string()).collect::<Vec<_>>().join("\n")
}

fn name(result: &Value) -> &str {
    result["source"].as_str().unwrap().rsplit('/').next().unwrap()
}

#[test]
fn a_file_is_taken_once_and_only_when_it_is_whole() {
    let [model, inputs] = [(), ()].map(|()| tempfile::tempdir().unwrap());
    let mut workload = watching(model.path(), inputs.path());
    let text = numbers(1);
    // Half of it is a CSV of fewer numbers, which would be an error.
    let mut slow = std::fs::File::create(inputs.path().join("slow.csv")).unwrap();
    slow.write_all(&text.as_bytes()[..50]).unwrap();
    // Longer than a file may lie there before it is taken for whole by itself.
    std::thread::sleep(Duration::from_millis(2500));
    std::fs::write(inputs.path().join(".part"), numbers(2)).unwrap();
    std::fs::rename(inputs.path().join(".part"), inputs.path().join("renamed.csv")).unwrap();
    let result = workload.result();
    assert_eq!((name(&result), &result["error"]), ("renamed.csv", &Value::Null), "{result}");
    slow.write_all(&text.as_bytes()[50..]).unwrap();
    drop(slow);
    let result = workload.result();
    assert_eq!((name(&result), &result["error"]), ("slow.csv", &Value::Null), "{result}");
    std::fs::write(inputs.path().join("last.csv"), numbers(3)).unwrap();
    assert_eq!(name(&workload.result()), "last.csv", "each once");
}

#[test]
fn what_lies_there_before_the_start_is_taken_too() {
    let [model, inputs] = [(), ()].map(|()| tempfile::tempdir().unwrap());
    std::fs::write(inputs.path().join("before.csv"), numbers(1)).unwrap();
    let mut workload = watching(model.path(), inputs.path());
    assert_eq!(name(&workload.result()), "before.csv");
    std::fs::write(inputs.path().join("after.csv"), numbers(2)).unwrap();
    assert_eq!(name(&workload.result()), "after.csv");
}
