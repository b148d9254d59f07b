//! `model.toml`: what goes into the model, how its output is read, where pictures come from.
//!
//! Whoever builds an image asks the device's own code, without the engine and without the folder:
//! [`Config::parse`] for the file, [`Config::check_model`] for the model beside it.
//!
//! ```
//! use runner::config::Config;
//! let config = Config::parse(&std::fs::read_to_string("../demo/face/model.toml")?)?;
//! assert_eq!(config.golden.sample.to_str(), Some("golden.png"));
//! let wrong = Config::parse("nmae = \"face\"").unwrap_err();
//! assert_eq!(wrong, "line 1: unknown key `nmae`; did you mean `name`?");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(test)]
mod mistakes;
pub(crate) mod section;

use crate::args::Overrides;
use crate::error::{self, Error};
use crate::input::Input;
use crate::model_file;
use serde::{Deserialize, Deserializer};
use std::path::{Component, Path, PathBuf};

/// A `model.toml` is a page, not a book.
const MAX_CONFIG: u64 = 256 * 1024;

/// The whole file. Unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Prefix of console lines and `model` of each result.
    pub name: String,
    /// SHA-256 of `model.tflite`, hex. Checked besides the slot manifest's.
    pub sha256: Option<String>,
    /// Threads of the interpreter.
    #[serde(default = "one")]
    pub threads: i32,
    /// Who computes.
    #[serde(default)]
    pub delegate: Delegate,
    /// The model keeps state between invokes, so it is loaded afresh after the golden sample.
    #[serde(default)]
    pub stateful: bool,
    /// What an output that holds NaN or an infinity is.
    #[serde(default)]
    pub nan: Nan,
    /// Milliseconds between heartbeats.
    #[serde(default = "two_seconds")]
    pub heartbeat_ms: u64,
    /// The input tensor.
    pub input: Input,
    /// How outputs become a result.
    pub decoder: Decoder,
    /// Where pictures come from.
    #[serde(default)]
    pub source: Source,
    /// Where results are kept.
    #[serde(default)]
    pub results: Results,
    /// The golden sample.
    #[serde(default)]
    pub golden: Golden,
    /// The folder `model.toml` lies in.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Who computes: XNNPACK's kernels or TensorFlow Lite's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Delegate {
    /// XNNPACK (3 to 6 times faster on ARM; int8 results differ by a few steps from `none`).
    #[default]
    Xnnpack,
    /// TensorFlow Lite's built-in kernels.
    None,
}

impl Delegate {
    /// The name as in `model.toml` and `golden.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xnnpack => "xnnpack",
            Self::None => "none",
        }
    }
}

/// What becomes of an answer that is not all numbers: NaN (IEEE 754, 3.4) or an infinity somewhere
/// in the outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Nan {
    /// It is an error, which names the output and the value.
    #[default]
    Error,
    /// Classes and detections without a number are left out; `raw` writes null.
    Ignore,
}

/// How the output tensors are read.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)
)]
pub enum Decoder {
    /// Faces of MediaPipe's BlazeFace models.
    SsdFaces(crate::decoder::ssd_faces::Settings),
    /// One score for each class.
    Classification(crate::decoder::classification::Settings),
    /// The tensors as they are.
    Raw(crate::decoder::raw::Settings),
}

/// Where pictures come from; both may be set.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A folder, each file in it once.
    pub folder: Option<PathBuf>,
    /// Milliseconds between two looks into the folder.
    #[serde(default = "one_second")]
    pub poll_ms: u64,
    /// Reads the whole folder again and again, at `poll_ms`.
    #[serde(default)]
    pub repeat: bool,
    /// `address:port` of the HTTP server.
    pub http: Option<String>,
}

impl Default for Source {
    fn default() -> Self {
        Self { folder: None, poll_ms: one_second(), repeat: false, http: None }
    }
}

