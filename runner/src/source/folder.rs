//! A folder of inputs: what is there, then what comes.

use super::{Event, MAX_INPUT};
use crate::config::{Config, read_bounded};
use crate::error::{Error, Exit};
use crate::input::Input;
use crate::prepare::Preparer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

/// Files looked at; a folder with more is read as far as this, in name order.
const MAX_FILES: usize = 10_000;

/// A file's state: written again means seen anew.
type Stamp = (u64, Option<SystemTime>);

/// Fails when the folder cannot be read.
pub fn check(config: &Config) -> Result<(), Error> {
    if let Some(folder) = &config.source.folder {
        std::fs::read_dir(folder).map_err(|e| {
            Error::new(Exit::Source, format!("source.folder {}: {e}", folder.display()))
        })?;
    }
    Ok(())
}

/// Prepares and sends every file of the folder, in name order, then looks again every `poll_ms` for new ones
/// (or for all of them, with `repeat`).
pub fn watch(
    config: &Config,
    preparer: Arc<Preparer>,
    events: SyncSender<Event>,
) -> Result<(), Error> {
    let Some(folder) = config.source.folder.clone() else { return Ok(()) };
    let endings: &'static [&'static str] = match config.input {
        Input::Picture(_) => &["png", "jpg", "jpeg"],
        Input::Tensor(_) => &["bin"],
    };
    let pause = Duration::from_millis(config.source.poll_ms);
    let (repeat, name) = (config.source.repeat, config.name.clone());
    super::thread("folder", move || {
        let mut seen = BTreeMap::new();
        let mut said = None;
        loop {
            match list(&folder, endings) {
                Ok(found) => {
                    said = None;
                    let new = choose(&mut seen, found, repeat);
                    for path in new {
                        let bytes = match read_bounded(&path, MAX_INPUT) {
                            Ok(bytes) => bytes,
                            Err(error) => {
                                eprintln!("{name}: {error}");
                                continue;
                            }
                        };
                        let event = Event::Input {
                            name: path.display().to_string(),
                            input: preparer.receive(bytes),
                            reply: None,
                        };
                        if events.send(event).is_err() {
                            return;
                        }
                    }
                }
                Err(error) => {
                    let text = format!("source.folder {}: {error}", folder.display());
                    if said.as_ref() != Some(&text) {
                        eprintln!("{name}: {text}");
                        said = Some(text);
                    }
                }
            }
            std::thread::sleep(pause);
        }
    })
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
            found.insert(path, (about.len(), about.modified().ok()));
        }
    }
    Ok(found)
}

/// The files to read now, and what has been seen from then on.
fn choose(
    seen: &mut BTreeMap<PathBuf, Stamp>,
    found: BTreeMap<PathBuf, Stamp>,
    repeat: bool,
) -> Vec<PathBuf> {
    let new = found.iter().filter(|(path, stamp)| repeat || seen.get(*path) != Some(stamp));
    let new = new.map(|(path, _)| path.clone()).collect();
    *seen = found;
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64) -> Stamp {
        (size, None)
    }

    #[test]
    fn each_file_once_unless_it_changes_or_repeats() {
        let a = || BTreeMap::from([(PathBuf::from("a"), stamp(1))]);
        let ab =
            || BTreeMap::from([(PathBuf::from("a"), stamp(1)), (PathBuf::from("b"), stamp(1))]);
        let mut seen = BTreeMap::new();
        assert_eq!(choose(&mut seen, a(), false), [PathBuf::from("a")]);
        assert_eq!(choose(&mut seen, ab(), false), [PathBuf::from("b")]);
        assert!(choose(&mut seen, ab(), false).is_empty());
        let changed = BTreeMap::from([(PathBuf::from("a"), stamp(2))]);
        assert_eq!(choose(&mut seen, changed, false), [PathBuf::from("a")]);
        assert_eq!(choose(&mut seen, ab(), true).len(), 2);
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
