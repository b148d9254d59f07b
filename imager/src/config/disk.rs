//! `[disk]` of an image file: sizes of partitions instead of the board's.

use std::ops::RangeInclusive;

use serde::Deserialize;
use toml::Spanned;

use super::diagnostics::{Document, Finding};
use super::values::Size;

const MIB: u64 = 1 << 20;
/// Boot image and data file system are made in memory, and `data` grows on the device.
const BOOT: RangeInclusive<u64> = 8 * MIB..=1024 * MIB;
const DATA: RangeInclusive<u64> = 8 * MIB..=1024 * MIB;
/// Larger than any root that an update could bring.
const ROOT: RangeInclusive<u64> = 16 * MIB..=64 * 1024 * MIB;

/// Sizes of partitions; what is absent is as the board file has it.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Size of each of the two boot partitions.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Size>"))]
    boot: Option<Spanned<Size>>,
    /// Size of each of the two root partitions.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Size>"))]
    root: Option<Spanned<Size>>,
    /// Size of the data partition before it grows.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Size>"))]
    data: Option<Spanned<Size>>,
}

impl Disk {
    /// Bytes of `boot-a` and of `boot-b`, where the image says.
    pub fn boot(&self) -> Option<u64> {
        self.boot.as_ref().map(|size| size.get_ref().0)
    }

    /// Bytes of `root-a` and of `root-b`, where the image says.
    pub fn root(&self) -> Option<u64> {
        self.root.as_ref().map(|size| size.get_ref().0)
    }

    /// Bytes of `data` before it grows, where the image says.
    pub fn data(&self) -> Option<u64> {
        self.data.as_ref().map(|size| size.get_ref().0)
    }

    /// Fails on a size that no partition can have.
    pub fn check(&self, document: &Document) -> Result<(), Finding> {
        for (name, size, range) in
            [("boot", &self.boot, BOOT), ("root", &self.root, ROOT), ("data", &self.data, DATA)]
        {
            let Some(size) = size else { continue };
            let bytes = size.get_ref().0;
            if !range.contains(&bytes) || !bytes.is_multiple_of(MIB) {
                let why = format!(
                    "`{name}` is a multiple of 1M, from {}M to {}M",
                    range.start() / MIB,
                    range.end() / MIB
                );
                return Err(document.at(size.span(), why));
            }
        }
        Ok(())
    }
}