/// The result log.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// JSON lines are appended here.
    #[serde(default = "results_path")]
    pub path: PathBuf,
    /// A file does not grow beyond this many bytes.
    #[serde(default = "one_mebibyte")]
    pub max_bytes: u64,
    /// Older files kept besides (`.1` is the newest).
    #[serde(default = "two")]
    pub keep: u32,
}

impl Default for Results {
    fn default() -> Self {
        Self { path: results_path(), max_bytes: one_mebibyte(), keep: two() }
    }
}

/// The golden sample's files, in the model's folder.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The input.
    #[serde(default = "golden_sample")]
    pub sample: PathBuf,
    /// The expected result.
    #[serde(default = "golden_expected")]
    pub expected: PathBuf,
}

impl Default for Golden {
    fn default() -> Self {
        Self { sample: golden_sample(), expected: golden_expected() }
    }
}

fn one() -> i32 {
    1
}
fn two() -> u32 {
    2
}
fn one_second() -> u64 {
    1000
}
fn two_seconds() -> u64 {
    2000
}
fn one_mebibyte() -> u64 {
    1 << 20
}
fn results_path() -> PathBuf {
    "/data/results.jsonl".into()
}
fn golden_sample() -> PathBuf {
    "golden.png".into()
}
fn golden_expected() -> PathBuf {
    "golden.json".into()
}

/// Reads `model.toml` in `folder`, applies the command line's settings and checks all values.
pub fn load(folder: &Path, overrides: &Overrides) -> Result<Config, Error> {
    let path = folder.join("model.toml");
    let bytes = read_bounded(&path, MAX_CONFIG)?;
    parse(&bytes, folder, overrides).map_err(|e| Error::config(format!("{}: {e}", path.display())))
}

/// The same, of the file's bytes.
pub fn parse(bytes: &[u8], folder: &Path, overrides: &Overrides) -> Result<Config, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    let table: toml::Table = toml::from_str(text).map_err(|e| wording::syntax(text, &e))?;
    let lists = |value: &toml::Value| {
        value.as_array().is_some_and(|list| list.iter().any(toml::Value::is_table))
    };
    if let Some((key, _)) = table.iter().find(|(_, value)| lists(value)) {
        return Err(format!("[[{key}]]: there is one table of this name; write [{key}]"));
    }
    let mut config = Config::deserialize(table).map_err(|e| wording::meaning(text, &e))?;
    config.folder = folder.to_owned();
    if let Some(threads) = overrides.threads {
        config.threads = threads;
    }
    if overrides.folder.is_some() {
        config.source.folder.clone_from(&overrides.folder);
    }
    if overrides.http.is_some() {
        config.source.http.clone_from(&overrides.http);
    }
    if let Some(path) = &overrides.results {
        config.results.path.clone_from(path);
    }
    config.check()?;
    Ok(config)
}

