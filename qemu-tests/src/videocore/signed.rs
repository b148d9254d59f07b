//! `boot.img` and `boot.sig`: the RAM disk that a bootloader in flash memory loads instead of the
//! partition's own files, with a key only where the signature holds. The signature is openssl's to
//! judge.
//!
//! Sources: raspberrypi/usbboot, docs/secure-boot.md; raspberrypi/rpi-eeprom, `rpi-eeprom-digest`;
//! documentation, "boot_ramdisk".

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Model;
use super::config::{Filters, Settings};
use super::volume::{Table, Volume};
use crate::disk::Disk;

/// The RAM disk's file.
pub const IMAGE: &str = "boot.img";
/// Larger ones were cut off and then did not verify (rpi-eeprom issue 375); 96 MB since October 2021
/// (firmware-2711/release-notes.md), and more since.
const MAX_IMAGE: usize = 96_000_000;

/// A RAM disk that was loaded.
pub struct Ramdisk {
    disk: Disk,
    _folder: tempfile::TempDir,
}

impl Ramdisk {
    /// The files that are read from now on.
    pub fn volume(&self) -> Result<Volume<'_>> {
        Table::whole(&self.disk)
    }
}

/// Whether this partition's `config.txt` asks for a RAM disk.
pub fn is_asked_for(volume: &Volume, model: Model) -> Result<bool> {
    let Some(text) = volume.read("config.txt")?.filter(|_| model.can_verify()) else {
        return Ok(false);
    };
    let text = String::from_utf8_lossy(&text);
    let filters = Filters { tryboot: false, model: model.filters(), models: &super::MODELS };
    Ok(Settings::read(&text, &filters).context("config.txt")?.is_on("boot_ramdisk"))
}

/// The partition's RAM disk, verified where there is a key; `None` where its own files are booted.
pub fn ramdisk(volume: &Volume, model: Model, key: Option<&Path>) -> Result<Option<Ramdisk>> {
    if key.is_none() && !is_asked_for(volume, model)? {
        return Ok(None);
    }
    let image = volume.read(IMAGE)?.context("boot.img is missing")?;
    ensure!(image.len() <= MAX_IMAGE, "boot.img has {} bytes: it is cut off", image.len());
    let folder = tempfile::tempdir().context("temporary folder")?;
    let path = folder.path().join(IMAGE);
    fs::write(&path, &image).context("boot.img")?;
    if let Some(key) = key {
        let sig = volume.read("boot.sig")?.context("boot.sig is missing")?;
        verify(&path, &String::from_utf8(sig).context("boot.sig is no text")?, key)?;
    }
    Ok(Some(Ramdisk { disk: Disk::copy_of(&path)?, _folder: folder }))
}

/// Line by line what `rpi-eeprom-digest` writes: the hash, a time, the signature.
fn verify(image: &Path, sig: &str, key: &Path) -> Result<()> {
    let lines: Vec<&str> = sig.lines().collect();
    let [hash, time, signature] = lines[..] else {
        anyhow::bail!("boot.sig has {} lines, not three", lines.len());
    };
    let time = time.strip_prefix("ts: ").context("boot.sig has no `ts: `")?;
    ensure!(time.parse::<u64>().is_ok(), "boot.sig: ts: {time}");
    let signature = signature.strip_prefix("rsa2048: ").context("boot.sig has no `rsa2048: `")?;
    ensure!(signature.len() == 512, "the signature has {} digits, not 512", signature.len());
    let bytes: Option<Vec<u8>> = (0..256)
        .map(|at| u8::from_str_radix(signature.get(at * 2..at * 2 + 2)?, 16).ok())
        .collect();
    let binary = image.with_extension("signature");
    fs::write(&binary, bytes.context("the signature is not hexadecimal")?).context("signature")?;
    let openssl = |arguments: &[&str], paths: &[&Path]| {
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256"]).args(arguments).args(paths);
        command.output().context("install the package openssl")
    };
    let digest = openssl(&["-r"], &[image])?;
    let digest = String::from_utf8_lossy(&digest.stdout).into_owned();
    ensure!(digest.split(' ').next() == Some(hash), "the hash of boot.img is not boot.sig's");
    let judged = openssl(&["-verify"], &[key, Path::new("-signature"), &binary, image])?;
    ensure!(judged.status.success(), "boot.sig does not verify with the bootloader's key");
    Ok(())
}
