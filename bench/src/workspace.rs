//! The folder `out/bench`, the programs, and the images: the demo's, changed for what is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::Disk;
use qemu_tests::workspace::{Build, SourceFiles, Sources, publish_arguments};
use toml::{Table, Value};

pub use qemu_tests::workspace::{Built, output, package_cache, read, write_if_new};

/// The board everything is measured on.
pub const BOARD: &str = "qemu-arm64";
/// The port that the update image looks for versions on.
pub const UPDATE_PORT: u16 = 8137;

/// Where things are.
pub struct Workspace {
    project: PathBuf,
    folder: PathBuf,
    imager: PathBuf,
}

/// An image file that differs from the demo's.
#[derive(Debug, Clone, Copy)]
pub struct Variant<'a> {
    /// Names its folder and its lock in `bench/images/`.
    pub name: &'static str,
    /// The version's place in the order.
    pub sequence: i64,
    /// Debian packages beside the demo's.
    pub packages: &'static [&'static str],
    /// Workloads instead of the demo's, as TOML.
    pub workloads: Option<&'a str>,
    /// Whether an `ota` that only installs is in it, for [`UPDATE_PORT`].
    pub updates: bool,
}

impl Variant<'static> {
    /// The demo as it is.
    pub const DEMO: Variant<'static> =
        Variant { name: "demo", sequence: 1, packages: &[], workloads: None, updates: false };
}

impl Workspace {
    /// Finds the programs and makes the folder and its keys.
    ///
    /// `imager` is the one that the harness starts its machines with.
    pub fn open() -> Result<Workspace> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let project = project.canonicalize().context("the project's folder")?;
        let imager = qemu_tests::imager()?;
        let folder = project.join("out/bench");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let workspace = Workspace { project, folder, imager };
        for program in ["init", "ota", "runner"] {
            let path = workspace.device().join(program);
            ensure!(path.is_file(), "{} is not there; run `just device`", path.display());
        }
        if !workspace.keys().is_dir() {
            workspace.imager(&["keygen".as_ref(), "--out".as_ref(), workspace.keys().as_ref()])?;
        }
        Ok(workspace)
    }

    /// Lines above the table: what was measured with.
    pub fn about(&self, runs: usize) -> String {
        let imager = self.imager.strip_prefix(&self.project).unwrap_or(&self.imager);
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        format!(
            "Medians of {runs} run(s); {processors} processors; imager is {}; the board is {BOARD} \
             in QEMU, emulated without KVM. MB are 10^6 bytes. The load is the host's average of \
             the last minute, measuring itself included.\n",
            imager.display()
        )
    }

    /// A file of the project.
    pub fn source(&self, name: &str) -> PathBuf {
        self.project.join(name)
    }

    /// A path in `out/bench`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An empty folder in `out/bench`.
    pub fn fresh_folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Writes a file in `out/bench`.
    pub fn leave(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// The keys images are signed with.
    pub fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// The folder of the device's programs.
    pub fn device(&self) -> PathBuf {
        self.project.join("target/device")
    }

    /// The host tool that everything is built with.
    pub fn imager_program(&self) -> &Path {
        &self.imager
    }

    /// Runs `imager` in the project's folder and gives what it printed.
    pub fn imager(&self, arguments: &[&std::ffi::OsStr]) -> Result<String> {
        output(Command::new(&self.imager).args(arguments))
    }

    /// The sources of a variant.
    pub fn sources(&self, variant: &Variant<'_>) -> Result<Sources> {
        let demo = Sources::demo(BOARD)?;
        let own = self.project.join("bench/images").join(format!("{}.lock", variant.name));
        let board = match variant.packages {
            [] => demo.board,
            // Debian's packages beside the demo's need more room.
            _ => demo.board.replace("root = \"96M\"", "root = \"256M\""),
        };
        Ok(Sources {
            image: image_file(&demo.image, variant)?,
            lock: if own.is_file() { read(&own)? } else { demo.lock },
            board,
            ..demo
        })
    }

    /// Writes a variant's image file, its board file and what they name.
    pub fn write_sources(&self, variant: &Variant<'_>) -> Result<SourceFiles> {
        let folder = format!("{}-{}", variant.name, variant.sequence);
        self.sources(variant)?.write(&self.folder.join("images").join(folder))
    }

    /// Builds an image file that [`Sources::write`] has written into `out`.
    pub fn build_into(&self, files: &SourceFiles, out: &Path) -> Result<()> {
        let (keys, device) = (self.keys(), self.device());
        let build = Build {
            image: &files.image,
            board: &files.board,
            keys: &keys,
            device: Some(&device),
            out,
            wrong_golden: false,
        };
        output(Command::new(&self.imager).args(build.arguments())).map(drop)
    }

    /// Builds a variant, unless it is there.
    pub fn build(&self, variant: &Variant<'_>) -> Result<Built> {
        let sources = self.sources(variant)?;
        let files = self.write_sources(variant)?;
        let out = files.image.parent().context("an image file without a folder")?.to_owned();
        self.build_into(&files, &out)?;
        Ok(Built::of(&sources, &files, &format!("{}.0.0", variant.sequence), &out))
    }

    /// Publishes updates as the repository `repo`, made anew.
    pub fn publish(&self, repo: &Path, update: &Path) -> Result<()> {
        let publish = publish_arguments(repo, &self.keys(), update);
        output(Command::new(&self.imager).args(publish)).map(drop)
    }

    /// Unpacks the root of slot a of a disk image into an empty folder.
    pub fn unpack_root(&self, img: &Path, name: &str) -> Result<PathBuf> {
        let folder = self.fresh_folder(name)?;
        let root = self.path(&format!("{name}.erofs"));
        let disk = Disk::copy_of(img)?;
        let range = disk.partition("root-a")?;
        let length = usize::try_from(range.end - range.start).context("root-a is too large")?;
        let bytes = disk.read("root-a", 0, length)?;
        fs::write(&root, bytes).with_context(|| root.display().to_string())?;
        let unpacked = format!("--extract={}", folder.display());
        let done = output(Command::new("fsck.erofs").arg(unpacked).arg("--overwrite").arg(&root));
        fs::remove_file(&root).with_context(|| root.display().to_string())?;
        done.context("fsck.erofs (package erofs-utils)").map(|_| folder)
    }

    /// Takes a file out of the FAT of `boot-a` of a disk image.
    pub fn boot_file(&self, img: &Path, name: &str, to: &Path) -> Result<()> {
        let disk = Disk::copy_of(img)?;
        let start = disk.partition("boot-a")?.start;
        let mut command = Command::new("mcopy");
        command.arg("-n").arg("-o").arg("-i");
        command.arg(format!("{}@@{start}", disk.path().display()));
        output(command.arg(format!("::{name}")).arg(to)).context("mcopy (package mtools)").map(drop)
    }
}

