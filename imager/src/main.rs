//! `imager`: from a few lines of TOML, a model and a board's name to signed images and updates.
//!
//! Each subcommand is one file in `command/`; what they stand on is in `fs/` (file system
//! writers), `sources/` (where inputs come from) and `config/` (image and board files).

mod command;
mod fs;
mod sources;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
