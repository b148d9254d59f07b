//! `boot.img` and `boot.sig`: a slot's boot files as one RAM disk that a Raspberry Pi's bootloader
//! verifies before it reads anything else. docs/choosers/rpi-secure-boot.md is for users.
//!
//! Sources: raspberrypi/usbboot, docs/secure-boot.md ("boot.img files", "Signing the boot image");
//! raspberrypi/rpi-eeprom, `rpi-eeprom-digest` (`writeSig`) for the text of `boot.sig`; the
//! documentation's "boot_ramdisk" for the format and the size.

use anyhow::{Context, Result, anyhow, bail, ensure};
use formats::hex;
use publisher::boot_key::{BootKey, BootPublicKey, SIGNATURE};
use sha2::{Digest, Sha256};

use super::super::Files;
use imagefs::fat;
use imagefs::fat_reader::FatVolume;
use imagefs::tree::Tree;

/// The RAM disk's file.
pub const IMAGE: &str = "boot.img";
/// Its signature's.
pub const SIGNATURE_FILE: &str = "boot.sig";
/// Without a key in its fuses or flash memory the bootloader reads this, and loads the RAM disk
/// for it; with one it loads the RAM disk and looks at nothing else. A Pi 5 takes a partition with
/// this file for bootable.
const CONFIG: (&str, &[u8]) = ("config.txt", b"[all]\nboot_ramdisk=1\n");

/// The most bytes of a RAM disk: 96 MB since October 2021, 128 MB since March 2022 (rpi-eeprom,
/// firmware-2711/release-notes.md), more by now.
const MAX_IMAGE: u64 = 96_000_000;
/// The smallest that is surely FAT16.
const MIN_IMAGE: u64 = 4 << 20;
/// FAT16's tables and root directory at their largest, and some clusters that stay free: files that
/// reached a volume's last one were not read until January 2024 (rpi-eeprom issue 521).
const OVERHEAD: u64 = 1 << 20;
/// The largest cluster of such a volume.
const CLUSTER: u64 = 2048;

/// `ts:` when nobody says another time. Nothing in an image knows what time it is: this is
/// 2025-01-01, since no bootloader has been seen with a zero there.
const TIME: u64 = 1_735_689_600;

/// Seconds since 1970 for `ts:`: $SOURCE_DATE_EPOCH, as for `rpi-eeprom-digest`, else always the
/// same.
pub fn time() -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| {
            format!("SOURCE_DATE_EPOCH is {text:?}, not a number of seconds since 1970; unset it")
        }),
        _ => Ok(TIME),
    }
}

/// A boot partition's files with these as a signed RAM disk.
///
/// `volume_id` becomes the serial number of its FAT. Fails when the RAM disk is larger than the
/// bootloader takes.
pub fn signed(files: Files, volume_id: u32, time: u64, key: &BootKey) -> Result<Files> {
    let image = image(files, volume_id)?;
    let signature = signature_text(&image, time, key)?;
    let (config, text) = CONFIG;
    Ok(vec![
        (IMAGE.to_owned(), image),
        (SIGNATURE_FILE.to_owned(), signature.into_bytes()),
        (config.to_owned(), text.to_vec()),
    ])
}

fn image(files: Files, volume_id: u32) -> Result<Vec<u8>> {
    let room: u64 = files.iter().map(|(_, b)| (b.len() as u64).next_multiple_of(CLUSTER)).sum();
    let size = (room + OVERHEAD).next_multiple_of(1 << 20).max(MIN_IMAGE);
    ensure!(
        size <= MAX_IMAGE,
        "{IMAGE} would have {size} bytes; the Raspberry Pi's bootloader takes {MAX_IMAGE}. Leave \
         something out of the kernel, the initramfs or the device trees"
    );
    let mut tree = Tree::new(0);
    for (name, bytes) in files {
        tree.file(&name, 0o644, bytes)?;
    }
    let options = fat::Options {
        size,
        reserved_sectors: 32,
        file_alignment: 512,
        volume_id,
        label: *b"FERRITERAM ",
    };
    let mut image = Vec::new();
    fat::write(&tree, &options, &mut image).context(IMAGE)?;
    Ok(image)
}

/// The text that `rpi-eeprom-digest -k KEY -i boot.img -o boot.sig` writes.
fn signature_text(image: &[u8], time: u64, key: &BootKey) -> Result<String> {
    let hash: [u8; 32] = Sha256::digest(image).into();
    let signature = key.sign(&hash)?;
    Ok(format!("{}\nts: {time}\nrsa2048: {}\n", hex::encode(&hash), hex::encode(&signature)))
}

/// What `boot.sig` says.
#[derive(Debug, PartialEq, Eq)]
struct Signature {
    sha256: [u8; 32],
    signature: [u8; SIGNATURE],
}

impl Signature {
    fn read(text: &[u8]) -> Result<Signature> {
        ensure!(text.len() <= 4096, "it has {} bytes", text.len());
        let text = std::str::from_utf8(text).context("it is no text")?;
        let mut lines = text.lines();
        let sha256 = hex::decode(lines.next().unwrap_or_default());
        let mut signatures = lines.filter_map(|line| line.strip_prefix("rsa2048: "));
        match (sha256, signatures.next().map(hex::decode), signatures.next()) {
            (Ok(sha256), Some(Ok(signature)), None) => Ok(Signature { sha256, signature }),
            _ => bail!("it is not a SHA-256 and one signature of {SIGNATURE} bytes"),
        }
    }
}

/// Checks `boot.sig` against `boot.img`, and both against `key` if there is one, and gives the
/// names of the files in the RAM disk.
pub fn check(image: &[u8], sig: &[u8], key: Option<&BootPublicKey>) -> Result<Vec<String>> {
    let signature = Signature::read(sig).context(SIGNATURE_FILE)?;
    let hash: [u8; 32] = Sha256::digest(image).into();
    ensure!(signature.sha256 == hash, "{SIGNATURE_FILE} is of another {IMAGE}");
    if let Some(key) = key {
        ensure!(
            key.verifies(&hash, &signature.signature),
            "{SIGNATURE_FILE} is not by the key of the keys' folder"
        );
    }
    let entries = FatVolume::open(image).and_then(|volume| volume.entries());
    let entries = entries.map_err(|e| anyhow!("{IMAGE}: {e:#}"))?;
    Ok(entries.into_iter().map(|entry| entry.path).collect())
}

#[cfg(test)]
mod tests;
