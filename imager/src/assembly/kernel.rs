//! What is taken out of the kernel's packages: the image, the device trees and the modules of
//! both lives, decompressed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{bail, Context, Result};

use super::device_tree::DeviceTree;
use super::drivers::{self, Drivers};
use super::elf::section;
use super::modules::{self, canonical, Module, ModuleSource};
use crate::config::board::{Kernel, ModuleSignatures};
use crate::config::values::Line;
use crate::sources::deb::{Deb, MemberKind};

/// A module is at most this long unpacked; the largest of Debian's has a third of it.
const MAX_MODULE: u64 = 32 << 20;
/// Where the drivers of disks lie, and of what disks wait for.
const DRIVER_FOLDERS: [&str; 13] = [
    "/drivers/clk/",
    "/drivers/firmware/",
    "/drivers/gpio/",
    "/drivers/mailbox/",
    "/drivers/mfd/",
    "/drivers/mmc/",
    "/drivers/phy/",
    "/drivers/pinctrl/",
    "/drivers/pmdomain/",
    "/drivers/power/",
    "/drivers/regulator/",
    "/drivers/reset/",
    "/drivers/soc/",
];
/// The module for the data partition. Workloads wait for it, so it is loaded early on.
const DATA_FILE_SYSTEM: &str = "ext4";

/// The kernel's files.
pub struct KernelFiles {
    /// The kernel image as the package has it.
    pub image: Vec<u8>,
    /// Device trees for the boot partition, by file name.
    pub device_trees: Vec<(String, Vec<u8>)>,
    /// Chains of modules that the first life needs before it chooses the slot, if it does.
    pub chooser: Vec<Vec<Module>>,
    /// Chains of modules that the first life needs to reach the root.
    pub first_life: Vec<Vec<Module>>,
    /// Chains of modules that it loads on the way, for the data partition.
    pub later: Vec<Vec<Module>>,
    /// Modules of the second life that the first has not loaded, in load order.
    pub second_life: Vec<Module>,
}

/// Takes out of the packages what the board file names; the modules for USB sticks only for an
/// image that `uses_media`.
///
/// Fails when the image does and the board has none.
pub fn extract(debs: &[Deb], kernel: &Kernel, uses_media: bool) -> Result<KernelFiles> {
    let late_names = second_life_names(kernel, uses_media)?;
    let release = kernel.release.as_str();
    let vmlinuz = format!("lib/modules/{release}/vmlinuz");
    let image = file(debs, |path| path.ends_with(&vmlinuz))?
        .with_context(|| format!("the kernel packages have no {vmlinuz}"))?;
    let mut device_trees = Vec::new();
    for tree in &kernel.device_trees {
        let suffix = format!("lib/modules/{release}/dtb/{tree}");
        let bytes = file(debs, |path| path.ends_with(&suffix))?
            .with_context(|| format!("the kernel packages have no device tree {tree}"))?;
        let name = tree.rsplit('/').next().unwrap_or(tree);
        device_trees.push((name.to_owned(), bytes));
    }
    let source = PackagedModules::read(debs, release, kernel.module_signatures)?;
    let order = |names: &[&str], loaded: &[Module]| {
        let loaded = loaded.iter().map(|module| module.name.clone()).collect();
        modules::in_load_order(&source, names, &loaded)
    };
    let chooser = order(&as_strs(&kernel.chooser_modules), &[])?;
    let mut early = order(&as_strs(&kernel.first_life_modules), &chooser)?;
    let needed: BTreeSet<_> = early.iter().map(|module| module.name.clone()).collect();
    let loaded = [chooser.as_slice(), &early].concat();
    early.extend(order(&[DATA_FILE_SYSTEM], &loaded)?);
    let loaded = [chooser.as_slice(), &early].concat();
    let second_life = order(&late_names, &loaded)?;
    let chooser = modules::chains(chooser);
    let is_needed = |chain: &Vec<Module>| chain.iter().any(|module| needed.contains(&module.name));
    let (first_life, later): (Vec<_>, Vec<_>) =
        modules::chains(early).into_iter().partition(is_needed);
    if !device_trees.is_empty() {
        let drivers = source.drivers(release)?;
        let loaded = [&chooser, &first_life].into_iter().flatten().flatten();
        let loaded: BTreeSet<_> = loaded.map(|module| module.name.clone()).collect();
        for (name, blob) in &device_trees {
            DeviceTree::read(blob)
                .and_then(|tree| drivers::check(&tree, &drivers, &loaded))
                .with_context(|| format!("device tree {name}"))?;
        }
    }
    Ok(KernelFiles { image, device_trees, chooser, first_life, later, second_life })
}

/// The modules of the second life, without those they depend on.
fn second_life_names(kernel: &Kernel, uses_media: bool) -> Result<Vec<&str>> {
    let mut names = as_strs(&kernel.second_life_modules);
    if uses_media {
        if kernel.media_modules.is_empty() {
            bail!("the image uses USB sticks (`sticks` or `media`), but the board has none: its file names no `media_modules`");
        }
        names.extend(as_strs(&kernel.media_modules));
    }
    Ok(names)
}

