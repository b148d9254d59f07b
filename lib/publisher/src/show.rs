//! The keys, thresholds, versions and expiries of a repository, for people.

use std::path::Path;

use anyhow::{Result, ensure};
use tuf::Role;
use tuf::author::Published;

use crate::repository_folder::{load, no_repository};
use crate::staged::{Staged, short};

/// Which keys sign for which role, how many have to, what is published and what is staged.
pub fn show(repo: &Path) -> Result<Vec<String>> {
    let before = load(repo)?;
    let mut lines = before.as_ref().map(published).unwrap_or_default();
    let staged = Staged::load(repo, before.as_ref())?;
    let names: Vec<String> = staged
        .root
        .iter()
        .map(|draft| draft.file_name())
        .chain(staged.targets.iter().map(|draft| draft.file_name()))
        .collect();
    if !names.is_empty() {
        lines.push(format!("staged: {}", names.join(", ")));
        lines.extend(staged.missing(before.as_ref())?.iter().map(|line| format!("  {line}")));
    }
    let is_one = before.is_some() || !names.is_empty();
    ensure!(is_one, "{}", no_repository(repo));
    Ok(lines)
}

fn published(published: &Published) -> Vec<String> {
    let mut lines = Vec::new();
    for role in Role::ALL {
        let (version, expires) = match role {
            Role::Root => (published.root.version, published.root.expires),
            Role::Targets => (published.targets.version, published.targets.expires),
            Role::Snapshot => (published.snapshot.version, published.snapshot.expires),
            Role::Timestamp => (published.timestamp.version, published.timestamp.expires),
        };
        let ids = published.root.ids(role);
        lines.push(format!(
            "{:<10} version {version}, expires {expires}, {} of {} keys sign",
            role.name(),
            published.root.threshold(role),
            ids.len()
        ));
        lines.extend(ids.iter().map(|id| format!("  key {}", short(id))));
    }
    if let Some(at) = published.timestamp.signed_at {
        lines.push(format!("timestamp signed at {at}"));
    }
    for (name, target) in &published.targets.targets {
        lines.push(format!("target {name} ({} bytes)", target.length));
    }
    lines
}
