//! What is prepared and not published: drafts that people sign on other machines.
//!
//! They lie in the repository's folder `staged/`, which no device asks for. `staged/before/` has
//! what they are compared with, so that the folder can be carried on a stick as it is.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use atomic_file::replace;
use tuf::author::{
    Changes, Dates, Draft, Keyring, Publication, Published, Renew, Tally, next_targets, release,
    root_tallies, still_signed,
};
use tuf::{Error, Role, Root, Targets};

use crate::repository_folder::{self, metadata};

/// The folder with the drafts, below the repository's.
pub const FOLDER: &str = "staged";
/// The folder with what they are compared with, below [`FOLDER`].
pub const BEFORE: &str = "before";

/// Whether something is to be seen by devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At once.
    Published,
    /// Not before others have signed.
    Staged,
}

/// Drafts of the metadata that may be signed on another machine.
#[derive(Clone, Debug, Default)]
pub struct Staged {
    /// The next root.
    pub root: Option<Draft<Root>>,
    /// The next targets.
    pub targets: Option<Draft<Targets>>,
}

/// What will be written, worked out before anything is.
pub enum Prepared {
    /// Files of a publication, and lines that say so.
    Publication(Publication),
    /// Drafts, and what they lack.
    Drafts(Box<Staged>, Vec<String>),
}

/// Fails when a publication waits for signatures: a second one would take its version.
pub fn refuse_second(repo: &Path) -> Result<()> {
    if repo.join(FOLDER).exists() {
        bail!(
            "{f} holds a publication that waits for signatures; publish it with `imager repo \
             publish --repo {r}`, or give it up by removing the folder",
            f = repo.join(FOLDER).display(),
            r = repo.display()
        );
    }
    Ok(())
}

impl Staged {
    /// What is staged in a repository. Fails when it was made for another state of it.
    pub fn load(repo: &Path, before: Option<&Published>) -> Result<Staged> {
        let folder = repo.join(FOLDER);
        let mut staged = Staged::default();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(staged),
            other => other.with_context(|| format!("cannot read {}", folder.display()))?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
            let twice = if name.ends_with(".root.json") {
                staged.root.replace(read_draft(&path)?).is_some()
            } else if name.ends_with(".targets.json") {
                staged.targets.replace(read_draft(&path)?).is_some()
            } else {
                false
            };
            if twice {
                bail!("{} has two drafts of one kind; remove one", folder.display());
            }
        }
        let follows = |what: &str, draft: Option<u64>, now: Option<u64>| match draft {
            Some(version) if version != now.unwrap_or(0) + 1 => bail!(
                "{} was made when the repository was in another state: its {what} has version \
                 {version}, and {} is published. Remove the folder and stage again",
                folder.display(),
                now.unwrap_or(0)
            ),
            _ => Ok(()),
        };
        let (root, targets) = (&staged.root, &staged.targets);
        follows("root", root.as_ref().map(|d| d.content.version), before.map(|b| b.root.version))?;
        follows(
            "targets",
            targets.as_ref().map(|d| d.content.version),
            before.map(|b| b.targets.version),
        )?;
        Ok(staged)
    }

    /// The roots whose keys count: the one published and the one that is to follow it.
    pub fn roots(&self, before: Option<&Published>) -> Vec<Root> {
        let drafted = self.root.as_ref().map(|draft| draft.content.clone());
        before.map(|before| before.root.clone()).into_iter().chain(drafted).collect()
    }

    /// Signed with all keys at hand that may. Where a new root takes away keys that the published
    /// targets need, those are drafted anew, with the same content.
    pub fn signed(mut self, before: Option<&Published>, keys: &Keyring) -> Result<Staged> {
        let roots = self.roots(before);
        for root in &roots {
            if let Some(draft) = &mut self.root {
                draft.sign_with(keys, root)?;
            }
            if let Some(draft) = &mut self.targets {
                draft.sign_with(keys, root)?;
            }
        }
        Ok(self)
    }

    /// The same, with the published targets among it when the new root does not accept them as
    /// they are signed now.
    pub fn with_targets_for_new_root(mut self, repo: &Path, before: &Published) -> Result<Staged> {
        let Some(root) = &self.root else { return Ok(self) };
        let name = format!("{}.targets.json", before.targets.version);
        if self.targets.is_none()
            && !still_signed(Role::Targets, &read(&metadata(repo, &name))?, &root.content)
        {
            let same = next_targets(Some(&before.targets), before.targets.expires);
            self.targets = Some(Draft::new(same)?);
        }
        Ok(self)
    }

    /// One line for each signature that is missing.
    pub fn missing(&self, before: Option<&Published>) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut count = |file: String, by: &str, tally: &Tally| {
            if !tally.enough() {
                lines.push(format!(
                    "{file} has {} of {} signatures{by}; may still sign: {}",
                    tally.signed.len(),
                    tally.threshold,
                    tally.missing.iter().map(|id| short(id)).collect::<Vec<_>>().join(", ")
                ));
            }
        };
        if let Some(draft) = &self.root {
            let by = [" by the new root's keys", " by the old root's keys"];
            let tallies = root_tallies(draft, before.map(|before| &before.root))?;
            for (tally, by) in tallies.iter().zip(by) {
                count(draft.file_name(), by, tally);
            }
        }
        if let (Some(draft), Some(root)) = (&self.targets, self.roots(before).last()) {
            count(draft.file_name(), "", &draft.tally(root)?);
        }
        Ok(lines)
    }

    /// Works out what is to be written. Fails, with nothing written, when it is to be published
    /// and signatures are missing.
    pub fn prepare(
        self,
        place: Place,
        repo: &Path,
        before: Option<&Published>,
        keys: &Keyring,
        dates: &Dates,
    ) -> Result<Prepared> {
        if let Some(root) = &self.root {
            root.content.fit_to_publish()?;
        }
        let missing = self.missing(before)?;
        if place == Place::Staged {
            return Ok(Prepared::Drafts(Box::new(self), missing));
        }
        if !missing.is_empty() {
            bail!(
                "{}. Name more keys with --keys DIR or --key FILE, or prepare it for those who \
                 have them with --stage",
                missing.join("; ")
            );
        }
        let renew = match before {
            Some(before) => renewal(repo, before, self.root.as_ref())?,
            None => Renew::Nothing,
        };
        let changes = Changes { root: self.root, targets: self.targets, renew };
        let publication = release(before, changes, keys, dates).map_err(online_keys)?;
        Ok(Prepared::Publication(publication))
    }
}

