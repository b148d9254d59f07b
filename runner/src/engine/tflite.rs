//! TensorFlow Lite through `tflitec`: one interpreter, its input and its outputs.
//!
//! TensorFlow Lite writes its own words about a failure to stderr, `ERROR: …`; messages here
//! point the reader there.

use super::Settings;
use crate::config::Delegate;
use crate::error::Error;
use crate::tensor::{ElementType, KNOWN_TYPES, Quantisation, Tensor, TensorInfo};
use tflitec::interpreter::{Interpreter, Options};
use tflitec::model::Model;
use tflitec::tensor::{DataType, Shape};

/// Longest tensor read or written, in bytes: a damaged model must not make us copy gigabytes.
const MAX_TENSOR: usize = 256 << 20;
/// More inputs or outputs than this are a damaged model.
const MAX_TENSORS: usize = 256;

/// A model that is loaded and whose tensors are allocated.
pub struct Engine {
    model: &'static Model<'static>,
    interpreter: Interpreter<'static>,
    settings: Settings,
}

/// The library's version.
pub fn version() -> &'static str {
    tflitec::tf_lite_version()
}

impl Engine {
    /// Loads a model from its bytes. They stay in memory until the process ends: weights are
    /// read in place, and one process runs one model.
    pub fn load(bytes: Vec<u8>, settings: Settings) -> Result<Self, Error> {
        let bytes: &'static [u8] = Box::leak(bytes.into_boxed_slice());
        let model = Model::from_bytes(bytes)
            .map_err(|_| Error::engine("TensorFlow Lite does not take model.tflite (its own words are above); the file is damaged or not a .tflite model"))?;
        Self::build(Box::leak(Box::new(model)), settings)
    }

    /// Resets the state that a model keeps between invokes, by building the interpreter anew.
    pub fn reset_state(&mut self) -> Result<(), Error> {
        *self = Self::build(self.model, self.settings.clone())?;
        Ok(())
    }

    fn build(model: &'static Model<'static>, settings: Settings) -> Result<Self, Error> {
        let options = Options {
            thread_count: settings.threads,
            is_xnnpack_enabled: settings.delegate == Delegate::Xnnpack,
        };
        let interpreter = Interpreter::new(model, Some(options)).map_err(|_| {
            Error::engine(format!(
                "TensorFlow Lite {} cannot make an interpreter of model.tflite (its own words are above): an operator it lacks, or a damaged file",
                version()
            ))
        })?;
        let resized = match settings.resize.clone() {
            Some((index, shape)) => interpreter.resize_input(index, Shape::new(shape)),
            None => Ok(()),
        };
        resized.and_then(|()| interpreter.allocate_tensors()).map_err(|e| {
            Error::engine(format!(
                "TensorFlow Lite cannot allocate the model's tensors: {e} (its own words are above)"
            ))
        })?;
        let (inputs, outputs) =
            (interpreter.input_tensor_count(), interpreter.output_tensor_count());
        if inputs == 0 || outputs == 0 || inputs > MAX_TENSORS || outputs > MAX_TENSORS {
            return Err(Error::engine(format!(
                "model.tflite has {inputs} inputs and {outputs} outputs: it is damaged"
            )));
        }
        let engine = Self { model, interpreter, settings };
        engine.clear_inputs();
        Ok(engine)
    }

    /// Zeros: what memory held before is in no answer, and several inputs may be there of which only
    /// one is filled.
    fn clear_inputs(&self) {
        for index in 0..self.interpreter.input_tensor_count() {
            // One that cannot be read or written keeps what it has.
            if let Ok(tensor) = self.interpreter.input(index) {
                let length = tensor.data::<u8>().len();
                if length <= MAX_TENSOR {
                    let _ = self.interpreter.copy(&vec![0u8; length], index);
                }
            }
        }
    }

    /// Who computes.
    pub fn delegate(&self) -> Delegate {
        self.settings.delegate
    }

    /// Shape, type and quantisation of an input.
    pub fn input(&self, index: usize) -> Result<TensorInfo, Error> {
        if index >= self.interpreter.input_tensor_count() {
            return Err(Error::config(format!(
                "input.tensor = {index}: model.tflite has {} inputs, counted from 0",
                self.interpreter.input_tensor_count()
            )));
        }
        let tensor = self
            .interpreter
            .input(index)
            .map_err(|e| Error::engine(format!("input {index}: {e}")))?;
        let info = info(&tensor)?;
        match info.element {
            ElementType::Other(kind) => Err(Error::engine(format!(
                "input {:?} has type {kind}; runner knows {KNOWN_TYPES}",
                info.name
            ))),
            _ if info.bytes == 0 => {
                Err(Error::engine(format!("input {:?} has no elements", info.name)))
            }
            _ => Ok(info),
        }
    }

