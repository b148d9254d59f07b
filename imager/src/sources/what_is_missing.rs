//! What an image names and is not there, and what its lock lacks: all of it, without the network.

use std::collections::BTreeSet;

use anyhow::Result;
use debian::cache::Cache;
use debian::lock::BoardPins;

use super::inputs::Inputs;
use super::local::{self, LocalFile};
use super::lock::{self, Lock};
use super::wheel::Wheel;
use super::{archive, request};
use crate::config::{Board, Image};

/// Finds the local files. Adds a line for each file, folder and archive that cannot be read.
pub fn files(image: &Image, findings: &mut Vec<String>) -> Vec<LocalFile> {
    let mut files = Vec::new();
    for source in request::local(image) {
        match local::find(image.folder(), source.path, &|inside| source.excludes(inside)) {
            Ok(found) => files.extend(found),
            Err(error) => findings.push(format!("{error:#}")),
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup();
    for entry in image.archives() {
        if let Err(error) = archive::find(image.folder(), entry) {
            findings.push(format!("{error:#}"));
        }
    }
    files
}

/// The inputs that are on this machine, with the wheels of the cache; `None` if one of these would
/// have to be fetched.
pub fn at_hand(
    image: &Image,
    board: &Board,
    files: &[LocalFile],
    cache: &Cache,
) -> Result<Option<Inputs>> {
    let lock = Lock::read(&lock::path_for(image.path()))?;
    let mut inputs = Inputs { files: files.to_vec(), ..Inputs::default() };
    for wanted in request::wheels(image, board) {
        let Some(pin) = lock.wheels.iter().find(|pin| wanted.is_met_by(pin)) else {
            return Ok(None);
        };
        let Some(path) = cache.find(&pin.sha256)? else { return Ok(None) };
        inputs.wheels.push(Wheel {
            name: pin.name.clone(),
            version: pin.version.clone(),
            file: pin.file.clone(),
            sha256: pin.sha256,
            path,
        });
    }
    Ok(Some(inputs))
}

/// Adds a line if a build for this board would have to look something up: what changed in local
/// files is no reason for that.
pub fn in_lock(image: &Image, board: &Board, findings: &mut Vec<String>) {
    if let Some(path) = board.missing_archive() {
        findings.push(format!(
            "{}: its kernel {} is not there (docs/board-file.md, \"A kernel of your own\")",
            board.name(),
            path.display()
        ));
    }
    let path = lock::path_for(image.path());
    let lock = match Lock::read(&path) {
        Ok(lock) => lock,
        Err(error) => return findings.push(format!("{error:#}")),
    };
    let lacks = if lock == Lock::default() {
        vec!["is not there".to_owned()]
    } else {
        lacks(&lock, image, board)
    };
    if !lacks.is_empty() {
        findings.push(format!(
            "{}: {}; `imager lock --image {} --board {}` looks it up",
            path.display(),
            lacks.join(", "),
            image.path().display(),
            board.name()
        ));
    }
}

fn lacks(lock: &Lock, image: &Image, board: &Board) -> Vec<String> {
    let mut lacks = Vec::new();
    match lock.board(board.name()) {
        None => lacks.push(format!("lacks the board {}", board.name())),
        Some(pins) => lacks.extend(packages(pins, image, board)),
    }
    for wheel in request::wheels(image, board) {
        if !lock.wheels.iter().any(|pin| wheel.is_met_by(pin)) {
            lacks.push(format!("lacks the wheel {} {}", wheel.name, wheel.version));
        }
    }
    lacks
}

/// How what is asked for differs from what was asked for when the board was locked.
fn packages(pins: &BoardPins, image: &Image, board: &Board) -> Option<String> {
    let wanted = request::packages(image, board);
    if pins.request == wanted && pins.architecture == board.debian.architecture.as_str() {
        return None;
    }
    let names = |list: &[String]| list.iter().cloned().collect::<BTreeSet<String>>();
    let (now, then) = (names(&wanted.packages), names(&pins.request.packages));
    let new: Vec<&str> = now.difference(&then).map(String::as_str).collect();
    Some(match &new[..] {
        [] => format!("was made for other packages than the image and {} ask for", board.name()),
        new => format!("lacks the packages {}", new.join(" ")),
    })
}
