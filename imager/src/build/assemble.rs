//! The parts of an image, put together in memory.

use anyhow::Result;
use imagefs::tree::Tree;

use super::golden::Golden;
use super::prepare::BuildKeys;
use crate::assembly::root::DeviceBinaries;
use crate::assembly::slot_image::{self, Identity, SlotImage};
use crate::assembly::{device_conf, initramfs, kernel, root};
use crate::boot_method::{FirmwareParts, Packages, SlotParts};
use crate::config::{Board, Image};
use crate::sources::Inputs;
use debian::cache::Cache;

/// What an image consists of.
pub struct Parts {
    /// The files of the firmware partition.
    pub firmware: Tree,
    /// The slot that the device starts with, and every update's payload.
    pub slot: SlotImage,
    /// The kernel keeps account of what each user's files take.
    pub quotas: bool,
}

/// Puts them together.
pub fn assemble(
    image: &Image,
    board: &Board,
    keys: &BuildKeys,
    programs: &DeviceBinaries,
    inputs: &Inputs,
    cache: &Cache,
    golden: &Golden,
) -> Result<Parts> {
    let kernel = kernel::extract(&inputs.kernel_contents(), board, image)?;
    let root = root::build(image, board, inputs, programs, &keys.device, &kernel)?;
    root.notices.iter().for_each(|notice| eprintln!("NOTICE: {notice}"));
    golden.check(image, inputs)?;
    let boot_conf = device_conf::boot_conf(board, &kernel, &keys.device.manifest).to_text();
    let modules = kernel.chooser.iter().chain(&kernel.initrd).chain(&kernel.later).flatten();
    let initrd = initramfs::build(&programs.init, &boot_conf, modules)?;

    let (method, target) = (board.boot.method, board.target());
    let signer = keys.boot.as_deref();
    let packages =
        Packages { firmware: inputs.board_firmware.as_ref(), stub: inputs.stub.as_ref() };
    let firmware = method
        .firmware_files(&target, &FirmwareParts { packages, programs: &programs.boot, signer })?;
    let boot_files = method.slot_files(
        &target,
        SlotParts {
            image: &image.name,
            version: &image.version,
            kernel: kernel.image,
            initrd,
            device_trees: kernel.device_trees,
            packages,
            volume_id: slot_image::boot_volume_id(&Identity { image, board }),
            signer,
        },
    )?;
    let slot = slot_image::build(image, board, root, &tree(boot_files)?, &keys.signing, cache)?;
    Ok(Parts { firmware: tree(firmware)?, slot, quotas: kernel.quotas })
}

fn tree(files: Vec<(String, Vec<u8>)>) -> Result<Tree> {
    let mut tree = Tree::new(0);
    for (name, bytes) in files {
        tree.file(&name, 0o644, bytes)?;
    }
    Ok(tree)
}
