//! One input's way through the model: fill the input tensor, invoke, decode the outputs.

use crate::config::{Config, Nan};
use crate::decoder::{Decoder, Outcome};
use crate::engine::{Engine, Settings};
use crate::error::Error;
use crate::input::Input;
use crate::model_file;
use crate::numbers;
use crate::picture::{Orientation, PictureTensor, Placement, Refusal};
use crate::prepare::{Content, Prepared};
use crate::tensor::{Tensor, TensorInfo};
use crate::trust::VerifiedModel;
use std::time::{Duration, Instant};

/// A model that is loaded, with all that is around it.
pub struct Pipeline {
    engine: Engine,
    input: usize,
    input_info: TensorInfo,
    /// `None`: inputs are the tensor's own bytes or numbers.
    tensor: Option<PictureTensor>,
    decoder: Decoder,
    /// Of the outputs, when the decoder was made.
    output_shapes: Vec<Vec<usize>>,
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
    /// Columns and rows of the picture, if it is one, upright.
    pub fn picture_size(&self) -> Option<[u32; 2]> {
        self.placement.map(|p| p.picture.map(|n| n as u32))
    }

    /// The EXIF orientation of a picture that was turned upright.
    pub fn turned(&self) -> Option<u8> {
        let orientation = self.placement?.orientation;
        (orientation != Orientation::UPRIGHT).then(|| orientation.value())
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
        let input = config.input.tensor();
        let settings = settings(config, &model.bytes)?;
        let engine = Engine::load(model.bytes, settings)?;
        let info = engine.input(input)?;
        let tensor = match &config.input {
            Input::Picture(picture) => Some(PictureTensor::new(picture, info.clone())?),
            Input::Tensor(_) => None,
        };
        let used = engine.learn_outputs()?;
        let output_infos = engine.output_infos()?;
        let decoder = Decoder::new(&config.decoder, &output_infos, &config.input)?;
        let output_shapes = output_infos.into_iter().map(|info| info.shape).collect();
        let mut pipeline = Self {
            engine,
            input,
            input_info: info,
            tensor,
            decoder,
            output_shapes,
            stateful: config.stateful,
            nan: config.nan,
            model_sha256: model.sha256,
        };
        if used {
            pipeline.reset_state()?;
        }
        Ok(pipeline)
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
            (Content::Numbers(_), None) => Vec::new(),
            (Content::Bytes(bytes), _) => self.tensor_bytes(bytes)?,
        };
        Ok(Filled { bytes, placement: prepared.placement })
    }

    /// The tensor's bytes, of these or of the numbers that they are in writing.
    fn tensor_bytes(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        let info = &self.input_info;
        let count = info.bytes / info.element.size().unwrap_or(1);
        let whole = bytes.len() == info.bytes;
        // One byte may be a digit.
        if whole && info.bytes == 1 {
            return Ok(bytes);
        }
        let written = numbers::read(&bytes, count);
        // Bytes of eight-bit numbers may look like a text; those of larger ones hardly do by chance.
        let text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        let ambiguous = info.element.size() == Some(1) || !bytes.iter().all(text);
        let came = match written {
            Some(Ok(numbers)) if numbers.len() == count => match info.unfit(&numbers) {
                None => return Ok(info.stored(&numbers)),
                Some(unfit) => unfit,
            },
            None if whole => return Ok(bytes),
            Some(_) if whole && ambiguous => return Ok(bytes),
            Some(Err(reason)) => reason,
            Some(Ok(numbers)) if numbers.len() > count => "there are more numbers".to_owned(),
            Some(Ok(numbers)) => format!("these are {} numbers", numbers.len()),
            None => format!("these are {} bytes", bytes.len()),
        };
        Err(Refusal::wrong(format!(
            "the model takes {}, or {count} numbers as a JSON list or CSV; {came}",
            info.in_bytes()
        )))
    }

    /// Runs the model. Fails only when the engine does.
    pub fn infer(&self, filled: &Filled) -> Result<Inferred, Error> {
        let started = Instant::now();
        self.engine.set_input(self.input, &filled.bytes)?;
        self.engine.invoke()?;
        let outputs = self.engine.outputs()?;
        let engine = started.elapsed();
        self.check_outputs(&outputs)?;
        let not_finite = outputs.iter().find_map(Tensor::not_finite);
        let outcome = self.decoder.decode(&outputs, filled.placement.as_ref());
        Ok(Inferred { outcome, not_finite, engine })
    }

    /// A decoder of a kind of output reads tensors of the shapes that it was made for; whatever else
    /// the model came to would be an empty or a wrong answer.
    fn check_outputs(&self, outputs: &[Tensor]) -> Result<(), Error> {
        if matches!(self.decoder, Decoder::Raw(_)) {
            return Ok(());
        }
        let shapes = self.output_shapes.iter().zip(outputs).enumerate();
        match shapes.into_iter().find(|(_, (shape, output))| **shape != output.info.shape) {
            None => Ok(()),
            Some((index, (shape, output))) => Err(Error::engine(format!(
                "output {index} has the shape {:?} for this input, {shape:?} when the model was loaded; only the decoder `raw` takes outputs that change",
                output.info.shape
            ))),
        }
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

/// How the model is loaded: open axes of its input get the sizes that `model.toml` has.
fn settings(config: &Config, model: &[u8]) -> Result<Settings, Error> {
    model_file::check_head(model).map_err(Error::engine)?;
    let index = config.input.tensor();
    // A file whose inputs cannot be read is the engine's to judge.
    let inputs = model_file::inputs(model).unwrap_or_default();
    let resize = match inputs.get(index) {
        Some(tensor) => config.input.resize(tensor).map_err(Error::config)?,
        None => None,
    };
    Ok(Settings {
        threads: config.threads,
        delegate: config.delegate,
        resize: resize.map(|shape| (index, shape)),
    })
}
