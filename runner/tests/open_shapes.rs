//! Models whose batch size is open and whose outputs get their shape at an invoke, as Keras writes
//! them by default.

mod model;
mod tflite;

use model::{output, runner_verb};
use serde_json::Value;
use std::path::Path;

/// A folder with the model and a `model.toml` of these tables.
fn folder(tables: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.tflite"), tflite::dense_with_open_batch()).unwrap();
    std::fs::write(folder.path().join("model.toml"), format!("name = \"dense\"\n{tables}"))
        .unwrap();
    folder
}

const PICTURE: &str =
    "[input]\nkind = \"picture\"\nwidth = 8\nheight = 8\nchannels = \"gray\"\nrange = [0, 1]\n";

fn infer(folder: &Path, input: &Path) -> (Option<i32>, Value, String) {
    let model = std::fs::read(folder.join("model.tflite")).unwrap();
    let mut command = runner_verb("infer", folder);
    command.arg(format!("--expect-sha256={}", model::sha256(&model))).arg(input);
    let output = output(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

/// Only the pixels 1, 4, 7 … are white.
fn picture(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("stripes.png");
    let stripes = image::GrayImage::from_fn(8, 8, |x, y| {
        image::Luma([if (y * 8 + x) % 3 == 1 { 255 } else { 0 }])
    });
    stripes.save(&path).unwrap();
    path
}

#[test]
fn a_keras_export_with_an_open_batch_size_is_classified() {
    for delegate in ["xnnpack", "none"] {
        let tables = format!(
            "delegate = \"{delegate}\"\n{PICTURE}[decoder]\nkind = \"classification\"\nlabels = [\"a\", \"b\", \"c\"]\ntop = 3\n"
        );
        let folder = folder(&tables);
        let (code, line, said) = infer(folder.path(), &picture(folder.path()));
        assert_eq!(code, Some(0), "{line} {said}");
        assert_eq!(line["classes"][0]["label"], "b", "{line}");
        assert_eq!(line["classes"][0]["score"], 21.0, "{line}");
        assert_eq!(line["classes"][1]["score"], 0.0, "{line}");
    }
}

/// What TensorFlow's own interpreter says of it: `models/keras_int8.py` printed it.
#[test]
fn a_real_keras_export_answers_as_tensorflow_does() {
    const EXPECTED: [f64; 10] = [
        0.2265625, 0.08984375, 0.0078125, 0.02734375, 0.03515625, 0.1015625, 0.45703125,
        0.01171875, 0.0234375, 0.01953125,
    ];
    let folder = folder(&format!("{PICTURE}[decoder]\nkind = \"classification\"\ntop = 10\n"));
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/keras_int8.tflite");
    std::fs::copy(model, folder.path().join("model.tflite")).unwrap();
    let path = folder.path().join("ramp.png");
    let ramp = |x, y| image::Luma([(y * 8 + x) as u8 * 4]);
    image::GrayImage::from_fn(8, 8, ramp).save(&path).unwrap();
    let (code, line, said) = infer(folder.path(), &path);
    assert_eq!(code, Some(0), "{line} {said}");
    let classes = line["classes"].as_array().unwrap();
    assert_eq!(classes.len(), EXPECTED.len());
    assert_eq!(classes[0]["label"], "6", "{line}");
    for class in classes {
        let expected = EXPECTED[class["label"].as_str().unwrap().parse::<usize>().unwrap()];
        // Other processors' kernels differ by a step.
        assert!((class["score"].as_f64().unwrap() - expected).abs() <= 0.005, "{line}");
    }
}

#[test]
fn an_output_of_a_type_that_no_decoder_reads_is_named_only_when_asked_for() {
    let raw = folder(&format!("{PICTURE}[decoder]\nkind = \"raw\"\n"));
    let (code, line, said) = infer(raw.path(), &picture(raw.path()));
    assert_eq!(code, Some(0), "{line} {said}");
    assert_eq!(line["tensors"][0]["shape"], serde_json::json!([1, 3]), "{line}");
    assert_eq!(line["tensors"][0]["values"], serde_json::json!([0.0, 21.0, 0.0]));
    assert_eq!(line["tensors"][1]["unread"], "complex64", "{line}");
    let asked = folder(&format!("{PICTURE}[decoder]\nkind = \"classification\"\noutput = \"1\"\n"));
    let (code, _, said) = infer(asked.path(), &picture(asked.path()));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("type complex64") && said.contains("decoder.output"), "{said}");
}

#[test]
fn an_open_axis_gets_the_size_that_the_model_file_gives_it() {
    let folder =
        folder("[input]\nkind = \"tensor\"\nshape = [2, 8, 8, 1]\n[decoder]\nkind = \"raw\"\n");
    let input = folder.path().join("two.bin");
    let numbers = [[1f32; 64], [2f32; 64]].concat();
    std::fs::write(&input, numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>())
        .unwrap();
    let (code, line, said) = infer(folder.path(), &input);
    assert_eq!(code, Some(0), "{line} {said}");
    assert_eq!(line["tensors"][0]["shape"], serde_json::json!([2, 3]), "{line}");
    assert_eq!(line["tensors"][0]["values"][3], 44.0, "{line}");
}
