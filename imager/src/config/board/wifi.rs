//! `[wifi]`: the radio's drivers, and the files that they ask for.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::values::{DevicePath, Line, PackageName};

/// `[wifi]`: what an image with `[network] wifi` has on this board.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Wifi {
    /// Modules that the rootfs loads, without those they depend on.
    pub modules: Vec<Line>,
    /// Modules that go along and are loaded when the kernel asks for them by name. What they depend
    /// on is loaded in any case.
    #[serde(default)]
    pub modules_on_demand: Vec<Line>,
    /// What the radio itself runs, by package.
    #[serde(default)]
    pub firmware: Vec<WifiFirmware>,
}

/// `[[wifi.firmware]]`: files out of a package of Debian's non-free-firmware.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WifiFirmware {
    /// The package.
    pub package: PackageName,
    /// The folder in it. On the device it is `/usr/lib/firmware`.
    pub folder: DevicePath,
    /// Files, relative to the folder; links in the package are followed.
    #[serde(default)]
    pub files: Vec<Line>,
    /// More names that a driver asks for, and which of the package's files each stands for.
    #[serde(default)]
    pub links: BTreeMap<String, Line>,
}

impl WifiFirmware {
    /// Each name on the device with the name in the package, both relative to the folder.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.files.iter().map(|file| (file.as_str(), file.as_str()));
        files.chain(self.links.iter().map(|(name, file)| (name.as_str(), file.as_str())))
    }
}