/// Reads a file of at most `limit` bytes; a longer one is an error, never cut.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let wrong =
        |e: std::io::Error| Error::config(format!("{}: {}", path.display(), error::plain(&e)));
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(wrong)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(wrong)?;
    if bytes.len() as u64 > limit {
        return Err(Error::config(format!("{}: longer than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// Whether a golden sample's file, named by `key`, may have this name: it is written beside
/// `model.toml`, and over nothing else of the model.
pub fn check_golden_name(key: &str, name: &Path) -> Result<(), String> {
    let mut parts = name.components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    let taken = ["model.tflite", "model.toml"].iter().any(|taken| name == Path::new(taken));
    if plain && !taken {
        return Ok(());
    }
    Err(format!(
        "golden.{key} = {:?}: expected the name of a file beside model.toml, neither that nor model.tflite",
        name.display().to_string()
    ))
}

impl Config {
    /// The text of a `model.toml`, as the device reads it. Fails with a sentence that names the line
    /// or the key.
    pub fn parse(text: &str) -> Result<Config, String> {
        parse(text.as_bytes(), Path::new(""), &Overrides::default())
    }

    /// Whether a model's file is one, and its input what this says; told from the file alone. What
    /// the engine will say of it, and whether the outputs fit, only running it tells.
    pub fn check_model(&self, model: &[u8]) -> Result<(), String> {
        model_file::check_head(model)?;
        let inputs = model_file::inputs(model)
            .ok_or("model.tflite is damaged: its inputs cannot be read; is it whole?")?;
        if !model_file::is_whole(model) {
            return Err("model.tflite is cut off or damaged; copy or convert it again".into());
        }
        let index = self.input.tensor();
        let tensor = inputs.get(index).ok_or_else(|| {
            format!(
                "input.tensor = {index}: model.tflite has {} inputs, counted from 0",
                inputs.len()
            )
        })?;
        self.input.resize(tensor).map(drop)
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty()
            || self.name.len() > 64
            || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        {
            return Err(format!(
                "name {:?}: expected 1 to 64 letters, digits, '.', '_' or '-'",
                self.name
            ));
        }
        check_golden_name("sample", &self.golden.sample)?;
        check_golden_name("expected", &self.golden.expected)?;
        if self.golden.sample == self.golden.expected {
            return Err("golden: `sample` and `expected` are one file".into());
        }
        if !(1..=64).contains(&self.threads) {
            return Err(format!("threads = {}: expected 1 to 64", self.threads));
        }
        if !(100..=60_000).contains(&self.heartbeat_ms) {
            return Err(format!("heartbeat_ms = {}: expected 100 to 60000", self.heartbeat_ms));
        }
        if !(10..=86_400_000).contains(&self.source.poll_ms) {
            return Err(format!(
                "source.poll_ms = {}: expected 10 to 86400000",
                self.source.poll_ms
            ));
        }
        if !(4096..=1 << 30).contains(&self.results.max_bytes) || self.results.keep > 100 {
            return Err("results: max_bytes is 4096 to 1073741824, keep 0 to 100".into());
        }
        self.input.check()?;
        self.decoder.check()
    }
}

impl<'de> Deserialize<'de> for Decoder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let kind = section::take_kind(&mut table, &["ssd-faces", "classification", "raw"])?;
        match kind.as_str() {
            "ssd-faces" => section::read(table).map(Self::SsdFaces),
            "classification" => section::read(table).map(Self::Classification),
            _ => section::read(table).map(Self::Raw),
        }
    }
}

impl Decoder {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::SsdFaces(settings) => settings.check(),
            Self::Classification(settings) => settings.check(),
            Self::Raw(settings) => settings.check(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "name = \"x\"\n[input]\nkind = \"picture\"\nwidth = 8\nheight = 8\nrange = [0, 1]\n[decoder]\nkind = \"raw\"\n";

    fn loaded(text: &str) -> Result<Config, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.toml"), text).unwrap();
        load(folder.path(), &Overrides::default())
    }

    #[test]
    fn the_least_file_is_enough() {
        let config = loaded(LEAST).unwrap();
        assert_eq!(config.threads, 1);
        assert_eq!(config.results.path, PathBuf::from("/data/results.jsonl"));
    }

    #[test]
    fn errors_name_the_file_and_the_key() {
        for (change, word) in [
            (("width = 8", "width = 0"), "width"),
            (("width = 8", "width = 8\nmean = [1, 1, 1]"), "range"),
            (("range = [0, 1]", "std = [1, 0, 1]"), "std"),
            (("range = [0, 1]", "range = [255, 255]"), "every pixel would be 255.0"),
            (("range = [0, 1]", ""), "input.range is missing: what 0 and 255 become"),
            (("name = \"x\"", "name = \"x\"\nthread = 1"), "thread"),
            (("kind = \"raw\"", "kind = \"rar\""), "rar"),
            (("name = \"x\"", "name = \"a\\nb\""), "name"),
        ] {
            let error = loaded(&LEAST.replace(change.0, change.1)).unwrap_err().to_string();
            assert!(error.contains("model.toml") && error.contains(word), "{change:?}: {error}");
        }
    }
}
