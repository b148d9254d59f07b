//! Puts updates into a static repository that any HTTP server can serve.
//!
//! Everything is verified before the repository is touched. Files are written in an order in which
//! a device that reads meanwhile sees the old publication or the new one: targets first, then
//! metadata under names with new versions, and `timestamp.json`, the only file ever replaced, last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tuf::author::{Dates, Draft, next_targets};
use tuf::{FerriteTarget, TARGETS_DIR, TargetFile, Time, target_path};

use self::companions::{Companion, Older};
pub use self::prune::Prune;
pub use self::rollout::{NewRollout, VersionChange, Wish};
use crate::hashing::Hashing;
use crate::keys::{self, KeySources};
use crate::repository_folder::{self, load, lock, lock_or_make};
use crate::signing_clock::ClockCheck;
use crate::staged::{self, Place, Staged};
use crate::update_file::{self, VerifiedUpdate};

mod companions;
mod prune;
mod rollout;

/// Five years. A repository is a folder that nobody may look after for long; a device left alone
/// for years must still update on its own. What a short life would bring, a frozen mirror noticed
/// early, is for those who renew by a timer and ask for less.
pub const DEFAULT_DAYS: u64 = 5 * 365;

/// What is to be published. Without a file the signatures of a repository that is there are renewed.
#[derive(Debug, Clone)]
pub struct Request {
    /// The repository's folder; with a file made if it is not there.
    pub repo: PathBuf,
    /// The folder with the project's keys.
    pub keys: PathBuf,
    /// Days until devices stop to trust this publication.
    pub expires_days: u64,
    /// How many of the newest published versions get a delta to each new one.
    pub deltas: usize,
    /// Who takes the new updates when.
    pub rollout: NewRollout,
    /// A change to a version that is published already.
    pub change: Option<VersionChange>,
    /// What becomes of old versions.
    pub prune: Option<Prune>,
    /// Whether devices see it at once.
    pub place: Place,
    /// Whether this machine's clock is looked at.
    pub clock: ClockCheck,
    /// Updates to add.
    pub files: Vec<PathBuf>,
}

impl Request {
    /// One that publishes these files for everybody at once, with the usual dates.
    pub fn new(repo: &Path, keys: &Path, files: &[&Path]) -> Request {
        Request {
            repo: repo.to_owned(),
            keys: keys.to_owned(),
            expires_days: DEFAULT_DAYS,
            deltas: 3,
            rollout: NewRollout::default(),
            change: None,
            prune: None,
            place: Place::Published,
            clock: ClockCheck::Plausible,
            files: files.iter().map(|path| path.to_path_buf()).collect(),
        }
    }
}

/// Verifies the updates, then publishes those that are new. Gives what was done, a line each. `tell`
/// is given what is being done, where it takes a while.
pub fn publish(request: &Request, now: Time, tell: &mut dyn FnMut(String)) -> Result<Vec<String>> {
    if request.expires_days == 0 {
        bail!("a publication that expires at once helps nobody; give at least 1 day");
    }
    let keyring = KeySources { folder: Some(request.keys.clone()), files: Vec::new() }.keyring()?;
    let trusted = keys::trusted_image_keys(&request.keys)?;
    let updates = request
        .files
        .iter()
        .map(|path| Ok((path.as_path(), update_file::verify(path, &trusted)?)))
        .collect::<Result<Vec<_>>>()?;

    // A renewal or a change is of what is there: a wrong path must not become a new repository.
    let _lock = match updates.is_empty() {
        true => lock(&request.repo)?,
        false => lock_or_make(&request.repo)?,
    };
    let before = load(&request.repo)?;
    if before.is_none() && updates.is_empty() {
        staged::refuse_second(&request.repo)?;
        bail!("{}", repository_folder::no_repository(&request.repo));
    }
    staged::refuse_second(&request.repo)?;
    let files: Vec<&Path> = request.files.iter().map(PathBuf::as_path).collect();
    request.clock.check(now, before.as_ref(), &files)?;
    let first_root = match &before {
        Some(_) => None,
        None => Some(Draft::read("root.json", &keys::tuf_root(&request.keys)?)?),
    };
    let mut targets = before.as_ref().map_or_else(BTreeMap::new, |b| b.targets.targets.clone());
    let mut report = Vec::new();
    let mut new = Vec::new();
    for (path, update) in &updates {
        let name = target_name(update);
        if targets.get(&name).and_then(TargetFile::sha256) == Some(&update.sha256) {
            report.push(format!("{name} is published already"));
            continue;
        }
        check_newer(&targets, update).with_context(|| path.display().to_string())?;
        let done = match request.place {
            Place::Staged => "prepared",
            Place::Published => "published",
        };
        report.push(format!("{name} {done} (sequence {})", update.manifest.sequence));
        let mut ferrite = describe(update);
        ferrite.rollout = request.rollout.starting(now);
        let older = older(&request.repo, &targets, &new, &ferrite, request.deltas);
        let companions = companions::make(path, &trusted, &older, &mut ferrite, tell)
            .with_context(|| path.display().to_string())?;
        let target = target(update, &ferrite).map_err(|e| anyhow!("{name}: {e}"))?;
        for Companion { name, target, bytes } in companions {
            targets.insert(name.clone(), target.clone());
            new.push(NewTarget { name, target, content: Content::Bytes(bytes) });
        }
        targets.insert(name.clone(), target.clone());
        new.push(NewTarget { name, target, content: Content::File(path) });
    }
    if new.is_empty() && !updates.is_empty() {
        return Ok(report);
    }
    if let Some(change) = &request.change {
        report.push(change.apply(&mut targets, now)?);
    }
    if let Some(prune) = &request.prune {
        report.extend(prune.unlist(&mut targets, now));
    }
    if updates.is_empty() {
        report.push("signatures renewed".into());
    }

    let expires = now.plus_days(request.expires_days);
    let dates = Dates { signed_at: now, targets: expires, snapshot: expires, timestamp: expires };
    let mut next = next_targets(before.as_ref().map(|b| &b.targets), dates.targets);
    next.targets = targets;
    let draft = Draft::new(next)?;
    let before = before.as_ref();
    let prepared = Staged { root: first_root, targets: Some(draft) }
        .signed(before, &keyring)?
        .prepare(request.place, &request.repo, before, &keyring, &dates)?;
    for new in &new {
        let at = target_path(true, &new.name, &new.target).context("a target without a hash")?;
        new.write(&request.repo.join(at))?;
    }
    report.extend(prepared.write(&request.repo)?);
    if request.place == Place::Published {
        if let Some(prune) = &request.prune {
            report.extend(prune.remove_files(&request.repo, now)?);
        }
        report.push(format!("{} is good until {expires}", request.repo.display()));
    }
    Ok(report)
}

