//! Runs one `.tflite` model as a workload: pictures in, decoded results out.
//!
//! The road, in order: [`args`] → [`config`] (`model.toml`) → [`trust`] (the model's hash is the
//! slot manifest's) → [`engine`] (TensorFlow Lite) → [`golden`] (the model still says what it
//! said to its maker) → ready (the crate `readiness`) → [`service`] (the loop: a [`source`]
//! [`prepare`]s a picture and hands it over, [`pipeline`] makes it a result, [`results`] writes it
//! down). The golden sample and the first picture are prepared while the model is loaded.

mod args;
mod bench;
mod budget;
mod config;
mod decoder;
mod engine;
mod error;
mod golden;
mod picture;
mod pipeline;
mod prepare;
mod results;
mod service;
mod source;
mod sys;
mod tensor;
mod time;
mod trust;

use args::{Command, Request};
use budget::Budget;
use error::{Error, Exit};
use pipeline::Pipeline;
use prepare::Preparer;
use service::Service;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    sys::give_large_buffers_back();
    // tflitec panics on tensor names that are not text, as a damaged model can have them. The
    // person reading the log needs to know that it is the model.
    std::panic::set_hook(Box::new(|fault| {
        eprintln!(
            "runner: internal fault: {fault}; if the model is new, check that its file is whole"
        );
        std::process::exit(i32::from(Exit::Engine as u8));
    }));
    let request = match args::parse(std::env::args_os().skip(1)) {
        Ok(Some(request)) => request,
        Ok(None) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => return report("runner", &error),
    };
    match execute(&request, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err((name, error)) => report(&name, &error),
    }
}

/// Runs one command; on failure says also which model it was (its name, once it is known).
fn execute(request: &Request, started: Instant) -> Result<(), (String, Error)> {
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
            Command::Bench { runs } => bench::run(&mut load()?, &preparer, &config, *runs),
        }
    };
    outcome().map_err(|e| (name, e))
}

fn report(name: &str, error: &Error) -> ExitCode {
    eprintln!("{name}: {error}");
    ExitCode::from(error.exit as u8)
}
