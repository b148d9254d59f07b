//! `imager`: from a few lines of TOML, a model and a board's name to signed images and updates.
//!
//! Each subcommand is one file in `command/`. What they stand on: `config/` (image and board
//! files), `sources/` (where inputs come from), `assembly/` (what an image is made of),
//! `chooser/` (the boards' ways to choose a slot), `device_settings/` (what one device gets when it is
//! flashed). The file systems are a library of their own, `imagefs`.

mod assembly;
mod boot_key;
mod chooser;
mod command;
mod config;
mod device_settings;
mod keys;
mod pe;
mod repository_folder;
mod secure_boot;
mod signing_clock;
mod sources;
mod sys;
mod update_file;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
