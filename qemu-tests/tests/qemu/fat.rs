//! Files of a machine's FAT partitions, as a person with a card reader would read and write them.

use std::process::Command;

use anyhow::{ensure, Context, Result};
use qemu_tests::Disk;

/// A file of a FAT partition, read by mtools.
pub fn read(disk: &Disk, label: &str, name: &str) -> Result<Vec<u8>> {
    let output = mcopy(disk, label)?.arg(format!("::{name}")).arg("-").output();
    let output = output.context("install the package mtools")?;
    ensure!(output.status.success(), "mcopy: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Overwrites a file, or makes it; where its bytes come to lie is for mtools to say.
pub fn write(disk: &Disk, label: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let file = tempfile::NamedTempFile::new().context("temporary file")?;
    std::fs::write(file.path(), bytes).context("temporary file")?;
    let mut command = mcopy(disk, label)?;
    let status = command.arg("-o").arg(file.path()).arg(format!("::{name}")).status();
    ensure!(status.context("install the package mtools")?.success(), "mcopy of {name}");
    Ok(())
}

fn mcopy(disk: &Disk, label: &str) -> Result<Command> {
    let at = disk.partition(label)?.start;
    let mut command = Command::new("mcopy");
    command.arg("-n").arg("-i").arg(format!("{}@@{at}", disk.path().display()));
    Ok(command)
}
