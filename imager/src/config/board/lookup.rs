//! Where a board file is found: by its path, in a `board-configs` folder of the user's, else inside
//! imager itself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use wording::nearest;

use super::Board;
use super::shipped::SHIPPED;
use crate::config::diagnostics::Document;
use crate::config::values::BoardName;

/// The folder that a user's own board files are looked for in.
const FOLDER: &str = "board-configs";

impl Board {
    /// Reads the board file `name_or_path`: a path if it ends in `.toml`, else the name of a file
    /// in a `board-configs` folder here or above, or beside or above `near`, else one of imager's
    /// own.
    pub fn load(name_or_path: &str, near: &Path) -> Result<Self> {
        if name_or_path.ends_with(".toml") {
            return Self::load_file(Path::new(name_or_path));
        }
        let name = BoardName::new(name_or_path).map_err(|e| anyhow::anyhow!("--board: {e}"))?;
        for folder in folders(near) {
            let path = folder.join(format!("{name}.toml"));
            if path.is_file() {
                return Self::load_file(&path);
            }
        }
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name.as_str()) {
            // What it names lies where it would itself.
            let folder = folders(near).into_iter().next().unwrap_or_else(|| near.join(FOLDER));
            let path = folder.join(format!("{name}.toml"));
            return Self::from_document(&Document::new(&path, (*text).to_owned()), &path);
        }
        let known = Self::all(near)?;
        let hint = nearest(&name, known.iter().map(String::as_str))
            .map(|n| format!("; did you mean `{n}`?"))
            .unwrap_or_default();
        bail!("there is no board `{name}`{hint} (known: {})", known.join(", "))
    }

    /// Names of all boards that [`Board::load`] would find, sorted.
    pub fn all(near: &Path) -> Result<Vec<String>> {
        let mut names: Vec<String> = SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect();
        for folder in folders(near) {
            names.extend(names_in(&folder)?);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Names of the boards in the nearest `board-configs` folder that has any; empty if none has.
    pub fn in_nearest_folder(near: &Path) -> Result<Vec<String>> {
        for folder in folders(near) {
            let names = names_in(&folder)?;
            if !names.is_empty() {
                return Ok(names);
            }
        }
        Ok(Vec::new())
    }
}

/// The `board-configs` folders above the current folder and above `near`, nearest first.
fn folders(near: &Path) -> Vec<PathBuf> {
    let near = if near.as_os_str().is_empty() { Path::new(".") } else { near };
    let starts = [std::env::current_dir().ok(), near.canonicalize().ok()];
    let mut found = Vec::new();
    for start in starts.into_iter().flatten() {
        for above in start.ancestors() {
            let folder = above.join(FOLDER);
            if folder.is_dir() && !found.contains(&folder) {
                found.push(folder);
            }
        }
    }
    found
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("{}: cannot be listed", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("{}: cannot be listed", folder.display()))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            names.extend(path.file_stem().and_then(|s| s.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_are_found_by_name_and_a_wrong_name_gets_a_hint() {
        let near = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(Board::load("qemu-arm64", near).is_ok());
        let message = Board::load("qemu-arm", near).unwrap_err().to_string();
        assert!(message.contains("did you mean `qemu-arm64`?"), "{message}");
        assert!(Board::load("../x", near).is_err());
    }
}
