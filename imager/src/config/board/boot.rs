//! `[boot]`: who chooses the slot, and the firmware that goes along.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::loader::{BoardFirmware, BootMemory};
use super::machine::Firmware;
use crate::boot_method::{self, BootMethod};
use crate::config::values::Line;

/// `[boot]`: the boot chooser.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The way to boot: who chooses the slot before the kernel starts.
    #[serde(rename = "chooser", deserialize_with = "named")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Chooser"))]
    pub method: &'static dyn BootMethod,
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

/// The boot method of this name.
fn named<'de, D: Deserializer<'de>>(d: D) -> Result<&'static dyn BootMethod, D::Error> {
    let name = String::deserialize(d)?;
    <dyn BootMethod>::named(&name)
        .ok_or_else(|| D::Error::unknown_variant(&name, &boot_method::NAMES))
}
