//! Files of a machine's FAT partitions, as a person with a card reader would read and write them: with
//! mtools.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use qemu_tests::Disk;

/// Runs a program of mtools or gdisk, whose volumes may be of odd sizes.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.env("MTOOLS_SKIP_CHECK", "1").output().context("mtools, gdisk?")?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// Runs one of mtools on a partition, and gives what it prints.
pub fn mtool(disk: &Disk, label: &str, name: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let image = format!("{}@@{}", disk.path().display(), disk.partition(label)?.start);
    Ok(run(Command::new(name).args(["-i", &image]).args(arguments).stdin(Stdio::null()))?.stdout)
}

/// A file's bytes.
pub fn read(disk: &Disk, label: &str, name: &str) -> Result<Vec<u8>> {
    mtool(disk, label, "mtype", &[&format!("::{name}")])
}

/// Overwrites a file, or makes it; where its bytes come to lie is for mtools to say.
pub fn write(disk: &Disk, label: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let file = tempfile::NamedTempFile::new().context("temporary file")?;
    std::fs::write(file.path(), bytes).context("temporary file")?;
    let path = file.path().to_str().context("temporary file")?;
    mtool(disk, label, "mcopy", &["-o", path, &format!("::{name}")]).map(drop)
}
