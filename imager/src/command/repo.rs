//! `imager repo`: looks after a repository. Who may sign what, signing on machines without a
//! network, renewing, checking. docs/keys.md goes through it as people do.

mod change;
mod publish_staged;
mod refresh;
mod sign;
mod verify;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Subcommand;
use publisher::show::show;
use tuf::Time;

/// Looks after a repository: keys, thresholds, signing elsewhere, renewing, checking.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  imager repo init --repo repo --keys keys
  imager repo add-key --repo repo --role root --public alice.pub --threshold 2 --stage
  imager repo sign repo/staged/2.root.json --key alice.key
  imager repo publish --repo repo --keys keys
  imager repo refresh --repo repo --keys online --expires 7 --if-older-than 12h
  imager repo verify --repo repo

docs/keys.md goes through ceremonies, yearly rotation and what to do after a theft.")]
pub struct RepoArgs {
    #[command(subcommand)]
    command: RepoCommand,
}

#[derive(Debug, Subcommand)]
enum RepoCommand {
    /// Make a repository with keys and thresholds of your choice
    Init(change::InitArgs),
    /// Let one more key sign for a role
    AddKey(change::AddKeyArgs),
    /// Take a role from a key
    RemoveKey(change::RemoveKeyArgs),
    /// Put a new key in the place of an old one
    Rotate(change::RotateArgs),
    /// Take every role from a key, after a theft
    Revoke(change::RevokeArgs),
    /// Say how many keys have to sign for a role
    Threshold(change::ThresholdArgs),
    /// Sign a draft, on any machine
    Sign(sign::SignArgs),
    /// Publish what is staged, once enough have signed
    Publish(publish_staged::PublishStagedArgs),
    /// Sign the timestamp anew, from a timer
    Refresh(refresh::RefreshArgs),
    /// Check all that a device would check, and every file
    Verify(verify::VerifyArgs),
    /// Say which keys there are and what expires when
    Show(ShowArgs),
}

/// Says which keys sign for which role, how many have to, what is published and what is staged.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The repository's folder.
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: RepoArgs) -> Result<()> {
    let now = now()?;
    let lines = match &args.command {
        RepoCommand::Init(args) => change::init(args, now)?,
        RepoCommand::AddKey(args) => change::add_key(args, now)?,
        RepoCommand::RemoveKey(args) => change::remove_key(args, now)?,
        RepoCommand::Rotate(args) => change::rotate(args, now)?,
        RepoCommand::Revoke(args) => change::revoke(args, now)?,
        RepoCommand::Threshold(args) => change::threshold(args, now)?,
        RepoCommand::Publish(args) => publish_staged::run(args, now)?,
        RepoCommand::Refresh(args) => refresh::run(args, now)?,
        RepoCommand::Verify(args) => verify::run(args, now)?,
        RepoCommand::Show(args) => show(&args.repo)?,
        // What it shows has to be there before it asks.
        RepoCommand::Sign(args) => return sign::run(args),
    };
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}

fn now() -> Result<Time> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(Time(now.as_secs()))
}
