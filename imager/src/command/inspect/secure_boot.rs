//! Boot files that are one signed RAM disk for a Raspberry Pi's bootloader.

use std::path::Path;

use anyhow::{Context, Result};
use publisher::boot_key::{self, BootPublicKey};
use serde::Serialize;

use crate::chooser::rpi::ramdisk;
use imagefs::fat_reader::FatVolume;

/// What `boot.img` and `boot.sig` are.
#[derive(Debug, Serialize)]
pub struct SecureBootReport {
    /// Bytes of `boot.img`.
    image_bytes: usize,
    /// The files in it.
    files: Vec<String>,
    /// The public key's file that the signature was checked with; nothing if there is none.
    checked_with: Option<String>,
}

impl SecureBootReport {
    /// Looks at a boot partition; `None` when it has no `boot.img`.
    ///
    /// Fails when the signature is missing, is of another RAM disk, or is not by the key in the
    /// folder of keys, if that has one.
    pub fn of(boot: &[u8], keys: &Path) -> Result<Option<SecureBootReport>> {
        let volume = FatVolume::open(boot)?;
        let Some(image) = volume.read(ramdisk::IMAGE)? else { return Ok(None) };
        let sig = volume.read(ramdisk::SIGNATURE_FILE)?;
        let sig = sig.with_context(|| {
            format!("{} has no {} beside it", ramdisk::IMAGE, ramdisk::SIGNATURE_FILE)
        })?;
        let key = BootPublicKey::load(keys)?;
        let files = ramdisk::check(&image, &sig, key.as_ref())?;
        let checked_with = key.map(|_| boot_key::public_path(keys).display().to_string());
        Ok(Some(SecureBootReport { image_bytes: image.len(), files, checked_with }))
    }

    /// For people.
    pub fn lines(&self) -> [String; 2] {
        let signed = match &self.checked_with {
            Some(key) => format!("verifies with {key}"),
            None => "NOT CHECKED: the folder of keys has no public key for it".to_owned(),
        };
        let image = ramdisk::IMAGE;
        [
            format!(
                "signed for a Raspberry Pi's bootloader: {image}, {} bytes, {signed}",
                self.image_bytes
            ),
            format!("  in it: {}", self.files.join(", ")),
        ]
    }
}
