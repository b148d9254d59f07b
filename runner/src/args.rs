//! The command line.

use crate::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `runner --help` prints.
pub const HELP: &str = "\
runner: runs one TensorFlow Lite model on pictures and says what it sees.

  runner --model=DIR                 run as a workload: golden sample, ready, then the sources
  runner infer --model=DIR FILE...   one result line for each file, then end
  runner golden --model=DIR          write DIR's golden.json from its golden sample
  runner check --model=DIR           compare with DIR's golden sample, then end
  runner bench --model=DIR [-n N]    times as JSON: the whole pipeline beside the bare invoke

DIR holds model.tflite, model.toml and the golden sample that model.toml names.

Options
  --manifest=FILE        the slot header with the model's hash (default /run/ferrite/slot-header)
  --expect-sha256=HEX    the model's hash, where there is no manifest (a developer's machine)
  --threads=N            overrides `threads` of model.toml
  --folder=DIR           overrides `source.folder`
  --http=ADDR:PORT       overrides `source.http`
  --results=FILE         overrides `results.path`
  --memory=BYTES         memory that may be taken, where the control group allows more

infer, golden, check and bench also take the `sha256` in model.toml for the model's hash.

Exit codes
  0 ended as asked   2 wrong command line or model.toml   3 golden sample mismatch
  4 model refused: not the manifest's   5 TensorFlow Lite failed   6 a source cannot be opened

Examples
  runner infer --model=demo/face photo.jpg
  runner --model=/usr/share/models/face
  curl --data-binary @photo.jpg http://device:8080/infer
";

/// Runs of `bench` unless `-n` says otherwise.
const BENCH_RUNS: usize = 200;
/// More runs than this are a typing error: hours even on a fast machine.
const MAX_BENCH_RUNS: usize = 1_000_000;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// The workload.
    Run,
    /// These files once each.
    Infer {
        /// Files to read, in order.
        pictures: Vec<PathBuf>,
    },
    /// Write `golden.json`.
    Golden,
    /// Compare with the golden sample, as a workload does before it is ready.
    Check,
    /// Measure.
    Bench {
        /// Timed runs.
        runs: usize,
    },
}

/// Settings that the command line replaces, of `model.toml` most of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Threads of the interpreter.
    pub threads: Option<i32>,
    /// Folder to read pictures from.
    pub folder: Option<PathBuf>,
    /// Address to listen on.
    pub http: Option<String>,
    /// Result log.
    pub results: Option<PathBuf>,
    /// Bytes of memory.
    pub memory: Option<u64>,
}

/// The command line, parsed.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// The model's folder.
    pub model: PathBuf,
    /// `--manifest`.
    pub manifest: Option<PathBuf>,
    /// `--expect-sha256`, as given.
    pub expect_sha256: Option<String>,
    /// Replacements for settings.
    pub overrides: Overrides,
}

/// Parses the arguments behind the program's name. `None`: help was asked for.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Request>, Error> {
    let mut arguments = arguments.peekable();
    let verb = arguments
        .next_if(|a| {
            matches!(a.to_str(), Some("infer" | "golden" | "check" | "bench" | "run" | "help"))
        })
        .and_then(|a| a.into_string().ok());
    let (mut model, mut manifest, mut expect_sha256, mut runs) = (None, None, None, None);
    let mut overrides = Overrides::default();
    let mut files = Vec::new();
    while let Some(argument) = arguments.next() {
        let text = argument
            .into_string()
            .map_err(|a| Error::config(format!("argument {a:?} is not UTF-8")))?;
        let (key, attached) = match text.split_once('=') {
            Some((key, value)) if key.starts_with("--") => (key.to_owned(), Some(value.to_owned())),
            _ => (text.clone(), None),
        };
        let mut value = || -> Result<String, Error> {
            attached
                .clone()
                .or_else(|| arguments.next().and_then(|a| a.into_string().ok()))
                .filter(|v| !v.is_empty())
                .ok_or_else(|| Error::config(format!("{key} needs a value; see runner --help")))
        };
        match key.as_str() {
            "-h" | "--help" => return Ok(None),
            "--model" => model = Some(PathBuf::from(value()?)),
            "--manifest" => manifest = Some(PathBuf::from(value()?)),
            "--expect-sha256" => expect_sha256 = Some(value()?),
            "--threads" => overrides.threads = Some(number(&key, &value()?, 1, 64)?),
            "--folder" => overrides.folder = Some(PathBuf::from(value()?)),
            "--http" => overrides.http = Some(value()?),
            "--results" => overrides.results = Some(PathBuf::from(value()?)),
            "--memory" => {
                let text = value()?;
                let bytes = text.parse().map_err(|_| {
                    Error::config(format!("--memory {text}: expected a number of bytes"))
                })?;
                overrides.memory = Some(bytes);
            }
            "-n" | "--runs" => {
                runs = Some(number(&key, &value()?, 1, MAX_BENCH_RUNS as i32)? as usize)
            }
            other if other.starts_with('-') => {
                return Err(Error::config(format!("unknown option {other}; see runner --help")));
            }
            _ => files.push(PathBuf::from(text)),
        }
    }
    let command = match verb.as_deref() {
        Some("help") => return Ok(None),
        Some("infer") => Command::Infer { pictures: std::mem::take(&mut files) },
        Some("golden") => Command::Golden,
        Some("check") => Command::Check,
        Some("bench") => Command::Bench { runs: runs.take().unwrap_or(BENCH_RUNS) },
        _ => Command::Run,
    };
    if let Some(file) = files.first() {
        return Err(Error::config(format!(
            "unexpected argument {}; to run the model on a file: runner infer --model=DIR FILE",
            file.display()
        )));
    }
    if runs.is_some() {
        return Err(Error::config("-n belongs to `runner bench`"));
    }
    if matches!(&command, Command::Infer { pictures } if pictures.is_empty()) {
        return Err(Error::config("infer needs at least one file: runner infer --model=DIR FILE"));
    }
    let model = model.ok_or_else(|| Error::config("--model=DIR is missing; see runner --help"))?;
    Ok(Some(Request { command, model, manifest, expect_sha256, overrides }))
}

fn number(key: &str, text: &str, least: i32, most: i32) -> Result<i32, Error> {
    text.parse::<i32>().ok().filter(|n| (least..=most).contains(n)).ok_or_else(|| {
        Error::config(format!("{key} {text}: expected a number from {least} to {most}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Request>, Error> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn without_a_verb_it_runs() {
        let request = parsed(&["--model=/m", "--threads", "2"]).unwrap().unwrap();
        assert_eq!(request.command, Command::Run);
        assert_eq!(request.model, PathBuf::from("/m"));
        assert_eq!(request.overrides.threads, Some(2));
    }

    #[test]
    fn verbs_take_their_own_arguments_only() {
        assert_eq!(
            parsed(&["bench", "--model", "/m", "-n", "5"]).unwrap().unwrap().command,
            Command::Bench { runs: 5 }
        );
        for wrong in [
            &["--model=/m", "photo.png"][..],
            &["--model=/m", "-n", "5"],
            &["infer", "--model=/m"],
            &["bench", "--model=/m", "-n", "0"],
            &["--model="],
            &["--model=/m", "--what"],
            &[],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn help_is_not_an_error() {
        assert!(parsed(&["--help"]).unwrap().is_none());
        assert!(parsed(&["help"]).unwrap().is_none());
    }
}
