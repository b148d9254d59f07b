//! What is taken out of the kernel's packages: the image, the device trees and the modules of
//! both lives, decompressed.

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

use super::device_tree::DeviceTree;
use super::drivers;
use super::modules::{self, Module, ModuleSource, canonical};
use super::packaged_modules::{PackagedModules, ending_with};
use super::wifi;
use crate::config::board::{Chooser, Kernel, KernelSource};
use crate::config::values::Line;
use crate::config::{Board, Image};
use debian::tarball::Tarball;

/// A kernel image is at most this long unpacked.
const MAX_IMAGE: u64 = 256 << 20;
/// The module for the data partition. Workloads wait for it, so it is loaded early on.
const DATA_FILE_SYSTEM: &str = "ext4";
/// The module for the EFI variables: one of them says which disk a board with UEFI was started from.
/// A kernel of one's own without it finds its disk by the boot state.
const EFI_VARIABLES: &str = "efivarfs";
/// The module that keeps account of what each workload takes of it, by user. It has to be there
/// before the partition is mounted: the initrd has nobody that the kernel could ask for it.
const DATA_QUOTAS: &str = "quota_v2";

/// The kernel's files.
pub struct KernelFiles {
    /// The kernel image as the package has it.
    pub image: Vec<u8>,
    /// Device trees for the boot partition, by file name.
    pub device_trees: Vec<(String, Vec<u8>)>,
    /// Chains of modules that the initrd needs before it chooses the slot, if it does.
    pub chooser: Vec<Vec<Module>>,
    /// Chains of modules that the initrd needs to reach the root.
    pub initrd: Vec<Vec<Module>>,
    /// Chains of modules that it loads on the way, for the data partition.
    pub later: Vec<Vec<Module>>,
    /// Modules of the rootfs that the first has not loaded, in load order.
    pub rootfs: Vec<Module>,
    /// Modules that the kernel asks for by name when it needs them.
    pub on_demand: Vec<Module>,
    /// The kernel can limit what each workload takes of the data partition.
    pub quotas: bool,
}

/// Takes out of the packages or archives what the board file names; the modules for USB sticks and for
/// the radio only for an image that uses them.
///
/// Fails when the image does and the board has none.
pub fn extract(sources: &[&Tarball], board: &Board, wants: &Image) -> Result<KernelFiles> {
    let kernel = &board.kernel;
    let mut late_names = rootfs_names(kernel, wants.uses_media())?;
    let radio = wifi::radio(wants, board)?;
    late_names.extend(radio.iter().flat_map(|radio| as_strs(&radio.modules)));
    let release = kernel.release.as_str();
    let image = image(sources, kernel)?;
    let mut device_trees = Vec::new();
    for tree in &kernel.device_trees {
        let name = tree.rsplit('/').next().unwrap_or(tree);
        device_trees.push((name.to_owned(), device_tree(sources, kernel, tree)?));
    }
    let source = PackagedModules::read(sources, release, kernel.module_signatures)?;
    let order = |names: &[&str], loaded: &[Module]| {
        let loaded = loaded.iter().map(|module| module.name.clone()).collect();
        modules::in_load_order(&source, names, &loaded)
    };
    let chooser = order(&as_strs(&kernel.chooser_modules), &[])?;
    let mut early_names = as_strs(&kernel.initrd_modules);
    if board.boot.chooser == Chooser::Efi && source.has(EFI_VARIABLES) {
        early_names.push(EFI_VARIABLES);
    }
    let mut early = order(&early_names, &chooser)?;
    let needed: BTreeSet<_> = early.iter().map(|module| module.name.clone()).collect();
    let loaded = [chooser.as_slice(), &early].concat();
    // A kernel of the user's own may be built without.
    let quotas = source.is_built_in(DATA_QUOTAS) || source.object(DATA_QUOTAS)?.is_some();
    let for_data: &[&str] =
        if quotas { &[DATA_FILE_SYSTEM, DATA_QUOTAS] } else { &[DATA_FILE_SYSTEM] };
    early.extend(order(for_data, &loaded)?);
    let loaded = [chooser.as_slice(), &early].concat();
    let mut rootfs = order(&late_names, &loaded)?;
    let loaded = [loaded.as_slice(), &rootfs].concat();
    let asked_for = radio.map(|radio| as_strs(&radio.modules_on_demand)).unwrap_or_default();
    // Nothing on the device knows what a module depends on: that is loaded in any case.
    let is_asked_for =
        |module: &Module| asked_for.iter().any(|name| canonical(name) == module.name);
    let (on_demand, needed_by_it): (Vec<_>, Vec<_>) =
        order(&asked_for, &loaded)?.into_iter().partition(is_asked_for);
    rootfs.extend(needed_by_it);
    let chooser = modules::chains(chooser);
    let is_needed = |chain: &Vec<Module>| chain.iter().any(|module| needed.contains(&module.name));
    let (initrd, later): (Vec<_>, Vec<_>) = modules::chains(early).into_iter().partition(is_needed);
    if !device_trees.is_empty() {
        let mut drivers = source.drivers(release)?;
        let loaded = [&chooser, &initrd].into_iter().flatten().flatten();
        let loaded: BTreeSet<_> = loaded.map(|module| module.name.clone()).collect();
        let both = chooser.iter().chain(&initrd).chain(&later).flatten().chain(&rootfs);
        let all: BTreeSet<_> = both.map(|module| module.name.clone()).collect();
        for (name, blob) in &device_trees {
            let in_tree = || format!("device tree {name}");
            let tree = DeviceTree::read(blob).with_context(in_tree)?;
            drivers.add_image(&image, &tree);
            drivers::check(&tree, &drivers, &loaded).with_context(in_tree)?;
            if radio.is_some() {
                drivers::check_radio(&tree, &drivers, &all).with_context(in_tree)?;
            }
        }
    }
    Ok(KernelFiles { image, device_trees, chooser, initrd, later, rootfs, on_demand, quotas })
}

