//! The root file system: what the packages, wheels, files and models of an image come to.

use std::path::Path;

use anyhow::{Context, Result};
use formats::layout::{MANIFEST_KEYS, OTA_SETTINGS, SYSTEM_CONF, TUF_ROOT};
use formats::manifest::FileHash;
use sha2::{Digest, Sha256};

use super::device_conf::{self, OTA_PATH};
use super::kernel::KernelFiles;
use super::modules::Module;
use super::root_layout::{MODELS, RUNNER_PATH, merged};
use super::{archives, libraries, models, packages, ports, programs, radio, skeleton, ssh, wifi};
use crate::boot_method::DeviceProgram;
use crate::config::image::{FileEntry, ModelEntry, Origin};
use crate::config::{Board, Image};
use crate::private_key;
use crate::sources::Inputs;
use crate::sources::request::ENGINE_WHEEL;
use debian::deb::Deb;
use debian::tarball::MemberKind;
use imagefs::tree::{Kind, Node, Tree};

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
    /// What runs before Linux, as the board's boot method has it.
    pub boot: Vec<(DeviceProgram, Vec<u8>)>,
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
    /// What whoever builds it should hear.
    pub notices: Vec<String>,
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
    if let Some(radio) = radio::radio(image, board)? {
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
    let mut model_files = Vec::new();
    if !image.models.is_empty() {
        tree.file(RUNNER_PATH, 0o755, binaries.runner.as_slice())?;
        tree.file(ENGINE_PATH, 0o644, inputs.wheel(ENGINE_WHEEL)?.member(ENGINE_MEMBER)?)?;
        for model in &image.models {
            model_files.push(add_model(&mut tree, inputs, model)?);
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
            tree.file(program, 0o755, local(inputs, binary)?)?;
        }
    }
    programs::check(&tree, image, board)?;
    let notices = models::check(&tree, image)?;
    let ahead = read_ahead(&tree, image);
    let ports = ports::of(&tree, image)?;
    let newest = inputs.newest()?;
    let system = device_conf::system_conf(image, board, &modules, &ahead, newest, &ports)?;
    tree.file(SYSTEM_CONF, 0o644, system.to_text().as_bytes())?;
    Ok(Root { tree, models: model_files, notices })
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

pub(super) fn add_model(tree: &mut Tree, inputs: &Inputs, model: &ModelEntry) -> Result<FileHash> {
    let folder = format!("{MODELS}/{}", model.name());
    let read = |origin: &Origin| match origin {
        Origin::Local(path) => local(inputs, path),
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
    tree.file(&format!("{folder}/model.toml"), 0o644, local(inputs, &model.config)?)?;
    for origin in model.files() {
        tree.file(&format!("{folder}/{}", origin.file_name()), 0o644, read(origin)?)?;
    }
    Ok(hash)
}

/// The bytes of a local file, which hold no private key.
pub(super) fn local(inputs: &Inputs, path: &Path) -> Result<Vec<u8>> {
    let bytes = inputs.local(path)?;
    private_key::refuse(&path.display().to_string(), &bytes)?;
    Ok(bytes)
}

pub(super) fn add_local(tree: &mut Tree, inputs: &Inputs, entry: &FileEntry) -> Result<()> {
    for (file, inside) in inputs.local_tree(&entry.source) {
        if entry.excludes(inside) {
            continue;
        }
        let path = match inside {
            "" => entry.path.to_string(),
            inside => format!("{}/{inside}", entry.path),
        };
        if let Some(target) = &file.link {
            tree.symlink(&path, target)?;
            continue;
        }
        let mode = entry.mode.map_or(file.default_mode(), |mode| mode.0) as u16;
        let bytes = file.read()?;
        private_key::refuse(&file.path, &bytes)?;
        tree.file(&path, mode, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::local;
    use std::fs;

    /// The files of a folder as inputs, and nothing else.
    fn inputs(folder: &Path, image: &Image) -> Inputs {
        let entry = &image.files[0];
        let excluded = |inside: &Path| entry.excludes(inside.to_str().unwrap());
        Inputs {
            root: vec![],
            kernel: vec![],
            kernel_archives: vec![],
            archives: vec![],
            firmware: None,
            board_firmware: None,
            wifi_firmware: vec![],
            stub: None,
            wheels: vec![],
            files: local::find(folder, &entry.source, &excluded).unwrap(),
        }
    }

    /// The paths that a project's folder brings onto the root.
    fn packed(folder: &Path, more: &str) -> Result<Vec<String>> {
        let path = folder.join("demo.toml");
        let head = "name = \"demo\"\nversion = \"1\"\nsequence = 1\n[[file]]\nsource = \".\"\npath = \"/all\"\n";
        fs::write(&path, format!("{head}{more}\n")).unwrap();
        let image = Image::load(&path)?;
        let mut tree = Tree::usr_merged(0);
        add_local(&mut tree, &inputs(folder, &image), &image.files[0])?;
        let files = tree.iter().filter(|(_, node)| matches!(node.kind, Kind::File(_)));
        Ok(files.map(|(path, _)| path.to_owned()).collect())
    }

    #[test]
    fn private_keys_do_not_get_into_an_image() {
        let dir = tempfile::tempdir().unwrap();
        publisher::keys::generate(&dir.path().join("keys")).unwrap();
        let message = packed(dir.path(), "").unwrap_err().to_string();
        assert!(message.contains("keys/image.key is a private key"), "{message}");
        assert!(message.contains("`exclude`"), "{message}");
        let files = packed(dir.path(), "exclude = [\"keys/*.key\"]").unwrap();
        assert!(files.contains(&"all/keys/image.pub".to_owned()), "{files:?}");
        assert_eq!(packed(dir.path(), "exclude = [\"keys\"]").unwrap(), ["all/demo.toml"]);
    }
}
