//! `[boot]`: who chooses the slot, and the firmware that goes along.

use serde::Deserialize;

use super::machine::Firmware;
use crate::config::values::{DevicePath, Line, PackageName};

/// `[boot]`: the boot chooser.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Who chooses the slot.
    pub chooser: Chooser,
    /// Lines of `config.txt` beside those that `imager` writes; rpi choosers only.
    #[serde(default)]
    pub config: Vec<Line>,
    /// Where the uboot chooser may put things; needed there.
    pub memory: Option<BootMemory>,
    /// The firmware files that the image carries; rpi choosers only. A board that has them all in
    /// a flash memory of its own needs none.
    pub firmware: Option<BoardFirmware>,
    /// Whether the board's own loader can be made to start signed slots only; rpi choosers only.
    #[serde(default)]
    pub secure_boot: bool,
    /// systemd's stub, out of a Debian package: the head of a unified kernel image; efi chooser
    /// only.
    pub stub: Option<Firmware>,
}

/// `[boot.memory]`: addresses that are free while U-Boot runs. They are written into its scripts,
/// because not every U-Boot can reckon them.
#[derive(Debug, Clone, Copy, Deserialize)]
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

/// Who chooses the slot before the kernel starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chooser {
    /// A U-Boot script and a redundant environment.
    Uboot,
    /// A UEFI program of our own and unified kernel images.
    Efi,
    /// A Raspberry Pi's firmware reads `autoboot.txt`, the initrd writes it.
    Rpi,
    /// The same, and a kernel that can ask the firmware to boot a slot once.
    RpiTryboot,
}

impl Chooser {
    /// As board files and the device's configuration write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Chooser::Uboot => "uboot",
            Chooser::Efi => "efi",
            Chooser::Rpi => "rpi",
            Chooser::RpiTryboot => "rpi-tryboot",
        }
    }
}
