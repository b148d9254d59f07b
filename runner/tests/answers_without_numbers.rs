//! A model that answers NaN says so, and never the same as one that is sure.

mod model;

use model::{face, output, runner_verb};
use serde_json::Value;

/// The face model, fed with the tensor itself: NaN in, NaN out.
fn fed_with_nan(nan: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = face();
    let toml = format!(
        "name = \"face\"\ndelegate = \"none\"\n{nan}\n[input]\nkind = \"tensor\"\n[decoder]\nkind = \"raw\"\nmax_values = 4\n[golden]\nsample = \"nan.bin\"\n"
    );
    std::fs::write(folder.path().join("model.toml"), toml).unwrap();
    let path = folder.path().join("nan.bin");
    std::fs::write(&path, f32::NAN.to_le_bytes().repeat(128 * 128 * 3)).unwrap();
    (folder, path)
}

fn infer(nan: &str) -> (Option<i32>, Value) {
    let (folder, input) = fed_with_nan(nan);
    let mut command = runner_verb("infer", folder.path());
    command.arg(format!("--expect-sha256={}", model::FACE_SHA256)).arg(input);
    let output = output(command);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn nan_in_an_output_is_an_error_that_names_it() {
    let (code, line) = infer("");
    assert_eq!(code, Some(2), "{line}");
    let error = line["error"].as_str().unwrap();
    assert!(error.starts_with("the model's output \""), "{error}");
    assert!(error.contains(" is NaN at index "), "{error}");
    assert_eq!(line["tensors"], Value::Null);
}

#[test]
fn nan_is_null_where_the_model_file_says_so() {
    let (code, line) = infer("nan = \"ignore\"");
    assert_eq!(code, Some(0), "{line}");
    assert!(line["tensors"][0]["values"].as_array().unwrap().contains(&Value::Null), "{line}");
}

#[test]
fn no_golden_sample_is_made_of_nan() {
    for nan in ["", "nan = \"ignore\""] {
        let (folder, _) = fed_with_nan(nan);
        let golden = folder.path().join("golden.json");
        std::fs::remove_file(&golden).unwrap();
        let mut command = runner_verb("golden", folder.path());
        command.arg(format!("--expect-sha256={}", model::FACE_SHA256));
        let output = output(command);
        assert_eq!(output.status.code(), Some(3));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("a sample's result must be all numbers"), "{text}");
        assert!(!golden.exists());
    }
}

/// As an older runner wrote it.
#[test]
fn a_golden_sample_of_nan_is_never_passed() {
    for nan in ["", "nan = \"ignore\""] {
        let (folder, sample) = fed_with_nan(nan);
        let values = vec![Value::Null; 4];
        let golden = serde_json::json!({
            "engine": "2.17.1", "delegate": "none", "model_sha256": model::FACE_SHA256,
            "sample_sha256": model::sha256(&std::fs::read(sample).unwrap()),
            "tolerance": {"score": 1e30, "pixels": 1e30},
            "expected": {"tensors": [
                {"name": "regressors", "shape": [1, 896, 16], "values": values, "left_out": 14332},
                {"name": "classificators", "shape": [1, 896, 1], "values": values, "left_out": 892},
            ]},
        });
        std::fs::write(folder.path().join("golden.json"), golden.to_string()).unwrap();
        let mut command = model::runner(folder.path());
        command.arg(format!("--expect-sha256={}", model::FACE_SHA256));
        let output = output(command);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("a sample's result must be all numbers"), "{text}");
        assert!(!text.contains("ready"));
    }
}
