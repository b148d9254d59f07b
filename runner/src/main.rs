//! The program `runner`: parses the command line and runs the library.

use runner::args;
use runner::error::{Error, Exit};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    runner::sys::give_large_buffers_back();
    // tflitec panics on tensor names that are not text, as a damaged model can have them. The
    // person reading the log needs to know that it is the model.
    std::panic::set_hook(Box::new(|fault| {
        eprintln!(
            "runner: internal fault: {fault}; if the model is new, check that its file is complete"
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
    match runner::execute(&request, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err((name, error)) => report(&name, &error),
    }
}

fn report(name: &str, error: &Error) -> ExitCode {
    eprintln!("{name}: {error}");
    ExitCode::from(error.exit as u8)
}
