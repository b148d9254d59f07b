//! `ota`: the update client on the device.

use std::process::ExitCode;

use ota::commands::{self, Command};
use ota::device::Device;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = match Command::parse(&arguments) {
        Ok(command) => command,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    match commands::run(command, &Device::of_device()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ota: {error}");
            ExitCode::FAILURE
        }
    }
}
