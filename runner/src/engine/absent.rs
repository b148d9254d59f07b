//! What stands in for TensorFlow Lite in a build without it: an engine that no model can be loaded
//! into.

use super::Settings;
use crate::config::Delegate;
use crate::error::Error;
use crate::tensor::{Tensor, TensorInfo};
use std::convert::Infallible;

/// An engine that does not exist: [`Engine::load`] always fails.
pub struct Engine(Infallible);

/// The library's version.
pub fn version() -> &'static str {
    "none"
}

impl Engine {
    /// Fails, and says how to build a runner that can load models.
    pub fn load(_: Vec<u8>, _: Settings) -> Result<Self, Error> {
        Err(Error::engine(
            "this runner was built without TensorFlow Lite: run scripts/tflite-setup, then build it with --features engine",
        ))
    }

    /// Resets the state that a model keeps between invokes.
    pub fn reset_state(&mut self) -> Result<(), Error> {
        match self.0 {}
    }

    /// Who computes.
    pub fn delegate(&self) -> Delegate {
        match self.0 {}
    }

    /// Shape, type and quantisation of an input.
    pub fn input(&self, _: usize) -> Result<TensorInfo, Error> {
        match self.0 {}
    }

    /// Copies bytes into an input.
    pub fn set_input(&self, _: usize, _: &[u8]) -> Result<(), Error> {
        match self.0 {}
    }

    /// Runs the model on what the inputs hold.
    pub fn invoke(&self) -> Result<(), Error> {
        match self.0 {}
    }

    /// Runs the model on zeros where it says only then what its outputs are.
    pub fn learn_outputs(&self) -> Result<bool, Error> {
        match self.0 {}
    }

    /// Shape, type and quantisation of all outputs.
    pub fn output_infos(&self) -> Result<Vec<TensorInfo>, Error> {
        match self.0 {}
    }

    /// All outputs, as real numbers.
    pub fn outputs(&self) -> Result<Vec<Tensor>, Error> {
        match self.0 {}
    }
}
