//! The inference engine: TensorFlow Lite, where it is built in.
//!
//! The feature `engine` links the TensorFlow Lite library, which `scripts/tflite-setup` downloads.
//! Without the feature everything else of this crate builds and is tested, and loading a model fails
//! with the command that brings the engine.

#[cfg(not(feature = "engine"))]
mod absent;
#[cfg(feature = "engine")]
mod tflite;

#[cfg(not(feature = "engine"))]
pub use absent::{Engine, version};
#[cfg(feature = "engine")]
pub use tflite::{Engine, version};

use crate::config::Delegate;

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads of the interpreter.
    pub threads: i32,
    /// Who computes.
    pub delegate: Delegate,
    /// The input whose open axes get a size, and its shape.
    pub resize: Option<(usize, Vec<usize>)>,
}
