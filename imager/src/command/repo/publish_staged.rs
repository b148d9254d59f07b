//! `imager repo publish`: publishes what is staged, once enough have signed.

use std::path::PathBuf;

use anyhow::Result;
use publisher::publish_staged::{Request, publish_staged};
use tuf::Time;

use crate::command::clock::ClockArgs;
use crate::command::signing_keys::KeyArgs;

/// Publishes what is staged, once enough have signed. Until then it says who is missing, keeps the
/// signatures that came, and devices see nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  imager repo publish --repo repo --keys online
  imager repo publish --repo repo --keys online /media/alice/7.targets.json \\
      /media/bob/7.targets.json")]
pub struct PublishStagedArgs {
    /// The repository's folder.
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    /// The keys for snapshot and timestamp, and any others at hand.
    #[command(flatten)]
    keys: KeyArgs,
    /// Days until snapshot and timestamp expire. Default: as what is published now.
    #[arg(long, value_name = "DAYS")]
    expires: Option<u64>,
    #[command(flatten)]
    clock: ClockArgs,
    /// Copies of the staged drafts that were signed elsewhere.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs `imager repo publish`.
pub fn run(args: &PublishStagedArgs, now: Time) -> Result<Vec<String>> {
    let request = Request {
        repo: args.repo.clone(),
        keys: args.keys.sources(),
        expires_days: args.expires,
        clock: args.clock.check(),
        files: args.files.clone(),
    };
    publish_staged(&request, now)
}
