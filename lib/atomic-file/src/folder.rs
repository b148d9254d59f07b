//! A folder for new files.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Makes a folder and those above it, with these permissions, unless it is there.
///
/// A file in its way is named: that a *file exists* tells nobody who asked for a folder.
pub fn make_folder(folder: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(folder);
    let blocks = |path: &&Path| path.symlink_metadata().is_ok() && !path.is_dir();
    match (made, folder.ancestors().find(blocks)) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(file)) => bail!(
            "cannot make the folder {}: {} is no folder; name another one, or remove that",
            folder.display(),
            file.display()
        ),
        (Err(error), None) => {
            Err(error).with_context(|| format!("cannot make the folder {}", folder.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_way_of_a_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("thesis");
        std::fs::write(&file, "much work").unwrap();
        for folder in [file.clone(), file.join("in/it")] {
            let error = format!("{:#}", make_folder(&folder, 0o755).unwrap_err());
            assert!(error.contains(&format!("{} is no folder", file.display())), "{error}");
            assert!(!error.contains("os error"), "{error}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"much work");
        let deep = dir.path().join("a/b");
        make_folder(&deep, 0o755).unwrap();
        make_folder(&deep, 0o755).unwrap();
        assert!(deep.is_dir());
    }
}
