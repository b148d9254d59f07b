//! What an image on a board asks for: what its files name, and what every image needs.

use std::path::Path;

use super::pypi::WheelRequest;
use crate::config::board::KernelSource;
use crate::config::image::{FileEntry, Origin};
use crate::config::{Board, Image};
use debian::lock::Request;

/// Packages of every image: the C and C++ libraries that workloads link with, and the tools `init`
/// checks and makes the data file system with.
const EVERY_IMAGE: [&str; 4] = ["e2fsprogs", "libc6", "libgcc-s1", "libstdc++6"];
/// What a debug image has on top: the shell on its console.
const DEBUG: &str = "busybox-static";
/// What a debug image with an SSH server has on top.
const SSH: &str = "dropbear-bin";

/// What an image that joins wireless networks has on top: who joins them, and every country's
/// rules, signed for the kernel.
const WIFI: [&str; 2] = ["wpasupplicant", "wireless-regdb"];

/// The wheel that carries TensorFlow Lite's C library, with XNNPACK, for images with models.
pub const ENGINE_WHEEL: &str = "pymicro-wakeword";
/// Its version. The runner is built against the interface of this one.
const ENGINE_VERSION: &str = "2.5.0";
const ENGINE_PYTHON: &str = "3.12";

/// The packages asked for.
pub fn packages(image: &Image, board: &Board) -> Request {
    let mut packages: Vec<String> = EVERY_IMAGE.map(str::to_owned).into();
    packages.extend(image.debug.then(|| DEBUG.to_owned()));
    packages.extend(image.network.ssh.then(|| SSH.to_owned()));
    let wifi = image.network.wifi.is_some();
    packages.extend(WIFI.iter().filter(|_| wifi).map(|name| (*name).to_owned()));
    packages.extend(image.debian.packages.iter().map(|p| p.to_string()));
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names.dedup();
        names
    };
    let (kernel_suite, kernel_version, kernel) = match board.kernel.source() {
        KernelSource::Debian { suite, version, packages } => {
            let names = packages.iter().map(|p| p.to_string()).collect();
            (suite.to_string(), version.to_string(), names)
        }
        KernelSource::Own { .. } => Default::default(),
    };
    Request {
        suites: board.debian.suites.iter().map(|s| s.to_string()).collect(),
        packages: sorted(packages),
        without: sorted(image.debian.without.iter().map(|p| p.to_string()).collect()),
        kernel_suite,
        kernel_version,
        kernel: sorted(kernel),
        firmware: board
            .qemu
            .as_ref()
            .and_then(|q| q.firmware.as_ref())
            .map(|f| f.package.to_string()),
        board_firmware: board.boot.firmware.as_ref().map(|f| f.package.to_string()),
        wifi_firmware: match &board.wifi {
            Some(radio) if wifi => {
                sorted(radio.firmware.iter().map(|f| f.package.to_string()).collect())
            }
            _ => Vec::new(),
        },
        stub: board.boot.stub.as_ref().map(|f| f.package.to_string()),
    }
}

/// The wheels asked for.
pub fn wheels(image: &Image, board: &Board) -> Vec<WheelRequest> {
    let architecture = board.debian.architecture;
    let mut wheels: Vec<WheelRequest> =
        image.wheels.iter().map(|w| WheelRequest::new(w, architecture)).collect();
    if !image.models.is_empty() && !wheels.iter().any(|w| w.name == ENGINE_WHEEL) {
        wheels.push(WheelRequest {
            name: ENGINE_WHEEL.to_owned(),
            version: ENGINE_VERSION.to_owned(),
            platform: architecture.machine().to_owned(),
            python: ENGINE_PYTHON.to_owned(),
        });
    }
    wheels
}

/// A local file or folder that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct LocalSource<'a> {
    /// Its path, relative to the image file's folder.
    pub path: &'a Path,
    /// The `[[file]]` that names it, if one does.
    pub entry: Option<&'a FileEntry>,
}

impl LocalSource<'_> {
    /// Whether a path inside the folder is left out.
    pub fn excludes(&self, inside: &Path) -> bool {
        let inside = inside.to_str();
        self.entry.zip(inside).is_some_and(|(entry, inside)| entry.excludes(inside))
    }
}

/// The local files and folders asked for.
pub fn local(image: &Image) -> Vec<LocalSource<'_>> {
    let entries = image.files.iter();
    let entries = entries.map(|entry| LocalSource { path: &entry.source, entry: Some(entry) });
    let single = single_files(image).into_iter().map(|path| LocalSource { path, entry: None });
    entries.chain(single).collect()
}

/// The local files that are asked for one by one.
fn single_files(image: &Image) -> Vec<&Path> {
    let mut sources: Vec<&Path> = Vec::new();
    sources.extend(image.workloads.iter().filter_map(|w| w.binary.as_deref()));
    for model in &image.models {
        sources.push(&model.config);
        for origin in std::iter::once(model.model()).chain(model.files()) {
            if let Origin::Local(path) = origin {
                sources.push(path);
            }
        }
    }
    sources.sort();
    sources.dedup();
    sources
}
