//! How what is wanted now differs from what the lock has: for notices, and under `--locked` for
//! errors.

use debian::lock::BoardPins;

use super::lock::{ArchivePin, FilePin};

/// How the files on the disk differ from the locked ones.
pub fn changed_files(old: &[FilePin], new: &[FilePin]) -> Vec<String> {
    let find = |all: &[FilePin], path: &str| all.iter().find(|f| f.path == path).cloned();
    let mut found = Vec::new();
    for file in new {
        match find(old, &file.path) {
            None => found.push(format!("{} is new", file.path)),
            Some(before) if before != *file => found.push(format!("{} has changed", file.path)),
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|f| find(new, &f.path).is_none());
    found.extend(gone.map(|f| format!("{} is no longer used", f.path)));
    found
}

/// Those of all locked archives that are the image's own, or this board's.
pub fn archives_of(board: &str, locked: &[ArchivePin]) -> Vec<ArchivePin> {
    let is_its = |pin: &&ArchivePin| pin.board.as_ref().is_none_or(|name| name == board);
    locked.iter().filter(is_its).cloned().collect()
}

/// Says so if the archive of this pin was locked with another hash.
pub fn changed_archive(old: &[ArchivePin], new: &ArchivePin) -> Option<String> {
    let before = old.iter().find(|pin| (&pin.board, &pin.from) == (&new.board, &new.from))?;
    (before.sha256 != new.sha256).then(|| {
        format!(
            "archive {} has changed: its SHA-256 is {} instead of {}",
            new.from, new.sha256, before.sha256
        )
    })
}

/// Says which packages changed against the lock, each in one line.
pub fn report_changed_packages(old: &BoardPins, new: &BoardPins) {
    let all = |pins: &BoardPins| -> Vec<String> { pins.ids().cloned().collect() };
    let (old, new) = (all(old), all(new));
    for id in old.iter().filter(|id| !new.contains(id)) {
        let name = id.split(' ').next().unwrap_or_default();
        match new.iter().find(|n| n.split(' ').next() == Some(name)) {
            Some(now) => eprintln!("NOTICE: {id} is replaced by {now}"),
            None => eprintln!("NOTICE: {id} is no longer needed"),
        }
    }
    for id in &new {
        let name = id.split(' ').next();
        if !old.iter().any(|o| o.split(' ').next() == name) {
            eprintln!("adding {id}");
        }
    }
}
