//! `imager repo init`, `add-key`, `remove-key`, `rotate`, `revoke`, `threshold`: new root metadata.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tuf::author::{Draft, Published, id_of_key, next_targets};
use tuf::{Role, Root, Time};

use super::staged::{Place, Staged, short};
use super::{DAYS, KeyArgs, RoleName, dates_as_before, explain};
use crate::keys;
use crate::repository_folder::{load, lock};
use crate::signing_clock::ClockArgs;

/// Twenty years: a device that was off for long has to find the way over every root.
const ROOT_DAYS: u64 = 20 * 365;

/// Where a change of the root is made, and by whom.
#[derive(Debug, clap::Args)]
pub struct Change {
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

/// A key by its public half or its id.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct WhichKey {
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
    change: Change,
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
    change: Change,
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
    change: Change,
    /// The role.
    #[arg(long)]
    role: RoleName,
    #[command(flatten)]
    which: WhichKey,
    /// How many keys have to sign for the role from then on.
    #[arg(long, value_name = "N")]
    threshold: Option<u64>,
}

/// Puts a new key in the place of an old one, in one root.
#[derive(Debug, clap::Args)]
pub struct RotateArgs {
    #[command(flatten)]
    change: Change,
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
    change: Change,
    #[command(flatten)]
    which: WhichKey,
    /// A key that takes its place in every role.
    #[arg(long, value_name = "FILE.pub")]
    replace_by: Option<PathBuf>,
}

