//! Puts the device's TUF client (`tuf::Client`) under the conformance suite of the TUF
//! project, by its command line protocol (CLIENT-CLI.md there). How to run it: `docs/tuf.md`.
//!
//! Its own are only the ways in and out: HTTP by the crate that `ota` uses, the folders that the
//! suite looks into, and signatures by ECDSA and RSA keys, which the suite signs with and a device
//! does not take. That is why this is a crate by itself: nothing on a device is built with it.

mod http;
mod keys;
mod metadata_dir;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tuf::author::Published;
use tuf::{Client, Limits, Time};

use http::Http;
use keys::AllSchemes;
use metadata_dir::MetadataDir;

#[derive(Parser)]
#[command(about = "TUF client for the conformance suite")]
struct Arguments {
    /// Folder with the trusted metadata.
    #[arg(long)]
    metadata_dir: PathBuf,
    /// URL of the repository's metadata.
    #[arg(long)]
    metadata_url: Option<String>,
    /// A target to download; may be given again.
    #[arg(long)]
    target_name: Vec<String>,
    /// URL of the repository's targets.
    #[arg(long)]
    target_base_url: Option<String>,
    /// Folder for downloaded targets.
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes the file as the root metadata to trust.
    Init {
        /// Root metadata.
        trusted_root: PathBuf,
    },
    /// Brings the trusted metadata up to date.
    Refresh,
    /// Brings the trusted metadata up to date and downloads targets.
    Download,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuf-conformance-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut dir = MetadataDir::open(&arguments.metadata_dir)
        .with_context(|| format!("cannot use {}", arguments.metadata_dir.display()))?;
    if let Command::Init { trusted_root } = &arguments.command {
        let root = fs::read(trusted_root)
            .with_context(|| format!("cannot read {}", trusted_root.display()))?;
        return dir.init(&root).context("cannot write the trusted root");
    }
    let root = dir.initial_root().context("no trusted root; run the command init first")?;
    let metadata = arguments.metadata_url.as_deref().context("--metadata-url is missing")?;
    let mut http = Http::new(metadata, arguments.target_base_url.as_deref());
    // 5.1: one time for all of this run.
    let now = Time(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let mut client =
        Client::new(&mut http, &mut dir, now, Limits::default()).with_schemes(&AllSchemes);
    let published = client.refresh(&root)?;
    if matches!(arguments.command, Command::Download) {
        let folder = arguments.target_dir.as_deref().context("--target-dir is missing")?;
        if arguments.target_name.is_empty() {
            bail!("--target-name is missing");
        }
        for target in &arguments.target_name {
            download(&mut client, &published, target, folder)?;
        }
    }
    Ok(())
}

/// Fetches a target, unless the folder has it as the metadata describes it.
fn download(
    client: &mut Client<'_>,
    published: &Published,
    target: &str,
    folder: &Path,
) -> Result<()> {
    let found = client
        .find_target(published, target)?
        .with_context(|| format!("{target:?}: the repository has no such target"))?;
    let at = folder.join(file_name(target));
    if fs::read(&at).is_ok_and(|bytes| found.file.matches(&bytes)) {
        eprintln!("{target}: is there already");
        return Ok(());
    }
    let bytes = client.fetch_found(published, target, &found)?;
    fs::write(&at, bytes).with_context(|| format!("cannot write {}", at.display()))
}

/// One name in one folder for each target, whatever the repository calls it.
fn file_name(target: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let encode = |b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") };
    format!("target.{}", target.bytes().map(encode).collect::<String>())
}