/// What a new root makes it necessary to sign anew: what its keys have not signed.
fn renewal(repo: &Path, before: &Published, root: Option<&Draft<Root>>) -> Result<Renew> {
    let Some(root) = root else { return Ok(Renew::Nothing) };
    let signed = |role, name: &str| -> Result<bool> {
        Ok(still_signed(role, &read(&metadata(repo, name))?, &root.content))
    };
    let snapshot = format!("{}.snapshot.json", before.snapshot.version);
    Ok(if !signed(Role::Snapshot, &snapshot)? {
        Renew::Snapshot
    } else if !signed(Role::Timestamp, "timestamp.json")? {
        Renew::Timestamp
    } else {
        Renew::Nothing
    })
}

/// Says what to do when snapshot or timestamp lack signatures.
pub fn online_keys(error: Error) -> anyhow::Error {
    match &error {
        Error::Unsigned { file, valid, threshold } => anyhow::anyhow!(
            "{file} needs {threshold} signatures by keys that the repository's root trusts for it, \
             and the keys at hand make {valid}; name the folder with them by --keys DIR, or each \
             by --key FILE"
        ),
        _ => error.into(),
    }
}

impl Prepared {
    /// Writes it; gives the lines that say what became of it.
    pub fn write(self, repo: &Path) -> Result<Vec<String>> {
        match self {
            Prepared::Publication(publication) => {
                repository_folder::write(repo, &publication)?;
                let names: Vec<&str> = publication.files.iter().map(|(n, _)| n.as_str()).collect();
                remove(repo)?;
                Ok(vec![format!("published {}", names.join(", "))])
            }
            Prepared::Drafts(staged, missing) => {
                staged.save(repo)?;
                let folder = repo.join(FOLDER);
                let mut lines = vec![format!("staged in {}; no device sees it", folder.display())];
                lines.extend(missing);
                lines.push(format!(
                    "next: carry {f} to who has the keys (`imager repo sign FILE --key KEY`), \
                     bring it back, `imager repo publish --repo {r}`",
                    f = folder.display(),
                    r = repo.display()
                ));
                Ok(lines)
            }
        }
    }
}

impl Staged {
    fn save(&self, repo: &Path) -> Result<()> {
        let folder = repo.join(FOLDER);
        let compared = folder.join(BEFORE);
        atomic_file::make_folder(&compared, 0o777)?;
        for version in 1.. {
            let name = format!("{version}.root.json");
            let Ok(bytes) = fs::read(metadata(repo, &name)) else { break };
            replace(&compared.join(name), &mut &bytes[..])?;
        }
        if let Some(version) = self.targets.as_ref().map(|d| d.content.version - 1)
            && version > 0
        {
            let name = format!("{version}.targets.json");
            let bytes = read(&metadata(repo, &name))?;
            replace(&compared.join(name), &mut &bytes[..])?;
        }
        if let Some(draft) = &self.root {
            replace(&folder.join(draft.file_name()), &mut &draft.to_bytes()[..])?;
        }
        if let Some(draft) = &self.targets {
            replace(&folder.join(draft.file_name()), &mut &draft.to_bytes()[..])?;
        }
        Ok(())
    }
}

fn remove(repo: &Path) -> Result<()> {
    let folder = repo.join(FOLDER);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// A key id as people compare it.
pub fn short(id: &str) -> String {
    id.chars().take(16).collect()
}

/// Reads a metadata file of bounded length.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    const MOST: u64 = 4 << 20;
    let cannot = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes))
        .with_context(cannot)?;
    if bytes.len() as u64 > MOST {
        bail!("{} is longer than metadata may be", path.display());
    }
    Ok(bytes)
}

/// A draft, or finished metadata, by its path.
pub fn read_draft<T: Draftable>(path: &Path) -> Result<Draft<T>> {
    T::read(&path.display().to_string(), &read(path)?).map_err(Into::into)
}

/// What there are drafts of.
pub trait Draftable: Sized {
    /// Reads a draft; `file` is its name in errors.
    fn read(file: &str, bytes: &[u8]) -> Result<Draft<Self>, Error>;
}

impl Draftable for Root {
    fn read(file: &str, bytes: &[u8]) -> Result<Draft<Root>, Error> {
        Draft::<Root>::read(file, bytes)
    }
}

impl Draftable for Targets {
    fn read(file: &str, bytes: &[u8]) -> Result<Draft<Targets>, Error> {
        Draft::<Targets>::read(file, bytes)
    }
}
