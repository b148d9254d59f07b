//! Models whose input is a tensor: bytes, a JSON list or CSV are one and the same input, and the
//! golden sample is any of them.

mod model;
mod tflite;

use model::{Workload, output, runner, runner_verb, sha256};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::Path;

const MODEL_TOML: &str = "name = \"line\"\n[input]\nkind = \"tensor\"\n[decoder]\nkind = \"raw\"\n[golden]\nsample = \"golden.csv\"\n";

/// A model of 64 numbers, whose first output sums every third.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.tflite"), tflite::dense_with_open_batch()).unwrap();
    std::fs::write(folder.path().join("model.toml"), MODEL_TOML).unwrap();
    folder
}

fn expected_hash() -> String {
    format!("--expect-sha256={}", sha256(&tflite::dense_with_open_batch()))
}

fn infer(folder: &Path, name: &str, content: &[u8]) -> Value {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    let mut command = runner_verb("infer", folder);
    command.arg(expected_hash()).arg(path);
    serde_json::from_slice(&output(command).stdout).unwrap()
}

fn numbers() -> Vec<f32> {
    (0..64).map(|n| n as f32 / 4.0).collect()
}

fn bytes() -> Vec<u8> {
    numbers().iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn csv() -> String {
    numbers().iter().map(|n| n.to_string()).collect::<Vec<_>>().join(",") + "\n"
}

#[test]
fn bytes_a_json_list_and_csv_give_the_same_answer() {
    let folder = folder();
    let nested = serde_json::to_string(&[numbers().chunks(8).collect::<Vec<_>>()]).unwrap();
    let from_bytes = infer(folder.path(), "a.bin", &bytes());
    assert_eq!(
        from_bytes["tensors"][0]["values"],
        serde_json::json!([173.25, 162.75, 168.0]),
        "{from_bytes}"
    );
    for (name, content) in [("a.csv", csv()), ("a.json", nested)] {
        let answer = infer(folder.path(), name, content.as_bytes());
        assert_eq!(answer["tensors"], from_bytes["tensors"], "{name}: {answer}");
    }
}

#[test]
fn bytes_that_begin_as_a_list_does_are_bytes() {
    let mut bytes = bytes();
    bytes[0] = b'[';
    let answer = infer(folder().path(), "bytes.bin", &bytes);
    assert!(answer.get("error").is_none(), "{answer}");
}

#[test]
fn a_wrong_input_is_told_what_the_model_takes() {
    let folder = folder();
    const TAKES: &str = "the model takes 64 × float32, little endian, 256 bytes, or 64 numbers as a JSON list or CSV; ";
    for (content, came) in [
        (&bytes()[1..], "these are 255 bytes"),
        (b"1,2,3", "these are 3 numbers"),
        (
            b"[1, 2",
            "JSON: not a whole list of numbers, or something else in it, at line 1 column 5",
        ),
        ("1,".repeat(65).as_bytes(), "there are more numbers"),
        // As long as the tensor, and yet no bytes of it.
        (("1.25,".repeat(51) + "1").as_bytes(), "these are 52 numbers"),
    ] {
        let answer = infer(folder.path(), "wrong.bin", content);
        assert_eq!(answer["error"], format!("{TAKES}{came}"), "{answer}");
    }
}

#[test]
fn a_tensor_model_has_its_golden_sample_as_csv_and_answers_over_http() {
    let folder = folder();
    std::fs::write(folder.path().join("golden.csv"), csv()).unwrap();
    let mut command = runner_verb("golden", folder.path());
    command.arg(expected_hash());
    assert!(output(command).status.success());
    let mut command = runner(folder.path());
    command.args([&expected_hash(), "--http=127.0.0.1:0"]);
    command.arg(format!("--results={}", folder.path().join("results.jsonl").display()));
    let mut workload = Workload::start(command);
    let line = workload.line("listening on ");
    let mut stream = std::net::TcpStream::connect(line.rsplit(' ').next().unwrap()).unwrap();
    let body = csv();
    let head = format!(
        "POST /infer HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"tensors\""), "{answer}");
}
