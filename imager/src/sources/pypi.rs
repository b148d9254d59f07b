//! Fetching wheels with the machine's own pip, so that its configuration (index, proxy,
//! certificates) is obeyed. pip only downloads; nothing is installed or run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::lock::WheelPin;
use crate::config::board::Architecture;
use crate::config::image::WheelEntry;
use debian::cache::Cache;

/// The oldest and newest glibc whose wheels run on the image (trixie has 2.41).
const GLIBC_MINOR: std::ops::RangeInclusive<u32> = 17..=41;
/// A wheel takes less than this.
const MAX_WHEEL: u64 = 2 << 30;

/// What to ask pip for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelRequest {
    /// The project's name.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// A platform tag, or a processor as wheels name it, for any platform tag that fits it.
    pub platform: String,
    /// The CPython version.
    pub python: String,
}

impl WheelRequest {
    /// What an image file's `[[wheel]]` means on a board of `architecture`.
    pub fn new(entry: &WheelEntry, architecture: Architecture) -> Self {
        let platform = entry.platform.as_ref().map_or(architecture.machine(), |p| p.as_str());
        Self {
            name: entry.name.to_string(),
            version: entry.version.to_string(),
            platform: platform.to_owned(),
            python: entry.python.to_string(),
        }
    }

    /// Whether `pin` is an answer to this request.
    pub fn is_met_by(&self, pin: &WheelPin) -> bool {
        self.name == pin.name
            && self.version == pin.version
            && self.platform == pin.platform
            && self.python == pin.python
    }

    /// Arguments of `pip download` that choose the wheel.
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = [
            "download",
            "--disable-pip-version-check",
            "--no-input",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--implementation=cp",
        ]
        .map(str::to_owned)
        .into();
        arguments.push(format!("--python-version={}", self.python));
        let plain = self.python.replace('.', "");
        arguments.extend([format!("--abi=cp{plain}"), "--abi=abi3".into(), "--abi=none".into()]);
        if ["aarch64", "x86_64"].contains(&self.platform.as_str()) {
            for minor in GLIBC_MINOR.rev() {
                arguments.push(format!("--platform=manylinux_2_{minor}_{}", self.platform));
            }
            arguments.push(format!("--platform=manylinux2014_{}", self.platform));
        } else {
            arguments.push(format!("--platform={}", self.platform));
        }
        arguments.push("--platform=any".into());
        arguments
    }
}

/// Fetches the wheel that answers `request` into the cache and pins it. With a `pin` only the file
/// of its hash is taken.
pub fn fetch(cache: &Cache, request: &WheelRequest, pin: Option<&WheelPin>) -> Result<WheelPin> {
    let folder = tempfile::tempdir().context("no folder for temporary files")?;
    let wanted = format!("{}=={}", request.name, request.version);
    let requirements = folder.path().join("requirements.txt");
    let hash = pin.map(|p| format!(" --hash=sha256:{}", p.sha256)).unwrap_or_default();
    fs::write(&requirements, format!("{wanted}{hash}\n"))
        .context("no folder for temporary files")?;
    let downloads = folder.path().join("wheels");
    let mut arguments = request.arguments();
    if pin.is_some() {
        arguments.push("--require-hashes".to_owned());
    }
    arguments.push("--dest".to_owned());
    run_pip(&arguments, &downloads, &requirements)
        .with_context(|| format!("wheel {wanted} for {}", request.platform))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&downloads).context("pip downloaded nothing")? {
        files.push(entry.context("pip's downloads cannot be listed")?.path());
    }
    let [file] = &files[..] else {
        bail!("wheel {wanted}: pip downloaded {} files instead of one", files.len());
    };
    let file_name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    if !file_name.ends_with(".whl") {
        bail!("wheel {wanted}: pip downloaded {file_name}, which is not a wheel");
    }
    let size = fs::metadata(file).with_context(|| format!("{file_name}: cannot be read"))?.len();
    if size > MAX_WHEEL {
        bail!("wheel {file_name} has {size} bytes, more than {MAX_WHEEL}");
    }
    let mut from = fs::File::open(file).with_context(|| format!("{file_name}: cannot be read"))?;
    let (_, sha256) = cache.add(|to| {
        std::io::copy(&mut from, to)
            .with_context(|| format!("{file_name}: cannot be copied to the cache"))?;
        Ok(())
    })?;
    Ok(WheelPin {
        name: request.name.clone(),
        version: request.version.clone(),
        platform: request.platform.clone(),
        python: request.python.clone(),
        file: file_name,
        size,
        sha256,
    })
}

/// Runs pip: Python's module if there is one, else the command `pip3`.
fn run_pip(arguments: &[String], downloads: &Path, requirements: &Path) -> Result<()> {
    let ways: [&[&str]; 2] = [&["python3", "-m", "pip"], &["pip3"]];
    for way in ways {
        let probe = Command::new(way[0])
            .args(&way[1..])
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !probe.is_ok_and(|status| status.success()) {
            continue;
        }
        let output = Command::new(way[0])
            .args(&way[1..])
            .args(arguments)
            .arg(downloads)
            .arg("--requirement")
            .arg(requirements)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} cannot be run", way.join(" ")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed:\n{}", way.join(" "), said.trim());
    }
    bail!("pip is not installed: install the package python3-pip")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_becomes_all_its_platforms_and_nothing_depends_on_the_host() {
        let mut request = WheelRequest {
            name: "a".into(),
            version: "1".into(),
            platform: "aarch64".into(),
            python: "3.12".into(),
        };
        let arguments = request.arguments();
        for expected in [
            "--platform=manylinux_2_17_aarch64",
            "--platform=any",
            "--abi=cp312",
            "--python-version=3.12",
        ] {
            assert!(arguments.iter().any(|a| a == expected), "{expected}");
        }
        request.platform = "manylinux2014_x86_64".into();
        let platforms: Vec<_> =
            request.arguments().into_iter().filter(|a| a.starts_with("--platform")).collect();
        assert_eq!(platforms, ["--platform=manylinux2014_x86_64", "--platform=any"]);
    }
}
