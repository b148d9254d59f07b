//! The golden sample: an input and the result its maker saw. A model that says something else
//! never becomes ready.

use crate::config::{Config, read_bounded};
use crate::engine;
use crate::error::{self, Error, Exit};
use crate::pipeline::Pipeline;
use crate::prepare::{Prepared, Preparer};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::thread::JoinHandle;

/// A golden sample is small, so that a slow board is ready soon.
const MAX_SAMPLE: u64 = 8 << 20;
const MAX_EXPECTED: u64 = 4 << 20;
/// Differences that are listed; the first ones tell enough.
const LISTED: usize = 3;

/// `golden.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Version of TensorFlow Lite that made it.
    engine: String,
    /// Delegate that made it.
    delegate: String,
    /// The model that made it, SHA-256.
    model_sha256: String,
    /// The sample, SHA-256.
    sample_sha256: String,
    /// How far numbers may be off.
    tolerance: Tolerance,
    /// The decoded result.
    expected: Value,
}

/// How far numbers may be off, upwards or downwards.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tolerance {
    /// Of scores and raw values.
    score: f64,
    /// Of coordinates, in pixels of the sample.
    pixels: f64,
}

impl Default for Tolerance {
    /// Between XNNPACK's kernels for different processors float results differ in the fifth
    /// digit; this is far above that and far below another answer.
    fn default() -> Self {
        Self { score: 0.02, pixels: 1.0 }
    }
}

