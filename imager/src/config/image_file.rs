//! Which image file is meant where none is named.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The file that was named, else the only image file of the current folder.
pub fn named_or_only(named: Option<PathBuf>) -> Result<PathBuf> {
    match named {
        Some(path) => Ok(path),
        None => only_in(Path::new(".")),
    }
}

fn only_in(folder: &Path) -> Result<PathBuf> {
    let cannot = || format!("{}: cannot be listed", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let name = PathBuf::from(entry.with_context(cannot)?.file_name());
        if name.extension().is_some_and(|end| end == "toml") && looks_like_one(&folder.join(&name))
        {
            found.push(name);
        }
    }
    found.sort();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => bail!(
            "there is no image file in this folder: name one with --image, or make a project with `imager new`"
        ),
        _ => {
            let names: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
            bail!(
                "there are several image files here: name one with --image ({})",
                names.join(", ")
            )
        }
    }
}

/// Only image files have a sequence. One with a mistake in it is one all the same.
fn looks_like_one(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| {
        text.lines()
            .any(|line| line.trim_start().split('=').next().unwrap_or("").trim() == "sequence")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_image_file_of_a_folder_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("Cargo.toml", "[package]\nname = \"x\"\n");
        assert!(only_in(folder.path()).unwrap_err().to_string().contains("imager new"));
        write("mine.toml", "name = = \"x\"\nsequence = 1\n");
        assert_eq!(only_in(folder.path()).unwrap(), Path::new("mine.toml"));
        write("other.toml", "sequence = 2\n");
        assert!(only_in(folder.path()).unwrap_err().to_string().contains("mine.toml, other.toml"));
    }
}
