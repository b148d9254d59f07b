//! The project's own programs for the device.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::assembly::elf;
use crate::assembly::root::DeviceBinaries;
use crate::config::Board;
use crate::config::board::Architecture;
use crate::installation;
use crate::sources::sbom;
use debian::hash::Sha256;

/// Where the device's programs lie: the folder that was given, else $FERRITE_DEVICE, else where
/// imager was installed with them.
pub fn folder(given: Option<&Path>, architecture: Architecture) -> Result<PathBuf> {
    if let Some(folder) = given {
        return Ok(folder.to_owned());
    }
    if let Some(folder) = std::env::var_os("FERRITE_DEVICE") {
        return Ok(folder.into());
    }
    installation::device(architecture)?.with_context(|| {
        format!(
            "the device's programs for {} lie neither in {} nor in {} beside imager; build them with `{}`, or name their folder with --device",
            architecture.as_str(),
            installation::released_device(architecture),
            installation::built_device(architecture),
            to_build(architecture)
        )
    })
}

/// The command that builds the device's programs.
fn to_build(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Arm64 => "./do device",
        Architecture::Amd64 => "./do device-amd64",
    }
}

/// Reads them: those of Linux, and what the board's boot method has before it.
///
/// Fails on a program for another processor.
pub fn read(folder: &Path, board: &Board) -> Result<DeviceBinaries> {
    let architecture = board.debian.architecture;
    let read = |name: &str, magic: &[u8], kind: &str| {
        let path = folder.join(name);
        let bytes = fs::read(&path).with_context(|| {
            format!(
                "{}: cannot be read; build the device's programs with `{}`",
                path.display(),
                to_build(architecture)
            )
        })?;
        if !bytes.starts_with(magic) {
            bail!("{}: is not a {kind} program", path.display());
        }
        Ok(bytes)
    };
    let linux = |name: &str| {
        let bytes = read(name, b"\x7FELF", "Linux")?;
        if elf::machine(&bytes) != Some(architecture.elf_machine()) {
            bail!(
                "{}: is for another processor than the board's ({}); build it with `{}`",
                folder.join(name).display(),
                architecture.as_str(),
                to_build(architecture)
            );
        }
        Ok(bytes)
    };
    let before_linux = board.boot.method.device_programs(architecture);
    Ok(DeviceBinaries {
        init: linux("init")?,
        ota: linux("ota")?,
        runner: linux("runner")?,
        boot: before_linux
            .into_iter()
            .map(|program| Ok((program, read(program.file, program.magic, program.kind)?)))
            .collect::<Result<_>>()?,
    })
}

/// As the bill of materials names them.
pub fn components(binaries: &DeviceBinaries) -> Vec<sbom::Program> {
    let program = |name: &str, bytes: &[u8]| sbom::Program {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sha256: Sha256::of(bytes),
    };
    let mut all = vec![
        program("init", &binaries.init),
        program("ota", &binaries.ota),
        program("runner", &binaries.runner),
    ];
    all.extend(binaries.boot.iter().map(|(about, bytes)| program(about.component, bytes)));
    all
}
