//! TensorFlow Lite through `tflitec`: one interpreter, its input and its outputs.
//!
//! TensorFlow Lite writes its own words about a failure to stderr, `ERROR: …`; messages here
//! point the reader there.

use crate::config::Delegate;
use crate::error::Error;
use crate::tensor::{ElementType, Quantisation, Tensor, TensorInfo};
use tflitec::interpreter::{Interpreter, Options};
use tflitec::model::Model;
use tflitec::tensor::DataType;

/// Longest tensor read or written, in bytes: a damaged model must not make us copy gigabytes.
const MAX_TENSOR: usize = 256 << 20;
/// More inputs or outputs than this are a damaged model.
const MAX_TENSORS: usize = 256;

/// A model that is loaded and whose tensors are allocated.
pub struct Engine {
    model: &'static Model<'static>,
    interpreter: Interpreter<'static>,
    threads: i32,
    delegate: Delegate,
}

/// The library's version.
pub fn version() -> &'static str {
    tflitec::tf_lite_version()
}

impl Engine {
    /// Loads a model from its bytes. They stay in memory until the process ends: weights are
    /// read in place, and one process runs one model.
    pub fn load(bytes: Vec<u8>, threads: i32, delegate: Delegate) -> Result<Self, Error> {
        let bytes: &'static [u8] = Box::leak(bytes.into_boxed_slice());
        let model = Model::from_bytes(bytes)
            .map_err(|_| Error::engine("TensorFlow Lite does not take model.tflite (its own words are above); the file is damaged or not a .tflite model"))?;
        Self::build(Box::leak(Box::new(model)), threads, delegate)
    }

    /// Resets the state that a model keeps between invokes, by building the interpreter anew.
    pub fn reset_state(&mut self) -> Result<(), Error> {
        *self = Self::build(self.model, self.threads, self.delegate)?;
        Ok(())
    }

    fn build(
        model: &'static Model<'static>,
        threads: i32,
        delegate: Delegate,
    ) -> Result<Self, Error> {
        let options =
            Options { thread_count: threads, is_xnnpack_enabled: delegate == Delegate::Xnnpack };
        let interpreter = Interpreter::new(model, Some(options)).map_err(|_| {
            Error::engine(format!(
                "TensorFlow Lite {} cannot make an interpreter of model.tflite (its own words are above): an operator it lacks, or a damaged file",
                version()
            ))
        })?;
        interpreter.allocate_tensors().map_err(|e| {
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
        Ok(Self { model, interpreter, threads, delegate })
    }

    /// Who computes.
    pub fn delegate(&self) -> Delegate {
        self.delegate
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
        info(&tensor)
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

    /// Shape, type and quantisation of all outputs.
    pub fn output_infos(&self) -> Result<Vec<TensorInfo>, Error> {
        (0..self.interpreter.output_tensor_count())
            .map(|index| {
                let tensor = self
                    .interpreter
                    .output(index)
                    .map_err(|e| Error::engine(format!("output {index}: {e}")))?;
                info(&tensor)
            })
            .collect()
    }

    /// All outputs, as real numbers.
    pub fn outputs(&self) -> Result<Vec<Tensor>, Error> {
        (0..self.interpreter.output_tensor_count())
            .map(|index| {
                let tensor = self
                    .interpreter
                    .output(index)
                    .map_err(|e| Error::engine(format!("output {index}: {e}")))?;
                let info = info(&tensor)?;
                let values = match info.element {
                    ElementType::Float32 => tensor.data::<f32>().to_vec(),
                    ElementType::Int8 => info.quantisation.real_all(tensor.data::<i8>()),
                    ElementType::Uint8 => info.quantisation.real_all(tensor.data::<u8>()),
                    ElementType::Int32 => tensor.data::<i32>().iter().map(|v| *v as f32).collect(),
                    ElementType::Int64 => tensor.data::<i64>().iter().map(|v| *v as f32).collect(),
                };
                Ok(Tensor { info, values })
            })
            .collect()
    }
}

fn info(tensor: &tflitec::tensor::Tensor) -> Result<TensorInfo, Error> {
    let element = match tensor.data_type() {
        DataType::Float32 => ElementType::Float32,
        DataType::Int8 => ElementType::Int8,
        DataType::UInt8 => ElementType::Uint8,
        DataType::Int32 => ElementType::Int32,
        DataType::Int64 => ElementType::Int64,
        other => {
            return Err(Error::engine(format!(
                "tensor {:?} has type {other:?}; runner knows float32, int8, uint8, int32 and int64",
                tensor.name()
            )));
        }
    };
    let shape = tensor.shape().dimensions().clone();
    let bytes = shape
        .iter()
        .try_fold(element.size(), |product, n| product.checked_mul(*n))
        .filter(|n| (1..=MAX_TENSOR).contains(n) && *n == tensor.data::<u8>().len())
        .ok_or_else(|| {
            Error::engine(format!("tensor {:?} has an impossible shape {shape:?}", tensor.name()))
        })?;
    let quantisation = tensor.quantization_parameters().map_or(Quantisation::default(), |q| {
        Quantisation { scale: q.scale, zero_point: q.zero_point }
    });
    Ok(TensorInfo { name: tensor.name().to_owned(), shape, element, quantisation, bytes })
}
