//! The way of an input, and `model.toml`, up to where TensorFlow Lite begins.

#[allow(dead_code)]
#[path = "../../../../runner/src"]
mod runner {
    pub mod args;
    pub mod budget;
    pub mod config;
    pub mod decoder;
    pub mod error;
    pub mod picture;
    pub mod prepare;
    #[path = "source/http/request_head.rs"]
    pub mod request_head;
    pub mod tensor;
}

use runner::{decoder, error, picture, tensor};
pub use runner::{args, budget, config, prepare, request_head};