/// The kernel image. One of the user's own may be packed with gzip.
fn image(sources: &[&Tarball], kernel: &Kernel) -> Result<Vec<u8>> {
    let KernelSource::Own { image, .. } = kernel.source() else {
        let vmlinuz = format!("lib/modules/{}/vmlinuz", kernel.release);
        return ending_with(sources, &vmlinuz)?
            .with_context(|| format!("the kernel packages have no {vmlinuz}"));
    };
    let bytes = at(sources, image)?
        .with_context(|| format!("none of the kernel's archives has {image}; correct `image`"))?;
    if !bytes.starts_with(&[0x1F, 0x8B]) {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes.as_slice())
        .take(MAX_IMAGE + 1)
        .read_to_end(&mut unpacked)
        .with_context(|| format!("{image}: does not unpack"))?;
    ensure!(
        unpacked.len() as u64 <= MAX_IMAGE,
        "{image}: is longer than {MAX_IMAGE} bytes unpacked"
    );
    Ok(unpacked)
}

/// The device tree that the board file calls `tree`.
fn device_tree(sources: &[&Tarball], kernel: &Kernel, tree: &str) -> Result<Vec<u8>> {
    match kernel.source() {
        KernelSource::Debian { .. } => {
            let path = format!("lib/modules/{}/dtb/{tree}", kernel.release);
            ending_with(sources, &path)?
                .with_context(|| format!("the kernel packages have no device tree {tree}"))
        }
        KernelSource::Own { device_tree_folder, .. } => {
            let path = format!("{device_tree_folder}/{tree}");
            at(sources, &path)?.with_context(|| {
                format!("none of the kernel's archives has the device tree {path}; correct `device_trees` or `device_tree_folder`")
            })
        }
    }
}

/// The file at `path` of the first archive that has it, links followed.
fn at(sources: &[&Tarball], path: &str) -> Result<Option<Vec<u8>>> {
    for source in sources {
        if let Some(bytes) = source.follow(path)? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The modules of the rootfs, without those they depend on.
fn rootfs_names(kernel: &Kernel, uses_media: bool) -> Result<Vec<&str>> {
    let mut names = as_strs(&kernel.rootfs_modules);
    if uses_media {
        if kernel.media_modules.is_empty() {
            bail!(
                "the image uses USB sticks (`sticks` or `media`), but the board has none: its file names no `media_modules`"
            );
        }
        names.extend(as_strs(&kernel.media_modules));
    }
    Ok(names)
}

fn as_strs(names: &[Line]) -> Vec<&str> {
    names.iter().map(Line::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_for_sticks_are_only_for_images_that_use_them() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        let mut board = Board::load("qemu-arm64", std::path::Path::new(folder)).unwrap();
        let has = |board: &Board, uses_media| {
            rootfs_names(&board.kernel, uses_media).map(|names| names.contains(&"usb_storage"))
        };
        assert!(!has(&board, false).unwrap());
        assert!(has(&board, true).unwrap());
        board.kernel.media_modules.clear();
        assert!(has(&board, false).is_ok());
        assert!(has(&board, true).unwrap_err().to_string().contains("media_modules"));
    }
}
