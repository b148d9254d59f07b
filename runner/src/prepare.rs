//! From an input's bytes to the numbers of the tensor: all that needs no model, so that sources
//! do it in their own threads, beside the engine, and at the start while the model is loaded.

use crate::config::Input;
use crate::picture::{self, Fitting, Placement};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Prepares the inputs of one model.
pub struct Preparer {
    /// `None`: inputs are the tensor's own bytes.
    fitting: Option<Fitting>,
    /// A decoded photograph is large and devices are small: one at a time.
    at_work: Mutex<()>,
}

/// An input as far as it gets without the model.
pub struct Prepared {
    /// What goes into the tensor.
    pub content: Content,
    /// Where a picture lies in the tensor.
    pub placement: Option<Placement>,
    /// Spent on decoding PNG or JPEG.
    pub decoding: Duration,
    /// Spent on resizing and normalising.
    pub fitting: Duration,
}

/// What goes into the tensor.
pub enum Content {
    /// Real numbers in the tensor's order, not quantised yet.
    Numbers(Vec<f32>),
    /// The tensor's bytes as they came; their number is not checked yet.
    Bytes(Vec<u8>),
}

/// An input that a source hands over: prepared, or what is wrong with it.
pub struct Received {
    /// The prepared input, or the sender's fault.
    pub prepared: Result<Prepared, String>,
    /// Spent on it, without waiting for others.
    pub took: Duration,
}

impl Preparer {
    /// Prepares inputs as `model.toml` says.
    pub fn new(input: &Input) -> Self {
        let fitting = match input {
            Input::Picture(picture) => Some(Fitting::new(picture)),
            Input::Tensor { .. } => None,
        };
        Self { fitting, at_work: Mutex::new(()) }
    }

    /// Decodes, resizes and normalises. Fails on what is no picture, which is the sender's fault.
    pub fn prepare(&self, input: Vec<u8>) -> Result<Prepared, String> {
        self.receive(input).prepared
    }

    /// The same, with the time it took.
    pub fn receive(&self, input: Vec<u8>) -> Received {
        let _alone = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        let prepared = match &self.fitting {
            Some(fitting) => fit(fitting, &input, started),
            None => Ok(Prepared {
                content: Content::Bytes(input),
                placement: None,
                decoding: Duration::ZERO,
                fitting: Duration::ZERO,
            }),
        };
        Received { prepared, took: started.elapsed() }
    }
}

fn fit(fitting: &Fitting, input: &[u8], started: Instant) -> Result<Prepared, String> {
    let picture = picture::decode(input)?;
    let decoded = Instant::now();
    let (numbers, placement) = fitting.numbers(&picture);
    Ok(Prepared {
        content: Content::Numbers(numbers),
        placement: Some(placement),
        decoding: decoded - started,
        fitting: decoded.elapsed(),
    })
}