    /// Copies `bytes` into an input; they must have its exact length.
    pub fn set_input(&self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        self.interpreter
            .copy(bytes, index)
            .map_err(|e| Error::engine(format!("input {index}: {e}")))
    }

    /// Runs the model on what the inputs hold.
    pub fn invoke(&self) -> Result<(), Error> {
        self.interpreter.invoke().map_err(|_| {
            Error::engine(
                "TensorFlow Lite failed while running the model (its own words are above)",
            )
        })
    }

    /// Runs the model on zeros where it says only then what its outputs are: where their shapes
    /// follow from values, as with every batch size that is left open. True if that was needed; a
    /// model that keeps state then has some.
    pub fn learn_outputs(&self) -> Result<bool, Error> {
        let outputs = 0..self.interpreter.output_tensor_count();
        if outputs.map(|index| self.interpreter.output(index)).all(|output| output.is_ok()) {
            return Ok(false);
        }
        self.invoke().map(|()| true)
    }

    /// Shape, type and quantisation of all outputs.
    pub fn output_infos(&self) -> Result<Vec<TensorInfo>, Error> {
        let outputs = 0..self.interpreter.output_tensor_count();
        outputs.map(|index| self.output(index).map(|output| output.info)).collect()
    }

    /// All outputs, as real numbers.
    pub fn outputs(&self) -> Result<Vec<Tensor>, Error> {
        (0..self.interpreter.output_tensor_count()).map(|index| self.output(index)).collect()
    }

    /// One whose type is none that is read has no values: perhaps no decoder asks for it.
    fn output(&self, index: usize) -> Result<Tensor, Error> {
        let Ok(tensor) = self.interpreter.output(index) else {
            let info = TensorInfo {
                name: format!("output {index}"),
                shape: Vec::new(),
                element: ElementType::Other("unknown"),
                quantisation: Quantisation::default(),
                bytes: 0,
            };
            return Ok(Tensor { info, values: Vec::new() });
        };
        let info = info(&tensor)?;
        let values = match info.element {
            ElementType::Float32 => tensor.data::<f32>().to_vec(),
            ElementType::Int8 => info.quantisation.real_all(tensor.data::<i8>()),
            ElementType::Uint8 => info.quantisation.real_all(tensor.data::<u8>()),
            ElementType::Int32 => tensor.data::<i32>().iter().map(|v| *v as f32).collect(),
            ElementType::Int64 => tensor.data::<i64>().iter().map(|v| *v as f32).collect(),
            ElementType::Bool => {
                tensor.data::<u8>().iter().map(|v| f32::from(u8::from(*v != 0))).collect()
            }
            ElementType::Other(_) => Vec::new(),
        };
        Ok(Tensor { info, values })
    }
}

fn info(tensor: &tflitec::tensor::Tensor) -> Result<TensorInfo, Error> {
    let element = element(tensor.data_type());
    let shape = tensor.shape().dimensions().clone();
    let bytes = tensor.data::<u8>().len();
    let plausible = element.size().is_none_or(|size| {
        let expected = shape.iter().try_fold(size, |product, n| product.checked_mul(*n));
        bytes <= MAX_TENSOR && expected == Some(bytes)
    });
    if !plausible {
        return Err(Error::engine(format!(
            "tensor {:?} has an impossible shape {shape:?}",
            tensor.name()
        )));
    }
    let quantisation = tensor.quantization_parameters().map_or(Quantisation::default(), |q| {
        Quantisation { scale: q.scale, zero_point: q.zero_point }
    });
    Ok(TensorInfo { name: tensor.name().to_owned(), shape, element, quantisation, bytes })
}

fn element(kind: DataType) -> ElementType {
    match kind {
        DataType::Float32 => ElementType::Float32,
        DataType::Int8 => ElementType::Int8,
        DataType::UInt8 => ElementType::Uint8,
        DataType::Int32 => ElementType::Int32,
        DataType::Int64 => ElementType::Int64,
        DataType::Bool => ElementType::Bool,
        DataType::Int4 => ElementType::Other("int4"),
        DataType::Int16 => ElementType::Other("int16"),
        DataType::UInt16 => ElementType::Other("uint16"),
        DataType::UInt32 => ElementType::Other("uint32"),
        DataType::UInt64 => ElementType::Other("uint64"),
        DataType::Float16 => ElementType::Other("float16"),
        DataType::BFloat16 => ElementType::Other("bfloat16"),
        DataType::Float64 => ElementType::Other("float64"),
        DataType::String => ElementType::Other("string"),
        DataType::Complex64 => ElementType::Other("complex64"),
        DataType::Complex128 => ElementType::Other("complex128"),
    }
}
