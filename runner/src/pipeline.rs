//! One input's way through the model: fill the input tensor, invoke, decode the outputs.

use crate::config::{Config, Nan};
use crate::decoder::{Decoder, Outcome};
use crate::engine::Engine;
use crate::error::Error;
use crate::input::Input;
use crate::picture::{PictureTensor, Placement, Refusal};
use crate::prepare::{Content, Prepared};
use crate::tensor::Tensor;
use crate::trust::VerifiedModel;
use std::time::{Duration, Instant};

/// A model that is loaded, with all that is around it.
pub struct Pipeline {
    engine: Engine,
    input: usize,
    input_bytes: usize,
    /// `None`: inputs are the tensor's own bytes.
    tensor: Option<PictureTensor>,
    decoder: Decoder,
    stateful: bool,
    nan: Nan,
    /// SHA-256 of the model, hex.
    pub model_sha256: String,
}

/// An input as the tensor wants it.
pub struct Filled {
    bytes: Vec<u8>,
    placement: Option<Placement>,
}

impl Filled {
    /// Columns and rows of the picture, if it is one.
    pub fn picture_size(&self) -> Option<[u32; 2]> {
        self.placement.map(|p| p.picture.map(|n| n as u32))
    }
}

/// What came out, and how long the engine took for it: copying in, invoking, copying out.
pub struct Inferred {
    /// The result.
    pub outcome: Outcome,
    /// The first value that is no number, in words.
    pub not_finite: Option<String>,
    /// Copying in, invoking, copying out.
    pub engine: Duration,
}

impl Pipeline {
    /// Loads a model whose hash was checked. Fails when model and `model.toml` do not agree.
    pub fn load(config: &Config, model: VerifiedModel) -> Result<Self, Error> {
        let engine = Engine::load(model.bytes, config.threads, config.delegate)?;
        let input = match &config.input {
            Input::Picture(picture) => picture.tensor,
            Input::Tensor { tensor } => *tensor,
        };
        let info = engine.input(input)?;
        let input_bytes = info.bytes;
        let tensor = match &config.input {
            Input::Picture(picture) => Some(PictureTensor::new(picture, info)?),
            Input::Tensor { .. } => None,
        };
        let decoder = Decoder::new(&config.decoder, &engine.output_infos()?, &config.input)?;
        Ok(Self {
            engine,
            input,
            input_bytes,
            tensor,
            decoder,
            stateful: config.stateful,
            nan: config.nan,
            model_sha256: model.sha256,
        })
    }

    /// Name of the delegate in use.
    pub fn delegate(&self) -> &'static str {
        self.engine.delegate().name()
    }

    /// Makes the tensor's bytes of a prepared input. Fails on one that is not what the model takes,
    /// which is the sender's fault and nobody else's.
    pub fn fill(&self, prepared: Prepared) -> Result<Filled, Refusal> {
        let bytes = match (prepared.content, &self.tensor) {
            (Content::Numbers(numbers), Some(tensor)) => tensor.bytes(&numbers),
            (Content::Bytes(bytes), _) => bytes,
            (Content::Numbers(_), None) => Vec::new(),
        };
        if bytes.len() != self.input_bytes {
            return Err(Refusal::wrong(format!(
                "the model takes exactly {} bytes, these are {}",
                self.input_bytes,
                bytes.len()
            )));
        }
        Ok(Filled { bytes, placement: prepared.placement })
    }

    /// Runs the model. Fails only when the engine does.
    pub fn infer(&self, filled: &Filled) -> Result<Inferred, Error> {
        let started = Instant::now();
        self.engine.set_input(self.input, &filled.bytes)?;
        self.engine.invoke()?;
        let outputs = self.engine.outputs()?;
        let engine = started.elapsed();
        let not_finite = outputs.iter().find_map(Tensor::not_finite);
        let outcome = self.decoder.decode(&outputs, filled.placement.as_ref());
        Ok(Inferred { outcome, not_finite, engine })
    }

    /// Whether an answer that is not all numbers is an error.
    pub fn refuses_nan(&self) -> bool {
        self.nan == Nan::Error
    }

    /// The invoke alone, on what the input tensor holds.
    pub fn invoke_bare(&self) -> Result<Duration, Error> {
        let started = Instant::now();
        self.engine.invoke()?;
        Ok(started.elapsed())
    }

    /// Resets the state of a stateful model.
    pub fn reset_state(&mut self) -> Result<(), Error> {
        if self.stateful {
            self.engine.reset_state()?;
        }
        Ok(())
    }
}
