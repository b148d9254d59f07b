//! New root metadata: who may sign for which role, and how many have to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tuf::author::{Draft, Published, id_of_key, next_targets};
use tuf::{Role, Root, Time};

use crate::dates::{DAYS, dates_as_before};
use crate::explain;
use crate::keys::{self, KeySources};
use crate::repository_folder::{load, lock, lock_or_make, no_repository};
use crate::signing_clock::ClockCheck;
use crate::staged::{Place, Staged, short};

/// Twenty years: a device that was off for long has to find the way over every root.
pub const ROOT_DAYS: u64 = 20 * 365;

/// Where a change of the root is made, and by whom.
#[derive(Debug, Clone)]
pub struct RootChange {
    /// The repository's folder.
    pub repo: PathBuf,
    /// The private keys at hand.
    pub keys: KeySources,
    /// Whether it is published at once. Further changes join one that is staged.
    pub place: Place,
    /// Days until the new root expires.
    pub expires_days: u64,
    /// Whether this machine's clock is looked at.
    pub clock: ClockCheck,
}

/// A key that signs for a repository.
#[derive(Debug, Clone)]
pub enum WhichKey {
    /// By the file of its public half.
    Public(PathBuf),
    /// By the first digits of its id, 8 or more.
    Id(String),
}

impl RootChange {
    /// Makes a repository. Its roles get the public keys ROLE.pub of the keys' folder, those of
    /// `added`, or both; one key has to sign for a role where `thresholds` says nothing else.
    pub fn init(
        &self,
        added: &[(Role, PathBuf)],
        thresholds: &[(Role, u64)],
        now: Time,
    ) -> Result<Vec<String>> {
        let repo = &self.repo;
        let mut root = Root::empty(now.plus_days(self.expires_days));
        for (role, path) in added {
            add(&mut root, *role, path)?;
        }
        for role in Role::ALL {
            let path = self.keys.folder.as_ref().map(|dir| keys::public_path(dir, role.name()));
            if let Some(path) = path.filter(|path| path.exists()) {
                add(&mut root, role, &path)?;
            }
        }
        for (role, threshold) in thresholds {
            root.set_threshold(*role, *threshold);
        }
        let _lock = lock_or_make(repo)?;
        if load(repo)?.is_some() {
            bail!("{} is a repository already; `imager repo add-key` changes it", repo.display());
        }
        let mut lines = explain::root(None, &root);
        let targets = next_targets(None, now.plus_days(DAYS));
        let staged = Staged { root: Some(Draft::new(root)?), targets: Some(Draft::new(targets)?) };
        lines.extend(self.finish(None, staged, now)?);
        lines.push(
            "images are made with the repository's 1.root.json: copy it into the keys' folder of \
             `imager build` as root.json"
                .into(),
        );
        Ok(lines)
    }

    /// Lets one more key, by the file of its public half, sign for a role.
    pub fn add_key(
        &self,
        role: Role,
        public: &Path,
        threshold: Option<u64>,
        now: Time,
    ) -> Result<Vec<String>> {
        self.make(now, |root| {
            add(root, role, public)?;
            set_threshold(root, role, threshold);
            Ok(())
        })
    }

    /// Takes a role from a key.
    pub fn remove_key(
        &self,
        role: Role,
        key: &WhichKey,
        threshold: Option<u64>,
        now: Time,
    ) -> Result<Vec<String>> {
        self.make(now, |root| {
            let id = key.find(root)?;
            root.remove_key(role, &id)?;
            set_threshold(root, role, threshold);
            Ok(())
        })
    }

    /// Puts the key `new` in the place of `old`, which may be left out where the role has one key
    /// only; both are files of public halves.
    pub fn rotate(
        &self,
        role: Role,
        new: &Path,
        old: Option<&Path>,
        now: Time,
    ) -> Result<Vec<String>> {
        self.make(now, |root| {
            let old = match (old, root.ids(role)) {
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
            add(root, role, new)
        })
    }

    /// Takes every role from a key. What it signed counts no more as soon as devices see the new
    /// root; versions that it pushed to the top are forgotten by them. `replacement` is the file of
    /// a public key that takes its place in every role.
    pub fn revoke(
        &self,
        key: &WhichKey,
        replacement: Option<&Path>,
        now: Time,
    ) -> Result<Vec<String>> {
        self.make(now, |root| {
            let id = key.find(root)?;
            for role in Role::ALL {
                if !root.ids(role).contains(&id) {
                    continue;
                }
                root.remove_key(role, &id)?;
                if let Some(path) = replacement {
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

    /// Says how many keys have to sign for a role.
    pub fn set_threshold(&self, role: Role, threshold: u64, now: Time) -> Result<Vec<String>> {
        self.make(now, |root| {
            set_threshold(root, role, Some(threshold));
            Ok(())
        })
    }

    /// Makes the next root, or changes the one that is staged.
    fn make(&self, now: Time, edit: impl FnOnce(&mut Root) -> Result<()>) -> Result<Vec<String>> {
        let repo = &self.repo;
        let _lock = lock(repo)?;
        let before = load(repo)?.with_context(|| no_repository(repo))?;
        let staged = Staged::load(repo, Some(&before))?;
        let mut root = match &staged.root {
            Some(draft) => draft.content.clone(),
            None => before.root.clone(),
        };
        edit(&mut root)?;
        root.version = before.root.version + 1;
        root.expires = now.plus_days(self.expires_days);
        let mut lines = explain::root(Some(&before.root), &root);
        if staged.root.is_some() {
            lines.push("note: signatures under the root staged before are gone".into());
        }
        let changed = Staged { root: Some(Draft::new(root)?), targets: staged.targets }
            .with_targets_for_new_root(repo, &before)?;
        lines.extend(self.finish(Some(&before), changed, now)?);
        Ok(lines)
    }

    fn finish(&self, before: Option<&Published>, staged: Staged, now: Time) -> Result<Vec<String>> {
        self.clock.check(now, before, &[])?;
        let keys = self.keys.keyring()?;
        let dates = dates_as_before(before, now);
        staged
            .signed(before, &keys)?
            .prepare(self.place, &self.repo, before, &keys, &dates)?
            .write(&self.repo)
    }
}

fn add(root: &mut Root, role: Role, path: &Path) -> Result<()> {
    let key = keys::load_public(path)?;
    root.add_key(role, &key).with_context(|| path.display().to_string())
}

fn set_threshold(root: &mut Root, role: Role, threshold: Option<u64>) {
    if let Some(threshold) = threshold {
        root.set_threshold(role, threshold);
    }
}

impl WhichKey {
    fn find(&self, root: &Root) -> Result<String> {
        let digits = match self {
            WhichKey::Public(path) => return id_of_public(path, root),
            WhichKey::Id(digits) => digits.to_ascii_lowercase(),
        };
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

fn id_of_public(path: &Path, root: &Root) -> Result<String> {
    let key = keys::load_public(path)?;
    let known = Role::ALL.into_iter().find_map(|role| root.id_of(role, &key));
    known.ok_or_else(|| {
        let id = id_of_key(&key).map(|id| short(&id)).unwrap_or_default();
        anyhow!("{} (key {id}) signs for no role of this repository", path.display())
    })
}
