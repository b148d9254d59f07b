//! The root file system: what the packages, wheels, files and models of an image come to.

use anyhow::{Context, Result, bail};
use formats::layout::{MANIFEST_KEYS, OTA_SETTINGS, SYSTEM_CONF, TUF_ROOT};
use formats::manifest::FileHash;
use sha2::{Digest, Sha256};

use super::device_conf::{self, OTA_PATH};
use super::kernel::KernelFiles;
use super::modules::Module;
use super::{archives, libraries, packages, ports, skeleton, ssh, wifi};
use crate::config::image::{FileEntry, ModelEntry, Origin};
use crate::config::{Board, Image};
use crate::sources::Inputs;
use crate::sources::request::ENGINE_WHEEL;
use debian::deb::Deb;
use debian::tarball::MemberKind;
use imagefs::tree::{Kind, Node, Tree};

/// Where models lie on the root, each in a folder of its name.
pub const MODELS: &str = "/usr/share/models";
/// Where the runner lies on the root.
pub const RUNNER_PATH: &str = "/usr/bin/runner";
/// The engine in its wheel, and where the runner is linked to find it.
const ENGINE_MEMBER: &str = "pymicro_wakeword/lib/libtensorflowlite_c.so";
const ENGINE_PATH: &str = "/usr/lib/libtensorflowlite_c.so";

/// Files that are read ahead, at most.
const READ_AHEAD_MOST: usize = 64;

/// The project's own programs for the device.
pub struct DeviceBinaries {
    /// PID 1, also `ctl`.
    pub init: Vec<u8>,
    /// The update client.
    pub ota: Vec<u8>,
    /// The model runner.
    pub runner: Vec<u8>,
    /// The boot chooser of boards with UEFI, where it is one.
    pub efi_bootchooser: Option<Vec<u8>>,
}

/// The keys that an image carries.
pub struct DeviceKeys {
    /// Public keys that sign slot manifests, in hexadecimal.
    pub manifest: Vec<String>,
    /// The repository's root metadata.
    pub tuf_root: Vec<u8>,
}

/// A finished root.
pub struct Root {
    /// Its files.
    pub tree: Tree,
    /// The model files, for the manifest.
    pub models: Vec<FileHash>,
}

/// Puts the root together.
pub fn build(
    image: &Image,
    board: &Board,
    inputs: &Inputs,
    binaries: &DeviceBinaries,
    keys: &DeviceKeys,
    kernel: &KernelFiles,
) -> Result<Root> {
    let mut tree = Tree::usr_merged(0);
    for deb in &inputs.root {
        add_package(&mut tree, deb)?;
    }
    let users = device_conf::users(image)?;
    skeleton::add(&mut tree, image, &users, &binaries.init)?;
    let modules: Vec<String> = kernel.rootfs.iter().map(module_path).collect();
    for module in kernel.rootfs.iter().chain(&kernel.on_demand) {
        tree.file(&module_path(module), 0o644, module.object.as_slice())?;
    }
    if let Some(radio) = wifi::radio(image, board)? {
        wifi::add(&mut tree, radio, inputs, kernel)?;
    }
    if image.network.ssh {
        ssh::add(&mut tree)?;
    }
    if let Some(update) = &image.update {
        tree.file(OTA_PATH, 0o755, binaries.ota.as_slice())?;
        let settings = device_conf::ota_settings(image, update).to_text();
        tree.file(OTA_SETTINGS, 0o644, settings.as_bytes())?;
        tree.file(TUF_ROOT, 0o644, keys.tuf_root.as_slice())?;
        for (number, key) in keys.manifest.iter().enumerate() {
            tree.file(&format!("{MANIFEST_KEYS}/{number}"), 0o644, format!("{key}\n").as_bytes())?;
        }
    }
    let mut models = Vec::new();
    if !image.models.is_empty() {
        tree.file(RUNNER_PATH, 0o755, binaries.runner.as_slice())?;
        tree.file(ENGINE_PATH, 0o644, inputs.wheel(ENGINE_WHEEL)?.member(ENGINE_MEMBER)?)?;
        for model in &image.models {
            models.push(add_model(&mut tree, inputs, model)?);
        }
    }
    for wheel in &image.wheels {
        for file in &wheel.files {
            let bytes = inputs.wheel(&wheel.name)?.member(&file.from)?;
            let mode = file.mode.map_or(0o644, |mode| mode.0 as u16);
            tree.file(&file.path, mode, bytes)?;
        }
    }
    for (entry, archive) in image.archives().zip(&inputs.archives) {
        archives::add(&mut tree, &archive.contents, entry.only())?;
    }
    for entry in &image.files {
        add_local(&mut tree, inputs, entry)?;
    }
    for workload in &image.workloads {
        let program = workload.command().first().context("a workload without a command")?;
        if let Some(binary) = &workload.binary {
            tree.file(program, 0o755, inputs.local(binary)?)?;
        }
        match tree.follow(program).map(|node| (&node.kind, node.mode)) {
            Some((Kind::File(_), mode)) if mode & 0o111 != 0 => {}
            Some(_) => bail!("workload {}: {program} is not an executable file", workload.name()),
            None => bail!(
                "workload {}: nothing puts {program} on the root; add it with `binary`, [[file]] or [debian]",
                workload.name()
            ),
        }
    }
    let ahead = read_ahead(&tree, image);
    let ports = ports::of(&tree, image)?;
    let newest = inputs.newest()?;
    let system = device_conf::system_conf(image, board, &modules, &ahead, newest, &ports)?;
    tree.file(SYSTEM_CONF, 0o644, system.to_text().as_bytes())?;
    Ok(Root { tree, models })
}

