//! Runs one `.tflite` model as a workload: pictures in, decoded results out.
//!
//! The road, in order: [`args`] → [`config`] (`model.toml`) → [`trust`] (the model's hash is the
//! slot manifest's) → [`engine`] (TensorFlow Lite) → [`golden`] (the model still says what it
//! said to its maker) → [`notify`] (ready) → [`service`] (the loop: a [`source`] hands over a
//! picture, [`pipeline`] makes it a result, [`results`] writes it down).

mod args;
mod bench;
mod config;
mod decoder;
mod engine;
mod error;
mod golden;
mod notify;
mod picture;
mod pipeline;
mod results;
mod service;
mod source;
mod sys;
mod tensor;
mod time;
mod trust;

use args::{Command, Request};
use error::{Error, Exit};
use pipeline::Pipeline;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
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
        if matches!(request.command, Command::Run) {
            service::hold_signals()?;
        }
        let model = trust::read_verified(request, &config)?;
        let mut pipeline = Pipeline::load(&config, model)?;
        match &request.command {
            Command::Run => {
                golden::check(&mut pipeline, &config)?;
                service::run(pipeline, &config, started)
            }
            Command::Infer { pictures } => service::infer(&pipeline, &config.name, pictures),
            Command::Golden => golden::write(&mut pipeline, &config),
            Command::Bench { runs } => bench::run(&mut pipeline, &config, *runs),
        }
    };
    outcome().map_err(|e| (name, e))
}

fn report(name: &str, error: &Error) -> ExitCode {
    eprintln!("{name}: {error}");
    ExitCode::from(error.exit as u8)
}