/// Runs the sample and compares. Fails with exit code 3 when the result is another one.
pub fn check(pipeline: &mut Pipeline, config: &Config, sample: Sample) -> Result<(), Error> {
    let path = config.folder.join(&config.golden.expected);
    let bytes = read_bounded(&path, MAX_EXPECTED).map_err(|e| {
        Error::config(format!(
            "golden sample: {e}; write it on your machine with: runner golden --model={}",
            config.folder.display()
        ))
    })?;
    let golden: Expected = serde_json::from_slice(&bytes).map_err(|e| {
        Error::config(format!(
            "{}: line {} is not as it was written; write it anew: runner golden --model={}",
            path.display(),
            e.line(),
            config.folder.display()
        ))
    })?;
    let sample_sha256 = sample.sha256;
    let actual = run(pipeline, config, sample.prepared)?;
    if sample_sha256 != golden.sample_sha256 {
        return Err(mismatch(format!(
            "{} is not the file {} was made from (SHA-256 {sample_sha256}, expected {}); write it anew: runner golden",
            config.golden.sample.display(),
            path.display(),
            golden.sample_sha256
        )));
    }
    let mut differences = Vec::new();
    compare("", &golden.expected, &actual, golden.tolerance, &mut differences);
    if differences.is_empty() {
        return pipeline.reset_state();
    }
    let more = differences.len().saturating_sub(LISTED);
    differences.truncate(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let mut made = format!("TensorFlow Lite {} with {}", engine::version(), pipeline.delegate());
    if golden.engine != engine::version() || golden.delegate != pipeline.delegate() {
        made = format!("{made}, while it was made by {} with {}", golden.engine, golden.delegate);
    }
    if golden.model_sha256 != pipeline.model_sha256 {
        made = format!(
            "{made}; and the model is {}, not {}",
            pipeline.model_sha256, golden.model_sha256
        );
    }
    Err(mismatch(format!("{}{more} ({made})", differences.join("; "))))
}

/// Writes `golden.json` from the sample, keeping tolerances that somebody has set.
pub fn write(pipeline: &mut Pipeline, config: &Config, sample: Sample) -> Result<(), Error> {
    let path = config.folder.join(&config.golden.expected);
    let tolerance = match std::fs::read(&path) {
        Ok(old) => serde_json::from_slice::<Expected>(&old).map(|old| old.tolerance).map_err(|_| {
            Error::config(format!(
                "{}: is there and no golden result; remove it, or name another file as `expected`",
                path.display()
            ))
        })?,
        Err(_) => Tolerance::default(),
    };
    let sample_sha256 = sample.sha256;
    let expected = run(pipeline, config, sample.prepared)?;
    let golden = Expected {
        engine: engine::version().to_owned(),
        delegate: pipeline.delegate().to_owned(),
        model_sha256: pipeline.model_sha256.clone(),
        sample_sha256,
        tolerance,
        expected,
    };
    let mut text = serde_json::to_string_pretty(&golden)
        .map_err(|e| Error::config(format!("{}: {e}", path.display())))?;
    text.push('\n');
    let partial = path.with_extension("json.part");
    std::fs::write(&partial, &text)
        .and_then(|()| std::fs::rename(&partial, &path))
        .map_err(|e| Error::config(format!("{}: {}", path.display(), error::plain(&e))))?;
    println!("{}: {} says {}", path.display(), config.name, golden.expected);
    Ok(())
}

/// The sample, preprocessed.
pub struct Sample {
    prepared: Prepared,
    sha256: String,
}

/// The sample while it is being prepared.
pub struct PendingSample(JoinHandle<Result<Sample, Error>>);

/// Prepares the sample in a thread of its own, beside the loading of the model.
pub fn begin(config: &Config, preparer: &Arc<Preparer>) -> Result<PendingSample, Error> {
    let (config, preparer) = (config.clone(), Arc::clone(preparer));
    std::thread::Builder::new()
        .name("golden".into())
        .spawn(move || read(&config, &preparer))
        .map(PendingSample)
        .map_err(|e| {
            let reason = error::plain(&e);
            Error::config(format!("golden sample: cannot start a thread: {reason}"))
        })
}

impl PendingSample {
    /// Waits for it.
    pub fn sample(self) -> Result<Sample, Error> {
        self.0.join().map_err(|_| Error::config("golden sample: its thread has failed"))?
    }
}

/// Reads and prepares the sample.
pub fn read(config: &Config, preparer: &Preparer) -> Result<Sample, Error> {
    let path = config.folder.join(&config.golden.sample);
    let sample = read_bounded(&path, MAX_SAMPLE)?;
    let sha256 = formats::hex::encode(&Sha256::digest(&sample));
    let prepared = preparer.prepare(sample).map_err(|e| bad(config, e))?;
    Ok(Sample { prepared, sha256 })
}

/// The decoded result.
fn run(pipeline: &mut Pipeline, config: &Config, sample: Prepared) -> Result<Value, Error> {
    let filled = pipeline.fill(sample).map_err(|refusal| bad(config, refusal.text))?;
    let inferred = pipeline.infer(&filled)?;
    if let Some(what) = inferred.not_finite {
        return Err(mismatch(format!("{what}; a sample's result must be all numbers")));
    }
    serde_json::to_value(&inferred.outcome).map_err(|e| bad(config, e.to_string()))
}

fn bad(config: &Config, why: String) -> Error {
    let path = config.folder.join(&config.golden.sample);
    Error::config(format!("golden sample {}: {why}", path.display()))
}

fn mismatch(text: String) -> Error {
    Error::new(Exit::Golden, format!("golden sample mismatch: {text}"))
}

/// Lists where `actual` differs, as `place: expected this, got that`. Numbers below a `box` or
/// `keypoints` are pixels, other fractions scores; everything else must be equal.
fn compare(
    place: &str,
    expected: &Value,
    actual: &Value,
    tolerance: Tolerance,
    differences: &mut Vec<String>,
) {
    match (expected, actual) {
        (Value::Object(e), Value::Object(a)) => {
            for key in e.keys().chain(a.keys().filter(|k| !e.contains_key(*k))) {
                let inner = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                let side = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                compare(&inner, &side(e), &side(a), tolerance, differences);
            }
        }
        (Value::Array(e), Value::Array(a)) if e.len() == a.len() => {
            for (i, (e, a)) in e.iter().zip(a).enumerate() {
                compare(&format!("{place}[{i}]"), e, a, tolerance, differences);
            }
        }
        (Value::Array(e), Value::Array(a)) => {
            differences.push(format!("{place}: expected {} of them, got {}", e.len(), a.len()));
        }
        (Value::Number(e), Value::Number(a)) => {
            let allowed = if place.contains(".box.") || place.contains(".keypoints[") {
                tolerance.pixels
            } else {
                tolerance.score
            };
            let (e, a) = (e.as_f64().unwrap_or(f64::NAN), a.as_f64().unwrap_or(f64::NAN));
            if (e - a).abs() <= allowed {
                return;
            }
            differences.push(format!("{place}: expected {e:.4} \u{b1} {allowed}, got {a:.4}"));
        }
        (e, a) if e == a => {}
        (e, a) => differences.push(format!("{place}: expected {e}, got {a}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn differences(expected: Value, actual: Value) -> Vec<String> {
        let mut list = Vec::new();
        compare("", &expected, &actual, Tolerance { score: 0.01, pixels: 2.0 }, &mut list);
        list
    }

    #[test]
    fn scores_and_pixels_have_their_own_tolerance() {
        let at = |score: f64, x: f64| json!({"detections": [{"score": score, "box": {"x": x}, "keypoints": [{"name": "a", "x": x}]}]});
        assert!(differences(at(0.9, 10.0), at(0.905, 11.9)).is_empty());
        let list = differences(at(0.9, 10.0), at(0.8, 13.0));
        assert_eq!(list.len(), 3, "{list:?}");
        assert!(list.iter().any(|d| d.starts_with("detections[0].score: expected 0.9000")));
        assert!(list.iter().any(|d| d.starts_with("detections[0].keypoints[0].x")));
    }

    #[test]
    fn another_number_of_things_or_another_name_differs() {
        assert_eq!(
            differences(json!({"d": [1, 2]}), json!({"d": [1]})),
            ["d: expected 2 of them, got 1"]
        );
        assert_eq!(differences(json!({"d": "cat"}), json!({"d": "dog"})).len(), 1);
        assert_eq!(differences(json!({"a": 1}), json!({"b": 1})).len(), 2);
        assert_eq!(differences(json!({"a": 0.5}), json!({"a": null})).len(), 1, "NaN is null");
    }
}
