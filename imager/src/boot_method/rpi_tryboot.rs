//! A Raspberry Pi whose kernel can ask the firmware to boot a slot once (`tryboot`), as `autoboot.txt`
//! says; the rest is as with `rpi`. docs/choosers/rpi.md explains it.

use std::path::Path;

use anyhow::Result;
use formats::rpi::autoboot::Method;

use super::method::{
    BootKeys, BootMethod, BootSigner, Files, FirmwareParts, PartitionTypes, SlotParts,
};
use super::raspberry_pi;
use super::target::Target;

/// Raspberry Pis whose firmware boots another partition once when it is asked.
#[derive(Debug)]
pub struct RpiTryboot;

impl BootMethod for RpiTryboot {
    fn name(&self) -> &'static str {
        "rpi-tryboot"
    }

    fn keys(&self) -> BootKeys {
        raspberry_pi::KEYS
    }

    fn partition_types(&self) -> PartitionTypes {
        raspberry_pi::PARTITION_TYPES
    }

    fn secure_boot(&self, keys: &Path, asked_for: bool) -> Result<Option<Box<dyn BootSigner>>> {
        raspberry_pi::signer(keys, asked_for)
    }

    fn firmware_files(&self, target: &Target, parts: &FirmwareParts) -> Result<Files> {
        raspberry_pi::firmware_files(target, parts, Method::Tryboot)
    }

    fn slot_files(&self, target: &Target, parts: SlotParts) -> Result<Files> {
        raspberry_pi::slot_files(target, parts)
    }
}
