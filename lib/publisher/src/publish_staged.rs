//! Takes the drafts that came back with signatures, and publishes when enough have signed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tuf::author::{Draft, Published};
use tuf::{Root, Targets, Time, target_path};

use crate::dates::dates_as_before;
use crate::keys::KeySources;
use crate::repository_folder::{load, lock};
use crate::signing_clock::ClockCheck;
use crate::staged::{Place, Prepared, Staged, read_draft};

/// What is staged, to be published.
#[derive(Debug, Clone)]
pub struct Request {
    /// The repository's folder.
    pub repo: PathBuf,
    /// The keys for snapshot and timestamp, and any others at hand.
    pub keys: KeySources,
    /// Days until snapshot and timestamp expire; `None`: as what is published now.
    pub expires_days: Option<u64>,
    /// Whether this machine's clock is looked at.
    pub clock: ClockCheck,
    /// Copies of the staged drafts that were signed elsewhere.
    pub files: Vec<PathBuf>,
}

/// Merges the signatures and publishes. Until enough have signed it fails with who is missing, keeps
/// the signatures that came, and devices see nothing.
pub fn publish_staged(request: &Request, now: Time) -> Result<Vec<String>> {
    let repo = &request.repo;
    let keys = request.keys.keyring()?;
    let _lock = lock(repo)?;
    let before = load(repo)?;
    let before = before.as_ref();
    request.clock.check(now, before, &[])?;
    let mut staged = Staged::load(repo, before)?;
    if staged.root.is_none() && staged.targets.is_none() {
        bail!("nothing is staged in {}; --stage does that", repo.display());
    }
    for path in &request.files {
        staged.merge(path, before)?;
    }
    let staged = staged.signed(before, &keys)?;
    let missing = staged.missing(before)?;
    let mut dates = dates_as_before(before, now);
    if let Some(days) = request.expires_days {
        (dates.snapshot, dates.timestamp) = (now.plus_days(days), now.plus_days(days));
    }
    // Whatever happens next, what people signed is not lost.
    Prepared::Drafts(Box::new(staged.clone()), Vec::new()).write(repo)?;
    if !missing.is_empty() {
        bail!("not published yet, and nothing is lost: {}", missing.join("; "));
    }
    files_are_there(&staged, request)?;
    staged.prepare(Place::Published, repo, before, &keys, &dates)?.write(repo)
}

impl Staged {
    fn merge(&mut self, path: &Path, before: Option<&Published>) -> Result<()> {
        let roots = self.roots(before);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let at = || path.display().to_string();
        let none = || format!("{}: no draft of its kind is staged", path.display());
        if name.ends_with(".root.json") {
            let other: Draft<Root> = read_draft(path)?;
            let draft = self.root.as_mut().with_context(none)?;
            roots.iter().try_for_each(|root| draft.merge(&other, root)).with_context(at)
        } else {
            let other: Draft<Targets> = read_draft(path)?;
            let draft = self.targets.as_mut().with_context(none)?;
            roots.iter().try_for_each(|root| draft.merge(&other, root)).with_context(at)
        }
    }
}

/// A device must not be sent after a file that was lost while people signed.
fn files_are_there(staged: &Staged, request: &Request) -> Result<()> {
    for (name, target) in staged.targets.iter().flat_map(|draft| &draft.content.targets) {
        let path = target_path(true, name, target).context("a target without a hash")?;
        let path = request.repo.join(path);
        let length = std::fs::metadata(&path).map(|about| about.len()).ok();
        if length != Some(target.length) {
            bail!(
                "{} is not there as it was staged; publish the update again with --stage",
                path.display()
            );
        }
    }
    Ok(())
}
