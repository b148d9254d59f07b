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
