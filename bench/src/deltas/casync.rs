//! casync: chunks cut by their content (64 KiB on average), each compressed, kept by its hash.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::{length, output};

/// Bytes that a client with the old image fetches: the index, and the chunks it lacks.
pub fn fetched(old: &Path, new: &Path, scratch: &Path) -> Result<u64> {
    let chop = |image: &Path, name: &str| -> Result<(u64, BTreeMap<String, u64>)> {
        let (index, store) = (scratch.join(format!("{name}.caibx")), scratch.join(name));
        let mut command = Command::new("casync");
        command.arg("make").arg(format!("--store={}", store.display())).arg(&index).arg(image);
        output(&mut command).context("casync make")?;
        let mut chunks = BTreeMap::new();
        collect(&store, &mut chunks)?;
        Ok((length(&index)?, chunks))
    };
    let (_, held) = chop(old, "old")?;
    let (index, chunks) = chop(new, "new")?;
    let lacking = chunks.iter().filter(|(name, _)| !held.contains_key(*name));
    Ok(index + lacking.map(|(_, bytes)| bytes).sum::<u64>())
}

/// Every chunk of a store by its name, which is its hash.
fn collect(folder: &Path, chunks: &mut BTreeMap<String, u64>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.is_dir() {
            collect(&path, chunks)?;
        } else if let Some(name) = path.file_name() {
            chunks.insert(name.to_string_lossy().into_owned(), length(&path)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_found_in_all_folders_of_a_store() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("00ab")).unwrap();
        fs::write(dir.path().join("00ab/00ab12.cacnk"), [0; 3]).unwrap();
        fs::write(dir.path().join("00ab/00ab34.cacnk"), [0; 4]).unwrap();
        let mut chunks = BTreeMap::new();
        collect(dir.path(), &mut chunks).unwrap();
        assert_eq!(chunks.values().sum::<u64>(), 7);
    }
}
