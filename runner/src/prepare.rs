//! From an input's bytes to the numbers of the tensor: all that needs no model, so that sources
//! do it in their own threads, beside the engine, and at the start while the model is loaded.

use crate::budget::{Budget, Room};
use crate::input::Input;
use crate::picture::{self, Picture, Placement, Preprocessor, Refusal};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Prepares the inputs of one model.
pub struct Preparer {
    /// `None`: inputs are the tensor's own bytes.
    preprocessor: Option<Preprocessor>,
    budget: Budget,
    /// A decoded photograph is large and devices are small: one at a time.
    at_work: Mutex<()>,
}

/// An input as far as it gets without the model.
pub struct Prepared {
    /// What goes into the tensor.
    pub content: Content,
    /// Where a picture lies in the tensor.
    pub placement: Option<Placement>,
    /// Time to decode PNG or JPEG.
    pub decode_duration: Duration,
    /// Time to resize and normalise.
    pub preprocess_duration: Duration,
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
    pub prepared: Result<Prepared, Refusal>,
    /// Time spent on it, without waiting for others.
    pub duration: Duration,
}

impl Preparer {
    /// Prepares inputs as `model.toml` says, within this memory.
    pub fn new(input: &Input, budget: Budget) -> Self {
        let preprocessor = match input {
            Input::Picture(picture) => Some(Preprocessor::new(picture)),
            Input::Tensor(_) => None,
        };
        Self { preprocessor, budget, at_work: Mutex::new(()) }
    }

    /// The model runs: the rest of the memory is for inputs, of which so many may wait for it at a
    /// time, prepared.
    pub fn model_loaded(&self, waiting: usize) -> Room {
        let one = self.preprocessor.as_ref().map_or(0, Preprocessor::result_bytes);
        self.budget.measure(one * waiting as u64)
    }

    /// An input is gone when it is prepared; a tensor's bytes stay.
    pub fn consumes_input(&self) -> bool {
        self.preprocessor.is_some()
    }

    /// Decodes, resizes and normalises what belongs to the model itself, however large that is. Fails
    /// on what is no picture.
    pub fn prepare(&self, input: Vec<u8>) -> Result<Prepared, String> {
        self.work(input, |_| Ok(())).prepared.map_err(|refusal| refusal.text)
    }

    /// The same of anybody's input, with the time it took. What is no picture, or too large for the
    /// memory there is, is the sender's fault.
    pub fn receive(&self, input: Vec<u8>) -> Received {
        self.work(input, |bytes| self.budget.admit(bytes))
    }

    fn work(&self, input: Vec<u8>, admit: impl Fn(u64) -> Result<(), Refusal>) -> Received {
        let Some(preprocessor) = &self.preprocessor else {
            let content = Content::Bytes(input);
            let (decode_duration, preprocess_duration) = (Duration::ZERO, Duration::ZERO);
            let prepared =
                Prepared { content, placement: None, decode_duration, preprocess_duration };
            return Received { prepared: Ok(prepared), duration: Duration::ZERO };
        };
        let begun = Instant::now();
        // What is too large is not waited with while others are at work, and one that waits to be
        // admitted keeps nobody else waiting: the golden sample, which comes before, among them.
        let picture = match picture::open(&input) {
            Ok(picture) => picture,
            Err(refusal) => return Received { prepared: Err(refusal), duration: begun.elapsed() },
        };
        if let Err(refusal) = admit(preprocessor.peak(&picture)) {
            return Received { prepared: Err(refusal), duration: begun.elapsed() };
        }
        let _alone = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        Received {
            prepared: preprocess(preprocessor, picture, started),
            duration: started.elapsed(),
        }
    }
}

fn preprocess(
    preprocessor: &Preprocessor,
    picture: Picture<'_>,
    started: Instant,
) -> Result<Prepared, Refusal> {
    let (numbers, placement, preprocess_duration) = preprocessor.preprocess(picture)?;
    Ok(Prepared {
        content: Content::Numbers(numbers),
        placement: Some(placement),
        decode_duration: started.elapsed().saturating_sub(preprocess_duration),
        preprocess_duration,
    })
}
