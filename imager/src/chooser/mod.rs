//! What a board's boot loader needs on the disk so that it chooses between the slots: one file a
//! way of choosing. What the choice means is in `slot::boot_state`.

use anyhow::Result;

use crate::config::board::{Board, Chooser};

pub mod uboot;

/// Files by name, for a FAT partition.
pub type Files = Vec<(String, Vec<u8>)>;

/// Name of the kernel on a slot's boot partition.
const KERNEL: &str = "kernel";
/// Name of the initramfs on a slot's boot partition.
const INITRD: &str = "initrd";

/// What lies on the `firmware` partition.
pub fn firmware_files(board: &Board) -> Result<Files> {
    match board.boot.chooser {
        Chooser::Uboot => {
            let script = uboot::boot_script(board.watchdog.as_ref())?;
            Ok(vec![(uboot::BOOT_SCRIPT.to_owned(), uboot::script_image(&script))])
        }
    }
}

/// What lies on a slot's boot partition: the kernel, the initramfs, the device trees (by file
/// name; the first is the one the kernel gets) and what the loader needs to start them.
pub fn slot_files(
    board: &Board,
    kernel: Vec<u8>,
    initrd: Vec<u8>,
    device_trees: Files,
) -> Result<Files> {
    let start = match board.boot.chooser {
        Chooser::Uboot => {
            let tree = device_trees.first().map(|(name, bytes)| uboot::SlotFile { name, bytes });
            let script = uboot::slot_script(
                &board.kernel.arguments,
                uboot::SlotFile { name: KERNEL, bytes: &kernel },
                uboot::SlotFile { name: INITRD, bytes: &initrd },
                tree,
            )?;
            (uboot::SLOT_SCRIPT.to_owned(), uboot::script_image(&script))
        }
    };
    let mut files = vec![(KERNEL.to_owned(), kernel), (INITRD.to_owned(), initrd), start];
    files.extend(device_trees);
    Ok(files)
}
