//! A kernel for board files that ask for one of the user's own.
//!
//! The tests have no such kernel: compiling one takes too long for each run. They take Debian's, and
//! put into it the names of the drivers that it lacks, so that `imager` finds nothing missing. What
//! is built from that has all the shape of the real image, and would not reach its card.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::locked::Locked;
use crate::workspace::{fixtures_folder, package_cache, project};

/// The board whose kernel it is, and whose packages.
const DEBIANS: &str = "qemu-arm64-efi";
/// What Debian's kernel does not drive and a Jetson's card waits for.
const NAMES: [&str; 3] =
    ["nvidia,tegra186-bpmp", "nvidia,tegra194-hsp", "nvidia,tegra186-bpmp-i2c"];
/// Kept are the modules that reach a card. The others take most of the time to unpack and look at.
const LEFT_OUT: [&str; 6] = [
    "*/kernel/sound",
    "*/kernel/net",
    "*/kernel/drivers/[!gmr]*",
    "*/kernel/drivers/gpu",
    "*/kernel/drivers/media",
    "*/dtb/[!n]*",
];

/// A kernel's folder.
#[derive(Debug, Clone)]
pub struct OwnKernel {
    folder: PathBuf,
    release: String,
}

impl OwnKernel {
    /// Debian's kernel with the names of the drivers that it lacks; made once, from packages in the
    /// cache: an image for `qemu-arm64-efi` has been built before.
    pub fn pretended() -> Result<OwnKernel> {
        let at = fixtures_folder()?.join("pretended-kernel");
        let release = release()?;
        let kernel = OwnKernel { folder: at.clone(), release };
        let _one = Locked::wait(&fixtures_folder()?.join("making-kernel"))?;
        let made = at.join(&kernel.release);
        if made.is_file() {
            return Ok(kernel);
        }
        let _ = fs::remove_dir_all(&at);
        fs::create_dir_all(&at).with_context(|| at.display().to_string())?;
        for package in packages()? {
            unpack(&package, &at)?;
        }
        let image = at.join(kernel.modules()).join("vmlinuz");
        let mut image = File::options().append(true).open(&image).context("vmlinuz")?;
        for name in NAMES {
            // An entry of a driver's table: include/linux/mod_devicetable.h, `struct of_device_id`.
            let entry = [&[0; 64], name.as_bytes(), &vec![0; 136 - name.len()]].concat();
            image.write_all(&entry).context("vmlinuz")?;
        }
        File::create(made).context("kernel")?;
        Ok(kernel)
    }

    fn modules(&self) -> String {
        format!("usr/lib/modules/{}", self.release)
    }

    /// A board file with this kernel in place of the user's own.
    pub(crate) fn in_board(&self, text: &str) -> String {
        let line = |line: &str| match line.split_once(" = ") {
            Some(("release", _)) => format!("release = \"{}\"", self.release),
            Some(("image", _)) => format!("image = \"{}/vmlinuz\"", self.modules()),
            Some(("device_tree_folder", _)) => {
                format!("device_tree_folder = \"{}/dtb\"", self.modules())
            }
            // Some of them Debian does not build.
            Some(("rootfs_modules", _)) => "rootfs_modules = []".to_owned(),
            Some(("path", "\"jetson-kernel\"")) => format!("path = {:?}", self.folder),
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The demo's lock with this board, whose packages are those of `qemu-arm64-efi` without a kernel:
/// nothing has to be looked up.
pub(crate) fn lock(text: &str, board: &str) -> Result<String> {
    let mut lock: toml::Table = text.parse().context("demo.lock")?;
    let boards = lock.get_mut("board").and_then(|boards| boards.as_array_mut());
    let boards = boards.context("demo.lock has no boards")?;
    let debians = boards.iter().find(|entry| entry["name"].as_str() == Some(DEBIANS));
    let mut entry = debians.and_then(|entry| entry.as_table()).context("no such board")?.clone();
    entry.insert("name".into(), board.into());
    entry.insert("kernel".into(), toml::Value::Array(Vec::new()));
    entry.remove("firmware");
    let request = entry.get_mut("request").and_then(|request| request.as_table_mut());
    let request = request.context("the board asks for nothing")?;
    request.remove("firmware");
    request.insert("kernel".into(), toml::Value::Array(Vec::new()));
    for key in ["kernel_suite", "kernel_version"] {
        request.insert(key.into(), "".into());
    }
    boards.push(entry.into());
    toml::to_string(&lock).context("demo.lock")
}

/// The release of Debian's kernel.
fn release() -> Result<String> {
    let path = project().join("board-configs").join(DEBIANS).with_extension("toml");
    let board: toml::Table = fs::read_to_string(path)?.parse()?;
    let release = board.get("kernel").and_then(|kernel| kernel.get("release")?.as_str());
    Ok(release.context("the board file names no release")?.to_owned())
}

/// The packages of Debian's kernel in imager's cache, by the hashes in the lock.
fn packages() -> Result<Vec<PathBuf>> {
    let cache = package_cache()?;
    let lock: toml::Table = fs::read_to_string(project().join("demo/demo.lock"))?.parse()?;
    let debs = lock.get("deb").and_then(|debs| debs.as_array()).context("no packages")?;
    let text = |deb: &toml::Value, key: &str| deb[key].as_str().unwrap_or_default().to_owned();
    let found = debs.iter().filter(|deb| {
        text(deb, "name").starts_with("linux-") && text(deb, "architecture") == "arm64"
    });
    found
        .map(|deb| {
            let path = cache.join(text(deb, "sha256"));
            ensure!(
                path.is_file(),
                "{} is not in imager's cache; remove target/qemu-fixtures and start again",
                text(deb, "name")
            );
            Ok(path)
        })
        .collect()
}

fn unpack(package: &Path, to: &Path) -> Result<()> {
    let mut deb = Command::new("dpkg-deb");
    let mut deb = deb.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let archive = deb.stdout.take().context("dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.arg("-x").args(LEFT_OUT.map(|pattern| format!("--exclude={pattern}"))).arg("-C").arg(to);
    let unpacked = tar.stdin(archive).status().context("tar")?;
    ensure!(unpacked.success() && deb.wait()?.success(), "{} does not unpack", package.display());
    Ok(())
}
