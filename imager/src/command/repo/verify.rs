//! `imager repo verify`: all that a device would check, every file, and what expires soon.

use std::path::PathBuf;

use anyhow::Result;
use publisher::verify::{Request, verify};
use tuf::Time;

/// Checks a repository: the metadata as a device does it, from the first root on and at this time;
/// the length and the hashes of every target, deltas and indexes among them; what the targets say
/// of one another. What expires soon is a warning on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  imager repo verify --repo repo
  imager repo verify --repo repo --root keys/root.json --image-keys keys --warn-days 60

Exit codes: 0 all holds (warnings may be on standard error), 1 a device would refuse something.")]
pub struct VerifyArgs {
    /// The repository's folder.
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    /// The root that devices were made with. Default: the repository's 1.root.json.
    #[arg(long, value_name = "ROOT.json")]
    root: Option<PathBuf>,
    /// A folder with the public keys of images (image.pub, image-*.pub): every update has to be
    /// signed by one of them, and every chunk in it has to be right.
    #[arg(long, value_name = "DIR")]
    image_keys: Option<PathBuf>,
    /// Warn of what expires within so many days.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    warn_days: u64,
}

/// Runs `imager repo verify`.
pub fn run(args: &VerifyArgs, now: Time) -> Result<Vec<String>> {
    let request = Request {
        repo: args.repo.clone(),
        root: args.root.clone(),
        image_keys: args.image_keys.clone(),
        warn_days: args.warn_days,
    };
    let verified = verify(&request, now)?;
    verified.warnings.iter().for_each(|warning| eprintln!("imager: warning: {warning}"));
    Ok(verified.lines)
}
