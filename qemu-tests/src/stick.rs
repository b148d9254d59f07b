//! USB sticks for the machine: FAT images with files on them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where the partition of a stick begins, in sectors of 512 bytes: where every formatter puts it.
const START: u64 = 2048;
const SECTOR: u64 = 512;

/// A stick: one FAT partition, with files at its top. Gone when it is dropped.
#[derive(Debug)]
pub struct Stick {
    path: PathBuf,
    sectors: u64,
    _folder: tempfile::TempDir,
}

impl Stick {
    /// A stick with these files under these names, and as much room again.
    pub fn with(files: &[(&str, &Path)]) -> Result<Stick> {
        let mut bytes = 0;
        for (_, path) in files {
            bytes += path.metadata().with_context(|| path.display().to_string())?.len();
        }
        let sectors = (2 * bytes + (16 << 20)) / SECTOR;
        let folder =
            tempfile::Builder::new().prefix("ferrite-stick").tempdir().context("folder")?;
        let path = folder.path().join("stick.img");
        let file = File::create(&path).context("stick")?;
        file.set_len((START + sectors) * SECTOR).context("stick")?;
        file.write_all_at(&partition_table(sectors)?, 0).context("stick")?;
        let stick = Stick { path, sectors, _folder: folder };
        let mut format = Command::new("mkfs.fat");
        format.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").arg("--offset");
        format.arg(START.to_string()).arg(&stick.path).arg((stick.sectors / 2).to_string());
        run(&mut format, "dosfstools")?;
        for (name, from) in files {
            let mut copy = Command::new("mcopy");
            copy.arg("-i").arg(format!("{}@@{}", stick.path.display(), START * SECTOR));
            run(copy.arg(from).arg(format!("::{name}")), "mtools")?;
        }
        Ok(stick)
    }

    /// The image.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Spoils the file system beyond what any driver mounts, leaving what it is told by.
    pub fn break_file_system(&self) -> Result<()> {
        let file = File::options().write(true).open(&self.path).context("stick")?;
        // Bytes a sector, sectors a cluster, reserved sectors, number of FATs.
        file.write_all_at(&[0; 6], START * SECTOR + 11).context("stick")
    }

    /// All its bytes' hash.
    pub fn sha256(&self) -> Result<String> {
        let output = Command::new("sha256sum").arg(&self.path).output().context("sha256sum")?;
        ensure!(output.status.success(), "sha256sum failed");
        Ok(String::from_utf8_lossy(&output.stdout).chars().take(64).collect())
    }
}

/// A master boot record with one FAT partition from [`START`] on.
fn partition_table(sectors: u64) -> Result<[u8; 512]> {
    let mut record = [0; 512];
    let entry = &mut record[446..462];
    entry[4] = 0x0c;
    entry[8..12].copy_from_slice(&u32::try_from(START)?.to_le_bytes());
    entry[12..16].copy_from_slice(&u32::try_from(sectors)?.to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xAA]);
    Ok(record)
}

fn run(command: &mut Command, package: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("install the package {package}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed:\n{said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_back_from_the_stick() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, b"what is on it").unwrap();
        let stick = Stick::with(&[("some-long-name.bundle", &file)]).unwrap();
        let output = Command::new("mtype")
            .arg("-i")
            .arg(format!("{}@@{}", stick.path().display(), START * SECTOR))
            .arg("::some-long-name.bundle")
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"what is on it");
        let before = stick.sha256().unwrap();
        stick.break_file_system().unwrap();
        assert_ne!(stick.sha256().unwrap(), before);
    }
}
