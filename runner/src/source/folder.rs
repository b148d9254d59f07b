//! A folder of inputs: what is there, then what comes, each file once it is whole.

mod writers;

use self::writers::{Stamp, Writers};
use super::{Event, MAX_INPUT};
use crate::config::{Config, read_bounded};
use crate::error::{self, Error, Exit};
use crate::input::Input;
use crate::prepare::Preparer;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime};

/// Files looked at; a folder with more is read as far as this, in name order.
const MAX_FILES: usize = 10_000;

/// Fails when the folder cannot be read.
pub fn check(config: &Config) -> Result<(), Error> {
    if let Some(folder) = &config.source.folder {
        std::fs::read_dir(folder).map_err(|e| {
            Error::new(
                Exit::Source,
                format!("source.folder {}: {}", folder.display(), error::plain(&e)),
            )
        })?;
    }
    Ok(())
}

/// Prepares and sends every file of the folder, in name order, then each new one as soon as it is
/// whole. Every `poll_ms` it looks for itself (or, with `repeat`, for all of them).
pub fn watch(
    config: &Config,
    preparer: Arc<Preparer>,
    events: SyncSender<Event>,
) -> Result<(), Error> {
    let Some(folder) = config.source.folder.clone() else { return Ok(()) };
    let endings: &'static [&'static str] = match config.input {
        Input::Picture(_) => &["png", "jpg", "jpeg"],
        Input::Tensor(_) => &["bin", "json", "csv"],
    };
    let pause = Duration::from_millis(config.source.poll_ms);
    let (repeat, name) = (config.source.repeat, config.name.clone());
    super::thread("folder", move || {
        let mut writers = Writers::new(folder.clone());
        let mut seen = BTreeMap::new();
        let mut said = None;
        let mut next = Instant::now();
        loop {
            let due = Instant::now() >= next;
            if due {
                next = Instant::now() + pause;
            }
            writers.follow();
            match list(&folder, endings) {
                Ok(found) => {
                    said = None;
                    // What was told while it was listed belongs to it.
                    writers.hear();
                    let now = SystemTime::now();
                    let whole = |path: &Path, stamp: &Stamp| {
                        path.file_name().is_some_and(|name| writers.is_whole(name, stamp, now))
                    };
                    for path in choose(&mut seen, found, whole, repeat && due) {
                        if !send(&path, &name, &preparer, &events) {
                            return;
                        }
                    }
                }
                Err(error) => {
                    let text =
                        format!("source.folder {}: {}", folder.display(), error::plain(&error));
                    if said.as_ref() != Some(&text) {
                        eprintln!("{name}: {text}");
                        said = Some(text);
                    }
                }
            }
            writers.wait(next);
        }
    })
}

/// False when nobody takes it any more.
fn send(path: &Path, name: &str, preparer: &Preparer, events: &SyncSender<Event>) -> bool {
    let bytes = match read_bounded(path, MAX_INPUT) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("{name}: {error}");
            return true;
        }
    };
    let (name, input) = (path.display().to_string(), preparer.receive(bytes));
    events.send(Event::Input { name, input, reply: None }).is_ok()
}

/// Regular files with one of the endings and their stamps. Names that begin with a dot are left
/// alone: half-written files are put there under such a name and renamed.
fn list(folder: &Path, endings: &[&str]) -> std::io::Result<BTreeMap<PathBuf, Stamp>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)?.take(MAX_FILES) {
        let path = entry?.path();
        let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if hidden || !ending.is_some_and(|e| endings.contains(&e.as_str())) {
            continue;
        }
        // A file that went away between the two calls is no trouble.
        let Ok(about) = std::fs::metadata(&path) else { continue };
        if about.is_file() {
            let (size, modified) = (about.len(), about.modified().ok());
            found.insert(path, Stamp { size, modified, inode: about.ino() });
        }
    }
    Ok(found)
}

/// The files to read now, and what has been seen from then on.
fn choose(
    seen: &mut BTreeMap<PathBuf, Stamp>,
    mut found: BTreeMap<PathBuf, Stamp>,
    whole: impl Fn(&Path, &Stamp) -> bool,
    repeat: bool,
) -> Vec<PathBuf> {
    let is_seen = |path: &PathBuf, stamp: &Stamp| seen.get(path) == Some(stamp);
    let new = found
        .iter()
        .filter(|(path, stamp)| (repeat || !is_seen(path, stamp)) && whole(path, stamp))
        .map(|(path, _)| path.clone())
        .collect();
    found.retain(|path, stamp| is_seen(path, stamp) || whole(path, stamp));
    *seen = found;
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64) -> Stamp {
        Stamp { size, modified: None, inode: 0 }
    }

    #[test]
    fn each_file_once_unless_it_changes_or_repeats() {
        let files = |sizes: &[(&str, u64)]| {
            sizes.iter().map(|(name, size)| (PathBuf::from(name), stamp(*size))).collect()
        };
        let a = || files(&[("a", 1)]);
        let ab = || files(&[("a", 1), ("b", 1)]);
        let whole = |_: &Path, _: &Stamp| true;
        let mut seen = BTreeMap::new();
        assert_eq!(choose(&mut seen, a(), whole, false), [PathBuf::from("a")]);
        let half = |path: &Path, _: &Stamp| path != Path::new("b");
        assert!(choose(&mut seen, ab(), half, false).is_empty());
        assert_eq!(choose(&mut seen, ab(), whole, false), [PathBuf::from("b")]);
        assert!(choose(&mut seen, ab(), half, false).is_empty(), "b was seen");
        assert!(choose(&mut seen, ab(), whole, false).is_empty());
        assert_eq!(choose(&mut seen, files(&[("a", 2)]), whole, false), [PathBuf::from("a")]);
        assert_eq!(choose(&mut seen, ab(), whole, true).len(), 2);
    }

    #[test]
    fn only_files_with_the_endings_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.PNG", "a.jpeg", "notes.txt", ".half.png"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        std::fs::create_dir(folder.path().join("c.png")).unwrap();
        let found = list(folder.path(), &["png", "jpeg"]).unwrap();
        let names: Vec<_> =
            found.keys().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.jpeg", "b.PNG"]);
    }
}
