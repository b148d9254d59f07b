//! What `imager inspect` says of a slot's unified kernel image.

use anyhow::{Context, Result};
use formats::efi;
use serde::Serialize;
use uefi_image::Pe;

use imagefs::fat_reader::FatVolume;

/// A unified kernel image on a boot partition.
#[derive(Debug, Serialize)]
pub struct UnifiedReport {
    /// What `uname -r` will say.
    release: String,
    /// Ways to boot that it has arguments for.
    profiles: usize,
    /// It carries a signature for Secure Boot. Whose is for the firmware to say.
    signed: bool,
}

impl UnifiedReport {
    /// `None` where the boot partition has no such image.
    pub fn of(boot: &[u8]) -> Result<Option<UnifiedReport>> {
        let Some(image) = FatVolume::open(boot)?.read(efi::UKI)? else { return Ok(None) };
        let pe = Pe::read(image).context(efi::UKI)?;
        let named = |name: &'static str| pe.sections().iter().filter(move |s| s.name == name);
        let release = named(".uname").next().context("linux.efi has no section .uname")?;
        Ok(Some(UnifiedReport {
            release: String::from_utf8_lossy(pe.content(release)).into_owned(),
            profiles: named(".profile").count(),
            signed: pe.is_signed()?,
        }))
    }

    /// For people.
    pub fn in_words(&self) -> String {
        let signed = if self.signed { "signed" } else { "not signed" };
        format!(
            "unified kernel image: {}, {} profiles, {signed} for Secure Boot",
            self.release, self.profiles
        )
    }
}
