//! `imager repo init`, `add-key`, `remove-key`, `rotate`, `revoke`, `threshold`: new root metadata.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use publisher::root_change::{ROOT_DAYS, RootChange, WhichKey};
use publisher::staged::Place;
use tuf::{Role, Time};

use crate::command::clock::ClockArgs;
use crate::command::signing_keys::KeyArgs;
use crate::outputs;

/// Where a change of the root is made, and by whom.
#[derive(Debug, clap::Args)]
pub struct ChangeArgs {
    /// The repository's folder.
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
    /// Prepare it in the repository's folder `staged`, to be signed elsewhere. Further changes
    /// join one that is staged.
    #[arg(long)]
    stage: bool,
    /// Days until the new root expires.
    #[arg(long, value_name = "DAYS", default_value_t = ROOT_DAYS)]
    root_expires: u64,
    #[command(flatten)]
    clock: ClockArgs,
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

/// A key by its public half or its id.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct WhichKeyArgs {
    /// The key's public half.
    #[arg(long, value_name = "FILE.pub")]
    public: Option<PathBuf>,
    /// The first digits of the key's id, 8 or more, as `imager repo show` has them.
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
}

/// Makes a repository. Its roles get the public keys ROLE.pub of the folder --keys, those that
/// --add names, or both.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  imager repo init --repo repo --keys keys
  imager repo init --repo repo --keys online --add root=alice.pub --add root=bob.pub \\
      --add targets=alice-t.pub --add targets=bob-t.pub --threshold root=2 --threshold targets=2 \\
      --stage")]
pub struct InitArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// A public key for a role.
    #[arg(long, value_name = "ROLE=FILE.pub", value_parser = role_and_file)]
    add: Vec<(Role, PathBuf)>,
    /// How many keys have to sign for a role; 1 where nothing is said.
    #[arg(long, value_name = "ROLE=N", value_parser = role_and_number)]
    threshold: Vec<(Role, u64)>,
}

/// Lets one more key sign for a role.
#[derive(Debug, clap::Args)]
pub struct AddKeyArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// The role.
    #[arg(long)]
    role: RoleName,
    /// The key's public half.
    #[arg(long, value_name = "FILE.pub")]
    public: PathBuf,
    /// How many keys have to sign for the role from then on.
    #[arg(long, value_name = "N")]
    threshold: Option<u64>,
}

/// Takes a role from a key.
#[derive(Debug, clap::Args)]
pub struct RemoveKeyArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// The role.
    #[arg(long)]
    role: RoleName,
    #[command(flatten)]
    which: WhichKeyArgs,
    /// How many keys have to sign for the role from then on.
    #[arg(long, value_name = "N")]
    threshold: Option<u64>,
}

/// Puts a new key in the place of an old one, in one root.
#[derive(Debug, clap::Args)]
pub struct RotateArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// The role.
    #[arg(long)]
    role: RoleName,
    /// The new key's public half.
    #[arg(long, value_name = "FILE.pub")]
    new: PathBuf,
    /// The old key's public half; not needed where the role has one key only.
    #[arg(long, value_name = "FILE.pub")]
    old: Option<PathBuf>,
}

/// Takes every role from a key. What it signed counts no more as soon as devices see the new root;
/// versions that it pushed to the top are forgotten by them.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    which: WhichKeyArgs,
    /// A key that takes its place in every role.
    #[arg(long, value_name = "FILE.pub")]
    replace_by: Option<PathBuf>,
}

/// Says how many keys have to sign for a role.
#[derive(Debug, clap::Args)]
pub struct ThresholdArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// The role.
    #[arg(long)]
    role: RoleName,
    /// How many.
    #[arg(value_name = "N")]
    threshold: u64,
}

fn role_and_file(text: &str) -> Result<(Role, PathBuf), String> {
    role_and(text, |file| Ok(PathBuf::from(file)))
}

fn role_and_number(text: &str) -> Result<(Role, u64), String> {
    role_and(text, |number| number.parse().map_err(|_| format!("{number:?} is no number")))
}

fn role_and<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<(Role, T), String> {
    let (name, value) = text.split_once('=').ok_or("not ROLE=VALUE")?;
    let role = Role::ALL.into_iter().find(|role| role.name() == name);
    let role = role.ok_or("the roles are root, targets, snapshot and timestamp")?;
    Ok((role, parse(value)?))
}

impl ChangeArgs {
    fn change(&self) -> RootChange {
        RootChange {
            repo: self.repo.clone(),
            keys: self.keys.sources(),
            place: if self.stage { Place::Staged } else { Place::Published },
            expires_days: self.root_expires,
            clock: self.clock.check(),
        }
    }
}

impl WhichKeyArgs {
    fn which(&self) -> WhichKey {
        match (&self.public, &self.id) {
            (Some(path), _) => WhichKey::Public(path.clone()),
            (None, id) => WhichKey::Id(id.clone().unwrap_or_default()),
        }
    }
}

/// `imager repo init`.
pub fn init(args: &InitArgs, now: Time) -> Result<Vec<String>> {
    outputs::check_new_repository(&args.change.repo)?;
    args.change.change().init(&args.add, &args.threshold, now)
}

/// `imager repo add-key`.
pub fn add_key(args: &AddKeyArgs, now: Time) -> Result<Vec<String>> {
    args.change.change().add_key(args.role.role(), &args.public, args.threshold, now)
}

/// `imager repo remove-key`.
pub fn remove_key(args: &RemoveKeyArgs, now: Time) -> Result<Vec<String>> {
    args.change.change().remove_key(args.role.role(), &args.which.which(), args.threshold, now)
}

/// `imager repo rotate`.
pub fn rotate(args: &RotateArgs, now: Time) -> Result<Vec<String>> {
    args.change.change().rotate(args.role.role(), &args.new, args.old.as_deref(), now)
}

/// `imager repo revoke`.
pub fn revoke(args: &RevokeArgs, now: Time) -> Result<Vec<String>> {
    args.change.change().revoke(&args.which.which(), args.replace_by.as_deref(), now)
}

/// `imager repo threshold`.
pub fn threshold(args: &ThresholdArgs, now: Time) -> Result<Vec<String>> {
    args.change.change().set_threshold(args.role.role(), args.threshold, now)
}
