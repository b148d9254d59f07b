//! Where inputs come from. Each source is a thread that sends [`Event`]s to the inference loop.

pub mod folder;
pub mod http;

use crate::error::{self, Error, Exit};
use crate::prepare::Received;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

/// Longest input in bytes: a 50-megapixel JPEG.
pub const MAX_INPUT: u64 = 16 << 20;

/// What happens to the inference loop.
pub enum Event {
    /// Something to look at.
    Input {
        /// Where it came from, for the result.
        name: String,
        /// The file or the request's body, prepared.
        input: Received,
        /// Who waits for the answer: what became of it, and its line.
        reply: Option<SyncSender<(Verdict, String)>>,
    },
    /// SIGTERM.
    Stop,
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A result.
    Result,
    /// It is nothing that the model takes.
    Wrong,
    /// It is too large for this device.
    TooLarge,
    /// The model answered NaN or an infinity.
    NoNumber,
}

/// Counts since the start.
#[derive(Default)]
pub struct Metrics {
    results: AtomicU64,
    bad_inputs: AtomicU64,
    bad_outputs: AtomicU64,
}

impl Metrics {
    /// Counts one result, one input that could not be used, or one answer that was no number.
    pub fn count(&self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Result => &self.results,
            Verdict::Wrong | Verdict::TooLarge => &self.bad_inputs,
            Verdict::NoNumber => &self.bad_outputs,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// In Prometheus' text format.
    pub fn text(&self) -> String {
        format!(
            "# TYPE runner_results_total counter\nrunner_results_total {}\n# TYPE runner_bad_inputs_total counter\nrunner_bad_inputs_total {}\n# TYPE runner_bad_outputs_total counter\nrunner_bad_outputs_total {}\n",
            self.results.load(Ordering::Relaxed),
            self.bad_inputs.load(Ordering::Relaxed),
            self.bad_outputs.load(Ordering::Relaxed)
        )
    }
}

/// Starts a named thread with a stack that fits a small device and decodes a picture.
pub fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(1 << 20)
        .spawn(body)
        .map(drop)
        .map_err(|e| {
            Error::new(Exit::Source, format!("cannot start thread {name}: {}", error::plain(&e)))
        })
}
