//! `imager bundle`: one update with all its metadata in one file, for a stick.

use std::path::PathBuf;

use anyhow::Result;
use publisher::bundle::{Choice, bundle};

use crate::outputs;

/// Arguments of `imager bundle`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  imager bundle --repo repo --out demo.bundle
  imager bundle --repo repo --board qemu-arm64 --version 1.0.1 --out stick/demo.bundle

On the device: `ota install FILE.bundle`, or a stick with the file at its top where the image allows
sticks. `tar tf` lists what is in a bundle.")]
pub struct BundleArgs {
    /// The repository's folder.
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    /// The bundle to write. One that is there is replaced, any other file is not.
    #[arg(long, value_name = "FILE.bundle")]
    out: PathBuf,
    /// Of the image with this name; needed where the repository has several.
    #[arg(long)]
    name: Option<String>,
    /// For this board; needed where the repository has several.
    #[arg(long)]
    board: Option<String>,
    /// This version instead of the newest.
    #[arg(long)]
    version: Option<String>,
}

/// Runs `imager bundle`.
pub fn run(args: BundleArgs) -> Result<()> {
    outputs::check(&args.out, &outputs::BUNDLE)?;
    let choice = Choice { name: args.name, board: args.board, version: args.version };
    let bundled = bundle(&args.repo, &choice, &args.out)?;
    println!(
        "{}: {} {} for {} (sequence {}), good until {}",
        args.out.display(),
        bundled.update.name,
        bundled.update.version,
        bundled.update.board,
        bundled.update.sequence,
        bundled.expires
    );
    Ok(())
}
