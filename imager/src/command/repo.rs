//! `imager repo`: looks after a repository. Who may sign what, signing on machines without a
//! network, renewing, checking. docs/keys.md goes through it as people do.

mod change;
mod collect;
mod explain;
mod refresh;
mod show;
mod sign;
pub mod staged;
mod verify;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use tuf::author::{Dates, Keyring, Published};
use tuf::{Role, Time};

use crate::keys;

/// Days that snapshot and targets are good for where nothing else was said.
const DAYS: u64 = 5 * 365;

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
    Publish(collect::CollectArgs),
    /// Sign the timestamp anew, from a timer
    Refresh(refresh::RefreshArgs),
    /// Check all that a device would check, and every file
    Verify(verify::VerifyArgs),
    /// Say which keys there are and what expires when
    Show(show::ShowArgs),
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
        RepoCommand::Publish(args) => collect::run(args, now)?,
        RepoCommand::Refresh(args) => refresh::run(args, now)?,
        RepoCommand::Verify(args) => verify::run(args, now)?,
        RepoCommand::Show(args) => show::run(args)?,
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

/// The private keys at hand.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// A folder with private keys: every `.key` file in it. What each may sign is for the
    /// repository's root metadata to say.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// A private key.
    #[arg(long, value_name = "FILE.key")]
    key: Vec<PathBuf>,
}

impl KeyArgs {
    fn keyring(&self) -> Result<Keyring> {
        keys::keyring(self.keys.as_deref(), &self.key)
    }
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    Root,
    Targets,
    Snapshot,
    Timestamp,
}

impl RoleName {
    fn role(self) -> Role {
        match self {
            RoleName::Root => Role::Root,
            RoleName::Targets => Role::Targets,
            RoleName::Snapshot => Role::Snapshot,
            RoleName::Timestamp => Role::Timestamp,
        }
    }
}

/// For metadata that only follows a change elsewhere: it stays good for as long as before, and a
/// month at least.
fn dates_as_before(before: Option<&Published>, now: Time) -> Dates {
    let fresh = now.plus_days(DAYS);
    let at_least = |expires: Option<Time>| expires.unwrap_or(fresh).max(now.plus_days(30));
    Dates {
        signed_at: now,
        targets: at_least(before.map(|before| before.targets.expires)),
        snapshot: at_least(before.map(|before| before.snapshot.expires)),
        timestamp: at_least(before.map(|before| before.timestamp.expires)),
    }
}
