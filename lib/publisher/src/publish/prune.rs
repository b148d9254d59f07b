//! Old versions: no longer offered first, removed from the disk when no device can still be at them.
//!
//! A device goes on with a download by the metadata it has, for days on a metered link. So a file
//! goes only when every publication that offered it was replaced longer ago than the time of grace.
//! When that was is read from the age of the metadata that replaced it; copying a repository makes
//! it look younger, which keeps files longer and breaks nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tuf::{FerriteTarget, METADATA_DIR, TargetFile, Targets, Time, target_path};

/// What becomes of old versions.
#[derive(Debug, Clone, Copy)]
pub struct Prune {
    /// So many of the newest versions of each image and board stay on offer. Versions whose rollout
    /// has not reached everybody come on top.
    pub keep: NonZeroUsize,
    /// Days that a file stays after it was last offered.
    pub grace_days: u64,
}

impl Prune {
    /// Takes what is too old out of `targets`, with the index and the deltas that nothing else
    /// names; a line for each update. Targets that are not Ferrite's stay.
    pub fn unlist(&self, targets: &mut BTreeMap<String, TargetFile>, now: Time) -> Vec<String> {
        let updates: BTreeMap<String, FerriteTarget> = targets
            .iter()
            .filter_map(|(name, target)| Some((name.clone(), target.ferrite()?)))
            .collect();
        let superseded = superseded(&updates, self.keep.get(), now);
        let names = |of: &FerriteTarget| -> Vec<String> {
            of.index.iter().chain(of.deltas.iter().map(|delta| &delta.target)).cloned().collect()
        };
        let (old, kept): (Vec<_>, Vec<_>) =
            updates.iter().partition(|(name, _)| superseded.contains(*name));
        let needed: BTreeSet<String> = kept
            .iter()
            .flat_map(|(name, f)| names(f).into_iter().chain([name.to_string()]))
            .collect();
        for (name, ferrite) in &old {
            for name in names(ferrite).into_iter().chain([name.to_string()]) {
                if !needed.contains(&name) {
                    targets.remove(&name);
                }
            }
        }
        old.iter().map(|(name, _)| format!("{name} is no longer offered")).collect()
    }

    /// Removes the files that [`Prune::unlist`] made superfluous in publications before; a line
    /// that says how many. Run it when the new publication is whole on the disk.
    pub fn remove_files(&self, repo: &Path, now: Time) -> Result<Option<String>> {
        let before = Time(now.0.saturating_sub(self.grace_days.saturating_mul(86_400)));
        let old = superfluous(&publications(repo)?, before)?;
        let mut bytes = 0;
        for path in &old {
            let path = repo.join(path);
            match fs::metadata(&path) {
                Ok(metadata) => bytes += metadata.len(),
                // Removed before, by a run that was cut off or by hand.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok((bytes > 0).then(|| {
            format!("{bytes} bytes removed of files not offered for {} days", self.grace_days)
        }))
    }
}

/// The updates beyond the `keep` newest that everybody may take.
fn superseded(
    updates: &BTreeMap<String, FerriteTarget>,
    keep: usize,
    now: Time,
) -> BTreeSet<String> {
    let mut of_each: BTreeMap<(&str, &str), Vec<(&String, &FerriteTarget)>> = BTreeMap::new();
    for (name, ferrite) in updates {
        of_each.entry((&ferrite.name, &ferrite.board)).or_default().push((name, ferrite));
    }
    let mut superseded = BTreeSet::new();
    for versions in of_each.values_mut() {
        versions.sort_by_key(|(_, ferrite)| std::cmp::Reverse(ferrite.sequence));
        let mut for_everybody = 0;
        for (name, ferrite) in versions {
            if for_everybody >= keep {
                superseded.insert(name.to_string());
            } else if reaches_everybody(ferrite, now) {
                for_everybody += 1;
            }
        }
    }
    superseded
}

fn reaches_everybody(ferrite: &FerriteTarget, now: Time) -> bool {
    let last_bucket = tuf::ferrite::BUCKETS - 1;
    ferrite.rollout.as_ref().is_none_or(|rollout| {
        !rollout.paused && rollout.eligible_from(last_bucket, false).is_some_and(|turn| turn <= now)
    })
}

