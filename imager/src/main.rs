//! `imager`: builds, signs, publishes and flashes images.

use std::process::ExitCode;

fn main() -> ExitCode {
    imager::command::main()
}