/// The names of boards, images and versions are safe in file names and URLs: `formats` checked that.
fn target_name(update: &VerifiedUpdate) -> String {
    let manifest = &update.manifest;
    format!("{}-{}-{}.update", manifest.name, manifest.board, manifest.version)
}

fn describe(update: &VerifiedUpdate) -> FerriteTarget {
    let manifest = &update.manifest;
    FerriteTarget {
        board: manifest.board.clone(),
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        sequence: manifest.sequence,
        header_sha256: update.header_sha256.clone(),
        ..FerriteTarget::default()
    }
}

fn target(update: &VerifiedUpdate, ferrite: &FerriteTarget) -> Result<TargetFile, String> {
    ferrite.check()?;
    Ok(TargetFile {
        length: update.length,
        hashes: BTreeMap::from([("sha256".into(), update.sha256.clone())]),
        custom: Some(serde_json::json!({ "ferrite": ferrite })),
    })
}

/// The newest published versions of the same image for the same board, at most `most` of them, with
/// where their files are: in the repository, or still to be copied there.
fn older(
    repo: &Path,
    targets: &BTreeMap<String, TargetFile>,
    new: &[NewTarget],
    ferrite: &FerriteTarget,
    most: usize,
) -> Vec<Older> {
    let mut found: Vec<_> = targets
        .iter()
        .filter_map(|(name, target)| Some((name, target, target.ferrite()?)))
        .filter(|(_, _, old)| old.board == ferrite.board && old.name == ferrite.name)
        .collect();
    found.sort_by_key(|(_, _, old)| std::cmp::Reverse(old.sequence));
    let path = |name: &String, target: &TargetFile| -> Option<PathBuf> {
        match new.iter().find(|new| new.name == *name).map(|new| &new.content) {
            Some(Content::File(path)) => Some(path.to_path_buf()),
            _ => Some(repo.join(target_path(true, name, target)?)),
        }
    };
    let older = |(name, target, old): (_, _, FerriteTarget)| {
        Some(Older { version: old.version, path: path(name, target)? })
    };
    found.into_iter().filter_map(older).take(most).collect()
}

/// Refuses an update that devices would refuse: one that is not above all published for its board.
fn check_newer(targets: &BTreeMap<String, TargetFile>, update: &VerifiedUpdate) -> Result<()> {
    let manifest = &update.manifest;
    let newest = targets
        .values()
        .filter_map(TargetFile::ferrite)
        .filter(|t| t.board == manifest.board && t.name == manifest.name)
        .max_by_key(|t| t.sequence);
    match newest {
        Some(newest) if newest.sequence >= manifest.sequence => bail!(
            "its sequence {} is not above {}, which version {} for {} is published with; raise \
             `sequence` in the image file and build again",
            manifest.sequence,
            newest.sequence,
            newest.version,
            newest.board
        ),
        _ => Ok(()),
    }
}

/// A target that the repository does not have yet.
struct NewTarget<'a> {
    name: String,
    target: TargetFile,
    content: Content<'a>,
}

enum Content<'a> {
    /// In a file of the caller's.
    File(&'a Path),
    Bytes(Vec<u8>),
}

impl NewTarget<'_> {
    /// Writes it to its place. A file has to be still the one that was verified.
    fn write(&self, to: &Path) -> Result<()> {
        let folder = to.parent().unwrap_or(Path::new(TARGETS_DIR));
        atomic_file::make_folder(folder, 0o777)?;
        let from = match &self.content {
            Content::Bytes(bytes) => return atomic_file::replace(to, &mut &bytes[..]),
            Content::File(path) => path,
        };
        let file = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
        let mut source = Hashing::new(file);
        atomic_file::replace(to, &mut source)?;
        if Some(source.sha256().as_str()) != self.target.sha256() {
            let _ = fs::remove_file(to);
            bail!("{} changed while it was published; try again", from.display());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
