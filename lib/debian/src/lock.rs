//! The pins of Debian packages: what a board asked for and what it came to, by version and SHA-256.
//! The program that has them keeps them in a file of its own.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::hash::Sha256;
use super::names::{check_package_name, check_package_version, check_suite};
use super::packages::{Package, check_archive_path};

/// What a board asked for, so that a change of it is noticed, and what it came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardPins {
    /// The board's name.
    pub name: String,
    /// Its Debian architecture.
    pub architecture: String,
    /// What was asked for.
    pub request: Request,
    /// The packages of the root, as `name version`.
    pub root: Vec<String>,
    /// The kernel's packages, as `name version`.
    pub kernel: Vec<String>,
    /// The package with QEMU's firmware, as `name version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// The package with the firmware that the image carries, as `name version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board_firmware: Option<String>,
    /// The packages with the radio's firmware, as `name version`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wifi_firmware: Vec<String>,
    /// The package with the head of unified kernel images, as `name version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stub: Option<String>,
}

impl BoardPins {
    /// All its packages, as `name version`.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        let firmware = self.firmware.iter().chain(&self.board_firmware);
        let firmware = firmware.chain(&self.wifi_firmware).chain(&self.stub);
        self.root.iter().chain(&self.kernel).chain(firmware)
    }
}

/// What the image and board files ask of the Debian archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The suites of the root's packages.
    pub suites: Vec<String>,
    /// Packages wanted with all they depend on, sorted.
    pub packages: Vec<String>,
    /// Packages left out, sorted.
    pub without: Vec<String>,
    /// The suite of the kernel's packages; empty where the kernel is the user's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel_suite: String,
    /// Their version; empty where the kernel is the user's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel_version: String,
    /// The kernel's packages, sorted.
    pub kernel: Vec<String>,
    /// The package with QEMU's firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// The package with the firmware that the image carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board_firmware: Option<String>,
    /// The packages with the radio's firmware, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wifi_firmware: Vec<String>,
    /// The package with the head of unified kernel images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stub: Option<String>,
}

/// One Debian package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebPin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The architecture it was resolved for.
    pub architecture: String,
    /// The suite that listed it.
    pub suite: String,
    /// Where it lies under the archive's root.
    pub path: String,
    /// Its bytes' number.
    pub size: u64,
    /// Its bytes' hash.
    pub sha256: Sha256,
}

impl DebPin {
    /// The name a board's lists have for it.
    pub fn id(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Refuses a pin that leads outside the archive.
    pub fn check(&self) -> Result<()> {
        check_package_name(&self.name).map_err(anyhow::Error::msg)?;
        check_package_version(&self.version).map_err(anyhow::Error::msg)?;
        check_suite(&self.suite).map_err(anyhow::Error::msg)?;
        check_archive_path(&self.path)
    }

    /// The pin of `package`, resolved for `architecture`.
    pub fn new(package: &Package, architecture: &str) -> DebPin {
        DebPin {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: architecture.to_owned(),
            suite: package.suite.clone(),
            path: package.path.clone(),
            size: package.size,
            sha256: package.sha256,
        }
    }

    /// Whether it is `package` that is pinned, byte for byte.
    pub fn pins(&self, package: &Package) -> bool {
        self.name == package.name
            && self.version == package.version
            && self.sha256 == package.sha256
    }
}