fn as_strs(names: &[Line]) -> Vec<&str> {
    names.iter().map(Line::as_str).collect()
}

fn file(debs: &[Deb], wanted: impl Fn(&str) -> bool) -> Result<Option<Vec<u8>>> {
    for deb in debs {
        for member in deb.members(|path| wanted(path))? {
            if let MemberKind::File(bytes) = member.kind {
                return Ok(Some(bytes));
            }
        }
    }
    Ok(None)
}

/// The modules of a kernel's packages: where each lies, unpacked when asked for.
struct PackagedModules<'a> {
    debs: &'a [Deb],
    paths: BTreeMap<String, (usize, String)>,
    built_in: BTreeSet<String>,
    signatures: ModuleSignatures,
}

impl<'a> PackagedModules<'a> {
    fn read(debs: &'a [Deb], release: &str, signatures: ModuleSignatures) -> Result<Self> {
        let folder = format!("lib/modules/{release}/");
        let mut paths = BTreeMap::new();
        for (index, deb) in debs.iter().enumerate() {
            for path in deb.paths()? {
                if let Some(name) = module_name(&path).filter(|_| path.contains(&folder)) {
                    paths.insert(name, (index, path));
                }
            }
        }
        let list = format!("{folder}modules.builtin");
        let built_in = file(debs, |path| path.ends_with(&list))?
            .with_context(|| format!("the kernel packages have no {list}"))?;
        let built_in = String::from_utf8_lossy(&built_in).lines().filter_map(module_name).collect();
        Ok(PackagedModules { debs, paths, built_in, signatures })
    }
}

impl PackagedModules<'_> {
    /// What the kernel's drivers drive, as far as a disk depends on it.
    fn drivers(&self, release: &str) -> Result<Drivers> {
        let mut drivers = Drivers::default();
        let list = format!("lib/modules/{release}/modules.builtin.modinfo");
        let built_in = file(self.debs, |path| path.ends_with(&list))?
            .with_context(|| format!("the kernel packages have no {list}"))?;
        drivers.add_built_in(&built_in);
        let mut wanted: BTreeMap<usize, BTreeMap<&str, &str>> = BTreeMap::new();
        for (name, (index, path)) in &self.paths {
            if DRIVER_FOLDERS.iter().any(|folder| path.contains(folder)) {
                wanted.entry(*index).or_default().insert(path, name);
            }
        }
        for (index, wanted) in wanted {
            for member in self.debs[index].members(|path| wanted.contains_key(path))? {
                let (Some(name), MemberKind::File(packed)) =
                    (wanted.get(member.path.as_str()), member.kind)
                else {
                    continue;
                };
                let object = unpack(&member.path, packed)
                    .with_context(|| format!("kernel module {}", member.path))?;
                drivers.add_module(name, section(&object, b".modinfo").unwrap_or_default());
            }
        }
        Ok(drivers)
    }
}

impl ModuleSource for PackagedModules<'_> {
    fn object(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((index, path)) = self.paths.get(name) else {
            return Ok(None);
        };
        let packed = self.debs[*index].file(path)?;
        let mut object = unpack(path, packed).with_context(|| format!("kernel module {path}"))?;
        if self.signatures == ModuleSignatures::Strip {
            object.truncate(modules::unsigned_length(&object));
        }
        Ok(Some(object))
    }

    fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(name)
    }
}

/// `kernel/fs/ext4/ext4.ko.xz` is module `ext4`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = [".ko", ".ko.xz", ".ko.zst"].iter().find_map(|end| file.strip_suffix(end))?;
    Some(canonical(stem))
}

fn unpack(path: &str, packed: Vec<u8>) -> Result<Vec<u8>> {
    let mut object = Vec::new();
    let read = if path.ends_with(".xz") {
        liblzma::read::XzDecoder::new(packed.as_slice())
            .take(MAX_MODULE + 1)
            .read_to_end(&mut object)
    } else if path.ends_with(".zst") {
        zstd::Decoder::new(packed.as_slice())?.take(MAX_MODULE + 1).read_to_end(&mut object)
    } else {
        return Ok(packed);
    };
    read.context("does not unpack")?;
    if object.len() as u64 > MAX_MODULE {
        bail!("is longer than {MAX_MODULE} bytes unpacked");
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Board;

    #[test]
    fn modules_for_sticks_are_only_for_images_that_use_them() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        let mut board = Board::load("qemu-arm64", std::path::Path::new(folder)).unwrap();
        let has = |board: &Board, uses_media| {
            second_life_names(&board.kernel, uses_media).map(|names| names.contains(&"usb_storage"))
        };
        assert!(!has(&board, false).unwrap());
        assert!(has(&board, true).unwrap());
        board.kernel.media_modules.clear();
        assert!(has(&board, false).is_ok());
        assert!(has(&board, true).unwrap_err().to_string().contains("media_modules"));
    }
}
