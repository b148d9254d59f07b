//! Runs one `.tflite` model as a workload: pictures in, decoded results out.
//!
//! The program `runner` is a command line ([`args`]) over this library. [`execute`] goes through it
//! in this order: [`config`] (`model.toml`) → [`trust`] (the model's hash is the slot manifest's) →
//! [`engine`] (TensorFlow Lite) → [`golden`] (the model still gives the result it gave when it was
//! published) → ready (the crate `readiness`) → [`service`] (the inference loop: a [`source`]
//! [`prepare`]s a picture, [`pipeline`] turns it into a result, [`results`] logs it). The golden
//! sample and the first picture are prepared while the model is loaded.
//!
//! Everything but the engine itself builds without TensorFlow Lite: the feature `engine` links it.
//!
//! ```
//! use runner::{args::Overrides, budget::Budget, config, prepare::{Content, Preparer}};
//! use std::path::Path;
//!
//! // The demo's model takes 128 × 128 pixels, each channel normalised to [-1, 1].
//! let config = config::load(Path::new("../demo/face"), &Overrides::default())?;
//! let preparer = Preparer::new(&config.input, Budget::of_this_process(None));
//! let prepared = preparer.prepare(std::fs::read("../demo/face/golden.png")?)?;
//! let Content::Numbers(tensor) = prepared.content else { panic!("a picture becomes numbers") };
//! assert_eq!(tensor.len(), 128 * 128 * 3);
//! assert!(tensor.iter().all(|number| (-1.0..=1.0).contains(number)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod args;
pub mod bench;
pub mod budget;
pub mod config;
pub mod decoder;
pub mod engine;
pub mod error;
pub mod golden;
pub mod input;
pub mod model_file;
pub mod numbers;
pub mod picture;
pub mod pipeline;
pub mod prepare;
pub mod results;
pub mod service;
pub mod source;
pub mod sys;
pub mod tensor;
pub mod time;
pub mod trust;

use args::{Command, Request};
use budget::Budget;
use error::Error;
use pipeline::Pipeline;
use prepare::Preparer;
use service::Service;
use std::sync::Arc;
use std::time::Instant;

/// Runs one command; `started` is when the process began. On failure says also which model it was:
/// its name, or `runner` while that is not known.
pub fn execute(request: &Request, started: Instant) -> Result<(), (String, Error)> {
    let config =
        config::load(&request.model, &request.overrides).map_err(|e| ("runner".to_owned(), e))?;
    let name = config.name.clone();
    let outcome = || -> Result<(), Error> {
        let preparer = Arc::new(Preparer::new(
            &config.input,
            Budget::of_this_process(request.overrides.memory),
        ));
        let load = || Pipeline::load(&config, trust::read_verified(request, &config)?);
        match &request.command {
            Command::Run => {
                service::hold_signals()?;
                let sample = golden::begin(&config, &preparer)?;
                let service = Service::begin(&config, preparer)?;
                let mut pipeline = load()?;
                golden::check(&mut pipeline, &config, sample.sample()?)?;
                service.run(&pipeline, &config, started)
            }
            Command::Infer { pictures } => {
                service::infer(&load()?, &preparer, &config.name, pictures)
            }
            Command::Golden => {
                golden::write(&mut load()?, &config, golden::read(&config, &preparer)?)
            }
            Command::Check => {
                golden::check(&mut load()?, &config, golden::read(&config, &preparer)?)
            }
            Command::Bench { runs } => bench::run(&mut load()?, &preparer, &config, *runs),
        }
    };
    outcome().map_err(|e| (name, e))
}