/// The demo's image file, changed.
fn image_file(demo: &str, variant: &Variant<'_>) -> Result<String> {
    let mut image: Table = toml::from_str(demo).context("demo/demo.toml")?;
    image.insert("version".into(), format!("{}.0.0", variant.sequence).into());
    image.insert("sequence".into(), variant.sequence.into());
    if !variant.packages.is_empty() {
        let packages: Vec<Value> = variant.packages.iter().map(|name| (*name).into()).collect();
        image.insert(
            "debian".into(),
            Table::from_iter([("packages".into(), packages.into())]).into(),
        );
    }
    if let Some(workloads) = variant.workloads {
        let more: Table = toml::from_str(workloads).context("the variant's workloads")?;
        let more = more.get("workload").context("the variant has no workloads")?;
        image.insert("workload".into(), more.clone());
        image.remove("update");
    }
    if variant.updates {
        let update = image.get_mut("update").and_then(Value::as_table_mut);
        let update = update.context("demo/demo.toml has no [update]")?;
        update.insert("url".into(), format!("http://10.0.2.2:{UPDATE_PORT}").into());
        update.insert("reboot".into(), "manual".into());
    }
    toml::to_string(&image).context("image file")
}

/// A file's length in bytes.
pub fn length(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_the_demo_with_changes() {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/demo.toml");
        let demo = fs::read_to_string(demo).unwrap();
        let variant = Variant { sequence: 3, packages: &["curl"], updates: true, ..Variant::DEMO };
        let image: Table = toml::from_str(&image_file(&demo, &variant).unwrap()).unwrap();
        assert_eq!(image["version"].as_str(), Some("3.0.0"));
        assert_eq!(image["debian"]["packages"][0].as_str(), Some("curl"));
        assert_eq!(image["update"]["reboot"].as_str(), Some("manual"));
        let workloads = Some("[[workload]]\nname = \"x\"\ncommand = [\"/x\"]\n");
        let variant = Variant { workloads, ..Variant::DEMO };
        let image: Table = toml::from_str(&image_file(&demo, &variant).unwrap()).unwrap();
        assert_eq!(image["workload"].as_array().map(Vec::len), Some(1));
        assert!(!image.contains_key("update"));
    }
}
