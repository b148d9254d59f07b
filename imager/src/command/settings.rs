//! `imager settings`: what was set for one device when it was flashed.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use flash::redacted::Redacted;

/// Shows the settings of a flashed device, without the secrets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo imager settings /dev/sdb
  imager settings card.img --json

Settings are made by `imager flash` (--hostname, --timezone, --wifi, --ssh-key, --token, --file) and
cannot be changed from here later: a data partition that was in use has a journal and files of its own.
Flash the medium again, or change /data/ferrite/settings on the device.")]
pub struct SettingsArgs {
    /// The medium, or a file that it was written to
    #[arg(value_name = "DEVICE|IMG")]
    medium: PathBuf,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `imager settings`.
pub fn run(args: SettingsArgs) -> Result<()> {
    let path = args.medium.display();
    let mut file = File::open(&args.medium).with_context(|| format!("{path} cannot be read"))?;
    let bytes = file.seek(SeekFrom::End(0)).with_context(|| format!("{path} has no size"))?;
    let mut magic = [0; 4];
    let _ = file.read_exact_at(&mut magic, 0);
    ensure!(
        !unzstd::is_zstd(&magic),
        "{path} is compressed; an image as built has no settings, and a medium is not compressed"
    );
    let redacted = Redacted::read(bytes, |at, out| file.read_exact_at(out, at))
        .with_context(|| format!("{path} is no medium with a Ferrite image on it"))?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&redacted)?),
        false => print!("{redacted}"),
    }
    Ok(())
}
