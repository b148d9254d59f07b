//! `[boot.memory]` and `[boot.firmware]`: what particular loaders need.

use serde::Deserialize;

use crate::config::values::{DevicePath, Line, PackageName};

/// `[boot.memory]`: addresses that are free while U-Boot runs. They are written into its scripts,
/// because not every U-Boot can reckon them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BootMemory {
    /// 256 KiB for the scripts and what they keep, behind the script that U-Boot loaded itself.
    pub scratch: u64,
    /// Where the kernel is loaded, a multiple of 2 MiB; the initramfs and the device tree lie
    /// behind it.
    pub kernel: u64,
}

/// `[boot.firmware]`: files out of a package of Debian's non-free-firmware.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BoardFirmware {
    /// The package.
    pub package: PackageName,
    /// The folder in it.
    pub folder: DevicePath,
    /// Files for `firmware`, which no update ever writes: what the boot ROM loads.
    #[serde(default)]
    pub loader_files: Vec<Line>,
    /// Files for `boot-a` and `boot-b`.
    pub slot_files: Vec<Line>,
}
