//! From a few lines of TOML, a model and a board's name to signed images and updates.
//!
//! The program `imager` is one call of [`command::main`]; each of its subcommands is one file in
//! [`command`], which parses the command line, calls what does the work, and prints. What the work
//! stands on:
//!
//! - [`config`]: image and board files.
//! - [`sources`]: where an image's inputs come from.
//! - [`assembly`]: what an image is made of.
//! - [`boot_method`]: the boards' ways to boot.
//! - [`build`]: from all of these to the files of a build.
//! - [`outputs`]: what a command may write over, and where.
//!
//! Keys, repositories and bundles are the crate `publisher`'s, media the crate `flash`'s, file systems the
//! crate `imagefs`'s, UEFI programs the crate `uefi-image`'s.
//!
//! ```no_run
//! use imager::config::{Board, Image};
//! use std::path::Path;
//!
//! # fn main() -> anyhow::Result<()> {
//! let image = Image::load(Path::new("demo/demo.toml"))?;
//! let board = Board::load("qemu-arm64", Path::new("demo"))?;
//! println!("{} {} for {}", image.name, image.version, board.description);
//! # Ok(())
//! # }
//! ```

pub mod assembly;
pub mod boot_method;
pub mod build;
pub mod command;
pub mod config;
mod host_runner;
mod installation;
pub mod outputs;
mod private_key;
pub mod sources;