/// What the vital workloads read while they start, each file once: programs first, then what these
/// need.
fn read_ahead(tree: &Tree, image: &Image) -> Vec<String> {
    let vital = image.workloads.iter().filter(|workload| workload.vital);
    let programs: Vec<String> =
        vital.filter_map(|w| Some(w.command().first()?.as_str().to_owned())).collect();
    let needed = programs.iter().flat_map(|program| libraries::of(tree, program));
    let mut all: Vec<String> = Vec::new();
    for path in programs.iter().cloned().chain(needed) {
        if all.len() < READ_AHEAD_MOST && !all.contains(&path) {
            all.push(path);
        }
    }
    all
}

fn module_path(module: &Module) -> String {
    format!("/usr/lib/modules/{}.ko", module.name)
}

/// Where a package's or archive's path lies once `/usr` is merged.
pub fn merged(path: &str) -> String {
    let top = path.split('/').next().unwrap_or_default();
    match top {
        "bin" | "lib" | "lib64" | "sbin" => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

fn add_package(tree: &mut Tree, deb: &Deb) -> Result<()> {
    for member in deb.members(|path| packages::wanted(&deb.name, &merged(path)))? {
        let path = merged(&member.path);
        let kind = match member.kind {
            // Folders appear with what lies in them; empty ones of a package serve nobody.
            MemberKind::Folder => continue,
            MemberKind::File(bytes) => Kind::File(bytes.into()),
            MemberKind::SymbolicLink(target) => Kind::Symlink(target),
            // EROFS keeps equal files once, so a hard link is as good as a second file.
            MemberKind::HardLink(target) => Kind::File(deb.file(&target)?.into()),
        };
        let mode = match kind {
            Kind::Symlink(_) => 0o777,
            // No package of a device needs more than its user's rights.
            _ => (member.mode & 0o755) as u16,
        };
        tree.insert(&path, Node::new(kind, mode))
            .with_context(|| format!("package {}", deb.name))?;
    }
    Ok(())
}

fn add_model(tree: &mut Tree, inputs: &Inputs, model: &ModelEntry) -> Result<FileHash> {
    let folder = format!("{MODELS}/{}", model.name());
    let read = |origin: &Origin| match origin {
        Origin::Local(path) => inputs.local(path),
        Origin::Wheel { name, member } => inputs.wheel(name)?.member(member),
    };
    let bytes = read(model.model())?;
    let path = format!("{folder}/model.tflite");
    let hash = FileHash {
        sha256: Sha256::digest(&bytes).into(),
        size: bytes.len() as u64,
        name: path.clone(),
    };
    tree.file(&path, 0o644, bytes)?;
    tree.file(&format!("{folder}/model.toml"), 0o644, inputs.local(&model.config)?)?;
    for origin in model.files() {
        tree.file(&format!("{folder}/{}", origin.file_name()), 0o644, read(origin)?)?;
    }
    Ok(hash)
}

fn add_local(tree: &mut Tree, inputs: &Inputs, entry: &FileEntry) -> Result<()> {
    for (file, inside) in inputs.local_tree(&entry.source) {
        let path = match inside {
            "" => entry.path.to_string(),
            inside => format!("{}/{inside}", entry.path),
        };
        if let Some(target) = &file.link {
            tree.symlink(&path, target)?;
            continue;
        }
        let mode = entry.mode.map_or(file.default_mode(), |mode| mode.0) as u16;
        tree.file(&path, mode, file.read()?)?;
    }
    Ok(())
}
