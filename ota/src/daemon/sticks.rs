//! USB sticks: a bundle at the top of one that is plugged in is installed like an update from a
//! server, with the same checks.
//!
//! `init` mounts sticks below one folder, each under a name that no other one has until the next
//! boot, so what was looked at once is known by its name. After a reboot into what was installed the
//! same stick holds nothing newer; after falling back, its version is remembered as failed, or put off
//! and taken no earlier from the stick than from a server.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::console::say;
use crate::context::Context;
use crate::device::Device;
use crate::fetch::data_budget::Trigger;
use crate::install::candidates::{Candidate, Outcome, install_first};
use crate::install::{UpdateSource, announce};
use crate::policy::bundle;
use crate::state::State;
use crate::{Error, Result};

/// Sticks that are looked at; `init` mounts no more than eight.
const MAX_STICKS: usize = 16;
/// Entries at the top of a stick that are looked at.
const MAX_ENTRIES: usize = 4096;
/// Bundles on a stick that are opened.
const MAX_BUNDLES: usize = 16;

/// Knows which sticks were looked at already.
#[derive(Debug, Default)]
pub struct Sticks {
    seen: BTreeSet<PathBuf>,
}

impl Sticks {
    /// The sticks that were plugged in since the last call.
    pub fn new_ones(&mut self, device: &Device) -> Vec<PathBuf> {
        let folder = device.media();
        let Ok(parent) = fs::metadata(&folder) else { return Vec::new() };
        let is_mounted =
            |path: &Path| fs::metadata(path).is_ok_and(|own| own.dev() != parent.dev());
        self.compare(present(&folder, is_mounted))
    }

    fn compare(&mut self, present: BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let new = present.difference(&self.seen).cloned().collect();
        self.seen = present;
        new
    }
}

/// The folders in which a stick is mounted: `init` makes a folder first and then mounts on it.
fn present(folder: &Path, is_mounted: impl Fn(&Path) -> bool) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    let folders = entries.take(MAX_STICKS).flatten().map(|entry| entry.path());
    folders.filter(|path| is_mounted(path)).collect()
}

/// Installs the newest update of the bundles on `stick`; true when a trial was armed by this. What
/// is found, and what is wrong with it, is said.
///
/// Fails when the stick cannot be read, or the install did not work.
pub fn update(context: &Context, stick: &Path, beat: &dyn Fn()) -> Result<bool> {
    let tries = context.settings()?.tries;
    let mut found = Vec::new();
    let bundles = bundles(stick).map_err(|e| Error::at(stick, e))?;
    let mut wrong = false;
    for path in &bundles {
        beat();
        match bundle::check(context, path, Trigger::Media, beat) {
            Ok(all) => found.extend(all.into_iter().map(|(c, offer)| (path.clone(), c, offer))),
            Err(error) => {
                wrong = true;
                say(&format!("stick: {}: {}", shown(path), without(path, &error)));
            }
        }
    }
    // The newest first; of equal ones the first.
    found.sort_by_key(|(_, candidate, _)| Reverse(candidate.ferrite.sequence));
    let path_of = |wanted: &Candidate| {
        let same = |(_, candidate, _): &&(PathBuf, Candidate, UpdateSource)| {
            candidate.ferrite.header_sha256 == wanted.ferrite.header_sha256
        };
        found.iter().find(same).map_or_else(|| shown(stick), |(path, _, _)| shown(path))
    };
    let mut told = |event: std::result::Result<&Candidate, &Error>| match event {
        Ok(candidate) => say(&format!(
            "stick: {}: found {} (sequence {})",
            path_of(candidate),
            candidate.ferrite.version,
            candidate.ferrite.sequence
        )),
        Err(error) => say(&format!("stick: {error}")),
    };
    let offers = found.iter().map(|(_, candidate, offer)| (candidate, offer));
    match install_first(context, offers, tries, beat, &mut told)?.0 {
        Some(Outcome::Installed(installed)) => {
            announce(&installed);
            return Ok(true);
        }
        Some(Outcome::Armed(version)) => {
            say(&format!("stick: {}: {version} is installed already", shown(stick)));
        }
        None if bundles.is_empty() => {
            say(&format!("stick: {}: no *.bundle at its top", shown(stick)));
        }
        None if wrong => {}
        None => say_nothing_newer(context, stick),
    }
    Ok(false)
}