/// Says how many keys have to sign for a role.
#[derive(Debug, clap::Args)]
pub struct ThresholdArgs {
    #[command(flatten)]
    change: Change,
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

/// `imager repo init`.
pub fn init(args: &InitArgs, now: Time) -> Result<Vec<String>> {
    let repo = &args.change.repo;
    let mut root = Root::empty(now.plus_days(args.change.root_expires));
    for (role, path) in &args.add {
        add(&mut root, *role, path)?;
    }
    for role in Role::ALL {
        let path = args.change.keys.keys.as_ref().map(|dir| keys::public_path(dir, role.name()));
        if let Some(path) = path.filter(|path| path.exists()) {
            add(&mut root, role, &path)?;
        }
    }
    for (role, threshold) in &args.threshold {
        root.set_threshold(*role, *threshold);
    }
    let _lock = lock(repo)?;
    if load(repo)?.is_some() {
        bail!("{} is a repository already; `imager repo add-key` changes it", repo.display());
    }
    let mut lines = explain::root(None, &root);
    let targets = next_targets(None, now.plus_days(DAYS));
    let staged = Staged { root: Some(Draft::new(root)?), targets: Some(Draft::new(targets)?) };
    lines.extend(finish(&args.change, None, staged, now)?);
    lines.push(
        "images are made with the repository's 1.root.json: copy it into the keys' folder of \
         `imager build` as root.json"
            .into(),
    );
    Ok(lines)
}

/// `imager repo add-key`.
pub fn add_key(args: &AddKeyArgs, now: Time) -> Result<Vec<String>> {
    change(&args.change, now, |root| {
        add(root, args.role.role(), &args.public)?;
        set_threshold(root, args.role, args.threshold);
        Ok(())
    })
}

/// `imager repo remove-key`.
pub fn remove_key(args: &RemoveKeyArgs, now: Time) -> Result<Vec<String>> {
    change(&args.change, now, |root| {
        let id = args.which.find(root)?;
        root.remove_key(args.role.role(), &id)?;
        set_threshold(root, args.role, args.threshold);
        Ok(())
    })
}

/// `imager repo rotate`.
pub fn rotate(args: &RotateArgs, now: Time) -> Result<Vec<String>> {
    let role = args.role.role();
    change(&args.change, now, |root| {
        let old = match (&args.old, root.ids(role)) {
            (Some(path), _) => {
                let key = keys::load_public(path)?;
                root.id_of(role, &key).with_context(|| {
                    format!("{} does not sign for {}", path.display(), role.name())
                })?
            }
            (None, [only]) => only.clone(),
            (None, several) => bail!(
                "{} has {} keys; name the one that goes with --old FILE.pub",
                role.name(),
                several.len()
            ),
        };
        root.remove_key(role, &old)?;
        add(root, role, &args.new)
    })
}

/// `imager repo revoke`.
pub fn revoke(args: &RevokeArgs, now: Time) -> Result<Vec<String>> {
    change(&args.change, now, |root| {
        let id = args.which.find(root)?;
        for role in Role::ALL {
            if !root.ids(role).contains(&id) {
                continue;
            }
            root.remove_key(role, &id)?;
            if let Some(path) = &args.replace_by {
                add(root, role, path)?;
            } else if (root.ids(role).len() as u64) < root.threshold(role) {
                bail!(
                    "without it {} has {} keys and needs {} signatures; name a new key with \
                     --replace-by FILE.pub, or lower the threshold first (`imager repo \
                     threshold --role {} N --stage`)",
                    role.name(),
                    root.ids(role).len(),
                    root.threshold(role),
                    role.name()
                );
            }
        }
        Ok(())
    })
}

/// `imager repo threshold`.
pub fn threshold(args: &ThresholdArgs, now: Time) -> Result<Vec<String>> {
    change(&args.change, now, |root| {
        set_threshold(root, args.role, Some(args.threshold));
        Ok(())
    })
}

fn add(root: &mut Root, role: Role, path: &Path) -> Result<()> {
    let key = keys::load_public(path)?;
    root.add_key(role, &key).with_context(|| path.display().to_string())
}

fn set_threshold(root: &mut Root, role: RoleName, threshold: Option<u64>) {
    if let Some(threshold) = threshold {
        root.set_threshold(role.role(), threshold);
    }
}

impl WhichKey {
    fn find(&self, root: &Root) -> Result<String> {
        if let Some(path) = &self.public {
            let key = keys::load_public(path)?;
            let known = Role::ALL.into_iter().find_map(|role| root.id_of(role, &key));
            return known.ok_or_else(|| {
                let id = id_of_key(&key).map(|id| short(&id)).unwrap_or_default();
                anyhow!("{} (key {id}) signs for no role of this repository", path.display())
            });
        }
        let digits = self.id.as_deref().unwrap_or("").to_ascii_lowercase();
        if digits.len() < 8 {
            bail!("give at least 8 digits of the key's id; `imager repo show` has them");
        }
        let fits: Vec<&String> = root.keys.keys().filter(|id| id.starts_with(&digits)).collect();
        match fits[..] {
            [one] => Ok(one.clone()),
            [] => bail!("no key's id begins with {digits}; `imager repo show` lists them"),
            _ => bail!("several keys' ids begin with {digits}; give more digits"),
        }
    }
}

/// Makes the next root, or changes the one that is staged.
fn change(
    args: &Change,
    now: Time,
    edit: impl FnOnce(&mut Root) -> Result<()>,
) -> Result<Vec<String>> {
    let repo = &args.repo;
    let _lock = lock(repo)?;
    let before = load(repo)?.with_context(|| {
        format!("{} is no repository; `imager repo init` makes one", repo.display())
    })?;
    let staged = Staged::load(repo, Some(&before))?;
    let mut root = match &staged.root {
        Some(draft) => draft.content.clone(),
        None => before.root.clone(),
    };
    edit(&mut root)?;
    root.version = before.root.version + 1;
    root.expires = now.plus_days(args.root_expires);
    let mut lines = explain::root(Some(&before.root), &root);
    if staged.root.is_some() {
        lines.push("note: signatures under the root staged before are gone".into());
    }
    let changed = Staged { root: Some(Draft::new(root)?), targets: staged.targets }
        .with_targets_for_new_root(repo, &before)?;
    lines.extend(finish(args, Some(&before), changed, now)?);
    Ok(lines)
}

fn finish(
    args: &Change,
    before: Option<&Published>,
    staged: Staged,
    now: Time,
) -> Result<Vec<String>> {
    args.clock.check(now, before, &[])?;
    let keys = args.keys.keyring()?;
    let place = if args.stage { Place::Staged } else { Place::Published };
    let dates = dates_as_before(before, now);
    staged
        .signed(before, &keys)?
        .prepare(place, &args.repo, before, &keys, &dates)?
        .write(&args.repo)
}