/// One version of the targets metadata.
struct Publication {
    version: u64,
    targets: Targets,
    /// When it was written here.
    written: Time,
}

/// The versions of the targets metadata that are still there, oldest first.
fn publications(repo: &Path) -> Result<Vec<Publication>> {
    let folder = repo.join(METADATA_DIR);
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let version = name.strip_suffix(".targets.json").and_then(|number| number.parse().ok());
        let Some(version) = version else { continue };
        let read = || -> Result<Publication> {
            let written = fs::metadata(&path)?.modified()?.duration_since(UNIX_EPOCH)?;
            let envelope: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
            let signed = envelope.get("signed").context("nothing is signed in it")?;
            let targets = Targets::deserialize(signed)?;
            Ok(Publication { version, targets, written: Time(written.as_secs()) })
        };
        found.push(read().with_context(|| format!("cannot read {}", path.display()))?);
    }
    found.sort_by_key(|publication| publication.version);
    Ok(found)
}

/// The files, below the repository, that only publications name which were replaced before `before`.
fn superfluous(publications: &[Publication], before: Time) -> Result<BTreeSet<PathBuf>> {
    // A delegated role may name the same file.
    if publications.iter().any(|publication| publication.targets.delegations.is_some()) {
        bail!(
            "this repository has delegations, and what their roles offer is not known here: no \
             file was removed; remove by hand what nobody offers"
        );
    }
    let paths = |publication: &Publication| -> Vec<PathBuf> {
        let targets = publication.targets.targets.iter();
        targets
            .filter_map(|(name, target)| target_path(true, name, target))
            .map(Into::into)
            .collect()
    };
    let replaced = |index: usize| publications.get(index + 1).map(|next| next.written);
    let (mut needed, mut old) = (BTreeSet::new(), BTreeSet::new());
    for (index, publication) in publications.iter().enumerate() {
        match replaced(index) {
            Some(replaced) if replaced < before => old.extend(paths(publication)),
            _ => needed.extend(paths(publication)),
        }
    }
    Ok(old.difference(&needed).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::tests::{NOW, Project};
    use crate::publish::{Request, publish};
    use crate::repository_folder::load;
    use crate::sample::update;
    use std::time::{Duration, SystemTime};
    use tuf::{Rollout, Wave};

    fn request(project: &Project, keep: usize, files: &[&Path]) -> Request {
        let prune = NonZeroUsize::new(keep).map(|keep| Prune { keep, grace_days: 30 });
        Request { prune, ..project.request(files) }
    }

    fn run(project: &Project, keep: usize, files: &[&Path], now: Time) -> Vec<String> {
        publish(&request(project, keep, files), now, &mut |_| ()).unwrap()
    }

    /// Makes the targets metadata of this version look as if it were written then.
    fn written(project: &Project, version: u64, at: Time) {
        let path = project.repo().join(format!("metadata/{version}.targets.json"));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at.0);
        fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }

    fn offered(project: &Project) -> Vec<String> {
        load(&project.repo()).unwrap().unwrap().targets.targets.into_keys().collect()
    }

    /// The names of the files on the disk, without their hashes.
    fn files(project: &Project) -> Vec<String> {
        let entries = fs::read_dir(project.repo().join("targets")).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.split_once('.').unwrap().1.to_owned()
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn old_versions_leave_the_list_first_and_the_disk_after_the_time_of_grace() {
        let project = Project::new();
        for sequence in 1..=3 {
            project.publish(&[&project.update(&format!("1.{sequence}"), sequence)]).unwrap();
            written(&project, sequence, NOW);
        }
        let day = 86_400;
        let report = run(&project, 2, &[], NOW);
        assert_eq!(report[0], "demo-qemu-arm64-1.1.update is no longer offered");
        written(&project, 4, NOW);
        let updates = |names: Vec<String>| {
            names.into_iter().filter(|name| name.ends_with(".update")).collect::<Vec<_>>()
        };
        let all = [1, 2, 3].map(|n| format!("demo-qemu-arm64-1.{n}.update"));
        assert_eq!(updates(offered(&project)), all[1..]);
        assert_eq!(updates(files(&project)), all, "devices may be at it");
        assert!(!offered(&project).contains(&"demo-qemu-arm64-1.1.index".to_owned()));

        run(&project, 2, &[], Time(NOW.0 + 30 * day));
        written(&project, 5, Time(NOW.0 + 30 * day));
        assert_eq!(updates(files(&project)), all, "the last day of grace");
        let report = run(&project, 2, &[], Time(NOW.0 + 31 * day));
        assert!(report.iter().any(|line| line.contains("removed")), "{report:?}");
        assert_eq!(files(&project), offered(&project), "what is offered, and nothing else");
        let again = run(&project, 2, &[], Time(NOW.0 + 32 * day));
        assert!(!again.iter().any(|line| line.contains("removed")), "{again:?}");
    }

    #[test]
    fn nothing_is_pruned_unless_it_is_asked_for() {
        let project = Project::new();
        for sequence in 1..=3 {
            project.publish(&[&project.update(&format!("1.{sequence}"), sequence)]).unwrap();
            written(&project, sequence, Time(0));
        }
        let before = (offered(&project), files(&project));
        project.publish(&[]).unwrap();
        assert_eq!((offered(&project), files(&project)), before);
    }

    #[test]
    fn each_board_and_image_keeps_its_own_and_strangers_stay() {
        let project = Project::new();
        project.publish(&[&project.update("1.0", 1)]).unwrap();
        project
            .publish(&[&update(project.dir.path(), &project.keys(), "other", "1.0", 1).unwrap()])
            .unwrap();
        project.publish(&[&project.update("1.1", 2)]).unwrap();
        let mut targets = load(&project.repo()).unwrap().unwrap().targets.targets;
        let stranger = TargetFile { length: 1, hashes: BTreeMap::new(), custom: None };
        targets.insert("notes.txt".into(), stranger);
        let prune = Prune { keep: NonZeroUsize::MIN, grace_days: 30 };
        let report = prune.unlist(&mut targets, NOW);
        assert_eq!(report, ["demo-qemu-arm64-1.0.update is no longer offered"]);
        let left: Vec<_> = targets.keys().map(String::as_str).collect();
        let expected = [
            "demo-other-1.0.index",
            "demo-other-1.0.update",
            "demo-qemu-arm64-1.1.index",
            "demo-qemu-arm64-1.1.update",
            "notes.txt",
        ];
        let deltas = |name: &&str| name.ends_with(".delta");
        let without: Vec<_> = left.iter().copied().filter(|name| !deltas(name)).collect();
        assert_eq!(without, expected);
    }

    #[test]
    fn a_version_that_not_everybody_may_take_yet_does_not_count() {
        let offer =
            |sequence, rollout| FerriteTarget { sequence, rollout, ..FerriteTarget::default() };
        let rollout = |paused, percent, after| Rollout {
            paused,
            start: NOW,
            groups: Vec::new(),
            waves: vec![Wave { percent, after }],
        };
        for (newest, gone) in [
            (None, vec!["2"]),
            (Some(rollout(false, 100, 0)), vec!["2"]),
            (Some(rollout(false, 100, 1)), vec![]),
            (Some(rollout(false, 99, 0)), vec![]),
            (Some(rollout(true, 100, 0)), vec![]),
        ] {
            let updates = BTreeMap::from([
                ("1".to_owned(), offer(1, None)),
                ("2".to_owned(), offer(2, None)),
                ("3".to_owned(), offer(3, newest.clone())),
            ]);
            let mut expected: BTreeSet<String> = gone.iter().map(|n| n.to_string()).collect();
            expected.insert("1".into());
            assert_eq!(superseded(&updates, 1, NOW), expected, "{newest:?}");
        }
    }

    #[test]
    fn where_others_are_trusted_with_names_no_file_is_removed() {
        let publication = |version| {
            let json = serde_json::json!({
                "_type": "targets", "spec_version": "1.0.31", "version": version,
                "expires": "2030-01-01T00:00:00Z", "targets": {},
                "delegations": {"keys": {}, "roles": []}
            });
            let targets = serde_json::from_value(json).unwrap();
            Publication { version, targets, written: Time(0) }
        };
        let error = superfluous(&[publication(1), publication(2)], NOW).unwrap_err();
        assert!(error.to_string().contains("delegations"), "{error}");
    }
}