fn say_nothing_newer(context: &Context, stick: &Path) {
    let Context { device, running, .. } = context;
    if let Some(retrial) = State::load(device).retrial {
        say(&format!("stick: {} was put off; {}", retrial.version, retrial.when()));
    }
    say(&format!(
        "stick: {}: nothing newer than {} (sequence {})",
        shown(stick),
        running.version,
        running.sequence
    ));
}

/// The files at the top of `stick` that are called bundles, in the order of their names.
fn bundles(stick: &Path) -> io::Result<Vec<PathBuf>> {
    let is_bundle = |path: &Path| {
        let end = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("bundle"));
        // What other systems leave beside a file begins with a dot.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        end && !hidden
    };
    let mut found: Vec<PathBuf> = fs::read_dir(stick)?
        .take(MAX_ENTRIES)
        .map(|entry| entry.map(|entry| entry.path()))
        .filter(|path| path.as_ref().map_or(true, |path| is_bundle(path)))
        .collect::<io::Result<_>>()?;
    found.sort();
    found.truncate(MAX_BUNDLES);
    Ok(found)
}

/// A path on a stick, for people: without the folder that all sticks are in, and without what a
/// terminal would take for a command.
fn shown(path: &Path) -> String {
    let parts: Vec<&OsStr> = path.iter().collect();
    let start = parts.iter().position(|part| *part == "media").map_or(0, |at| at + 1);
    let parts: Vec<_> = parts[start..].iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/").chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect()
}

/// The error without the path that stands before it already.
fn without(path: &Path, error: &Error) -> String {
    let text = error.to_string();
    let rest = text.strip_prefix(&format!("{}: ", path.display()));
    rest.unwrap_or(&text).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stick_is_new_once_and_again_under_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let all = |_: &Path| true;
        let mut sticks = Sticks::default();
        let (first, second) = (dir.path().join("sda1-3"), dir.path().join("sda1-4"));
        fs::create_dir(&first).unwrap();
        assert_eq!(sticks.compare(present(dir.path(), |_| false)), [] as [PathBuf; 0]);
        assert_eq!(sticks.compare(present(dir.path(), all)), std::slice::from_ref(&first));
        assert_eq!(sticks.compare(present(dir.path(), all)), [] as [PathBuf; 0]);
        fs::remove_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        assert_eq!(sticks.compare(present(dir.path(), all)), [second]);
        assert_eq!(sticks.compare(present(&dir.path().join("none"), all)), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_folder_that_nothing_is_mounted_on_is_no_stick() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("run/media/sda1-3")).unwrap();
        let mut sticks = Sticks::default();
        assert!(sticks.new_ones(&Device::below(dir.path())).is_empty());
    }

    #[test]
    fn only_so_many_files_called_bundles_count() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.bundle", "A.BUNDLE", "._b.bundle", "x.update", "bundle"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let names = |dir: &Path| -> Vec<String> {
            let all = bundles(dir).unwrap().into_iter();
            all.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(dir.path()), ["A.BUNDLE", "b.bundle"]);
        for number in 0..40 {
            fs::write(dir.path().join(format!("{number:02}.bundle")), "").unwrap();
        }
        assert_eq!(names(dir.path()).len(), MAX_BUNDLES);
        assert!(bundles(&dir.path().join("gone")).is_err());
    }

    #[test]
    fn what_is_shown_has_no_commands_for_a_terminal() {
        assert_eq!(shown(Path::new("/run/media/sda1-3/a\u{1b}[2J.bundle")), "sda1-3/a?[2J.bundle");
    }
}
