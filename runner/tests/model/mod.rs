//! The demo's model in a folder of its own, and the built `runner` to run on it.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// SHA-256 of face_detection_short_range.tflite.
#[allow(dead_code, reason = "not every test file runs the demo's model")]
pub const FACE_SHA256: &str = "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8";

/// Longest wait for a line.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file's SHA-256 in hex.
#[allow(dead_code, reason = "not every test file makes models")]
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    formats::hex::encode(&sha2::Sha256::digest(bytes))
}

/// A file that scripts/tflite-setup brings.
#[allow(dead_code, reason = "not every test file runs the demo's model")]
pub fn fetched(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/tflite").join(name);
    assert!(path.exists(), "{} is missing: run scripts/tflite-setup", path.display());
    path
}

/// A folder with model.toml, the golden sample and the model.
#[allow(dead_code, reason = "not every test file runs the demo's model")]
pub fn face() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/face");
    for name in ["model.toml", "golden.png", "golden.json"] {
        std::fs::copy(demo.join(name), folder.path().join(name)).unwrap();
    }
    std::fs::copy(
        fetched("models/face_detection_short_range.tflite"),
        folder.path().join("model.tflite"),
    )
    .unwrap();
    folder
}

/// A command that runs the built runner on a model's folder.
#[allow(dead_code, reason = "not every test file starts it without a verb")]
pub fn runner(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.arg(format!("--model={}", folder.display()));
    command
}

/// The same with a verb in front.
#[allow(dead_code, reason = "not every test file uses every verb")]
pub fn runner_verb(verb: &str, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.arg(verb).arg(format!("--model={}", folder.display()));
    command
}

/// Runs to the end; kills and fails the test after a minute.
#[allow(dead_code, reason = "not every test file runs commands to their end")]
pub fn output(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = wait(&mut child, Duration::from_secs(60));
    if ended.is_none() {
        child.kill().unwrap();
        panic!("{command:?} did not end within a minute");
    }
    child.wait_with_output().unwrap()
}

/// Waits at most this long.
pub fn wait(child: &mut Child, most: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + most;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// A running workload; killed at the end of the test.
///
/// Standard output and standard error are kept apart: they are two pipes, so which of a result and a
/// message comes first here says nothing about which was written first.
#[allow(dead_code, reason = "not every test file starts workloads")]
pub struct Workload {
    pub child: Child,
    results: Receiver<String>,
    messages: Receiver<String>,
    /// The messages that were read so far.
    pub seen: Vec<String>,
}

#[allow(dead_code, reason = "not every test file starts workloads")]
impl Workload {
    /// Starts it with both outputs read line by line.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let results = lines(child.stdout.take().unwrap());
        let messages = lines(child.stderr.take().unwrap());
        Self { child, results, messages, seen: Vec::new() }
    }

    /// Waits for a message (standard error) that contains `part`.
    pub fn line(&mut self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        while let Ok(line) =
            self.messages.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            self.seen.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
        panic!("no line with {part:?}; seen: {:#?}", self.seen);
    }

    /// Waits for the next result line (standard output).
    pub fn result(&mut self) -> Value {
        let Ok(line) = self.results.recv_timeout(PATIENCE) else {
            self.seen.extend(self.messages.try_iter());
            panic!("no result; messages: {:#?}", self.seen);
        };
        serde_json::from_str(&line).unwrap()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        let id = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        wait(&mut self.child, Duration::from_secs(20)).expect("no end after SIGTERM")
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, as they come.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(pipe).lines().map_while(Result::ok).for_each(|l| drop(sender.send(l)))
    });
    lines
}
