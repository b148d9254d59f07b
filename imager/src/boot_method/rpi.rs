//! A Raspberry Pi whose `autoboot.txt` names the partition to boot: the initrd counts, and writes it
//! anew where another slot's turn comes. docs/choosers/rpi.md explains it.

use std::path::Path;

use anyhow::Result;
use formats::rpi::autoboot::Method;

use super::method::{
    BootKeys, BootMethod, BootSigner, Files, FirmwareParts, PartitionTypes, SlotParts,
};
use super::raspberry_pi;
use super::target::Target;

/// Raspberry Pis whose firmware boots the partition that it is told.
#[derive(Debug)]
pub struct Rpi;

impl BootMethod for Rpi {
    fn name(&self) -> &'static str {
        "rpi"
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
        raspberry_pi::firmware_files(target, parts, Method::Pointer)
    }

    fn slot_files(&self, target: &Target, parts: SlotParts) -> Result<Files> {
        raspberry_pi::slot_files(target, parts)
    }
}
