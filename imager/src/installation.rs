//! Where imager finds the programs that come with it.
//!
//! A release has `bin/imager` and beside it `lib/ferrite`, with `device/arm64` and `device/amd64`
//! (what goes on a device) and `host` (the runner for this machine, and its engine). In a checkout,
//! what `./do device` and `./do host` built lies in cargo's target folder: `target/release/imager`
//! has it in `target/device`, `target/device-amd64` and `target/host`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::config::board::Architecture;

/// The folder of a release that everything but `bin` lies in, seen from `bin`.
const RELEASE: &str = "../lib/ferrite";

/// The folder with the device's programs, if they came along.
pub fn device(architecture: Architecture) -> Result<Option<PathBuf>> {
    let bin = own_folder()?;
    Ok(first_of(&bin, &[released_device(architecture), built_device(architecture)]))
}

/// Where a release has the device's programs, seen from imager's own folder.
pub fn released_device(architecture: Architecture) -> String {
    format!("{RELEASE}/device/{}", architecture.as_str())
}

/// Where a checkout has them.
pub fn built_device(architecture: Architecture) -> String {
    match architecture {
        Architecture::Arm64 => "../device",
        Architecture::Amd64 => "../device-amd64",
    }
    .to_owned()
}

/// The folder with the runner for this machine and its engine, if they came along.
pub fn host() -> Result<Option<PathBuf>> {
    Ok(first_of(&own_folder()?, &[format!("{RELEASE}/host"), "../host".to_owned()]))
}

/// The folder that imager itself lies in; links to it do not count.
fn own_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find where imager lies")?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
}

fn first_of(bin: &Path, places: &[String]) -> Option<PathBuf> {
    places.iter().map(|place| bin.join(place)).find(|folder| folder.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_releases_programs_go_before_those_of_a_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let places = [released_device(Architecture::Amd64), built_device(Architecture::Amd64)];
        assert_eq!(first_of(&bin, &places), None);
        std::fs::create_dir_all(folder.path().join("device-amd64")).unwrap();
        assert_eq!(first_of(&bin, &places), Some(bin.join("../device-amd64")));
        std::fs::create_dir_all(folder.path().join("lib/ferrite/device/amd64")).unwrap();
        assert_eq!(first_of(&bin, &places), Some(bin.join("../lib/ferrite/device/amd64")));
        assert_eq!(released_device(Architecture::Arm64), "../lib/ferrite/device/arm64");
    }
}
