//! What a board's boot loader needs on the disk so that it chooses between the slots: one file a
//! way of choosing. What the choice means is in `formats::boot_state`.

use anyhow::{Context, Result, ensure};
use debian::deb::Deb;
use formats::rpi::autoboot::Method;
use uefi_image::Signer;

use crate::config::board::{Board, BootMemory, Chooser};

pub mod efi;
pub mod rpi;
pub mod uboot;

/// Files by name, for a FAT partition.
pub type Files = Vec<(String, Vec<u8>)>;

/// Name of the kernel on a slot's boot partition.
const KERNEL: &str = "kernel";
/// Name of the initramfs on a slot's boot partition.
const INITRD: &str = "initrd";

/// What a slot's boot partition is made of.
pub struct SlotFiles {
    /// The kernel image.
    pub kernel: Vec<u8>,
    /// The initramfs.
    pub initrd: Vec<u8>,
    /// Device trees by file name; where the loader takes one, the first.
    pub device_trees: Files,
    /// The board's own firmware.
    pub firmware: rpi::FirmwareFiles,
    /// Serial number of the partition's FAT.
    pub volume_id: u32,
    /// What only the efi chooser needs.
    pub efi: Option<efi::Parts>,
}

/// The firmware that the board file names, out of its package.
pub fn board_firmware(board: &Board, package: Option<&Deb>) -> Result<rpi::FirmwareFiles> {
    match (&board.boot.firmware, package) {
        (Some(firmware), Some(deb)) => rpi::firmware_files(deb, firmware),
        (None, _) => Ok(rpi::FirmwareFiles::default()),
        (Some(firmware), None) => {
            anyhow::bail!("the package {} is not locked; run `imager lock`", firmware.package)
        }
    }
}

/// What lies on the `firmware` partition. `program` is the efi chooser's own, and who signs it.
pub fn firmware_files(
    board: &Board,
    firmware: &rpi::FirmwareFiles,
    program: Option<(&[u8], Option<&Signer>)>,
) -> Result<Files> {
    let method = match board.boot.chooser {
        Chooser::Uboot => {
            let script = uboot::boot_script(memory(board)?, board.watchdog.as_ref())?;
            return Ok(vec![(uboot::BOOT_SCRIPT.to_owned(), uboot::script_image(&script))]);
        }
        Chooser::Efi => {
            let (program, signer) = program.context("the chooser is not there")?;
            return efi::firmware_files(board, program, signer);
        }
        Chooser::Rpi => Method::Pointer,
        Chooser::RpiTryboot => Method::Tryboot,
    };
    let mut files = vec![rpi::autoboot_file(method)];
    files.extend(firmware.loader.iter().cloned());
    Ok(files)
}

fn memory(board: &Board) -> Result<&BootMemory> {
    board.boot.memory.as_ref().with_context(|| {
        format!(
            "board {}: the uboot chooser needs [boot.memory] with `scratch` and `kernel`: addresses of free memory under this board's U-Boot",
            board.name()
        )
    })
}

/// What lies on a slot's boot partition: the kernel, the initramfs, the device trees and what the
/// loader needs to start them.
pub fn slot_files(board: &Board, files: SlotFiles) -> Result<Files> {
    let start = match board.boot.chooser {
        Chooser::Uboot => {
            let tree =
                files.device_trees.first().map(|(name, bytes)| uboot::SlotFile { name, bytes });
            let script = uboot::slot_script(
                memory(board)?,
                &board.kernel.arguments,
                uboot::SlotFile { name: KERNEL, bytes: &files.kernel },
                uboot::SlotFile { name: INITRD, bytes: &files.initrd },
                tree,
            )?;
            vec![(uboot::SLOT_SCRIPT.to_owned(), uboot::script_image(&script))]
        }
        // One file is the kernel, the initramfs and the rest.
        Chooser::Efi => {
            let parts = files.efi.as_ref().context("the stub is not there")?;
            return efi::slot_files(board, &files, parts);
        }
        Chooser::Rpi | Chooser::RpiTryboot => rpi::slot_files(board, &files)?,
    };
    let mut all = vec![(KERNEL.to_owned(), files.kernel), (INITRD.to_owned(), files.initrd)];
    for more in [start, files.device_trees, files.firmware.slot] {
        all.extend(more);
    }
    Ok(all)
}

/// Fails when this is not an uncompressed arm64 kernel (Documentation/arch/arm64/booting.rst).
fn check_kernel(image: &[u8]) -> Result<()> {
    let magic = image.get(56..60).context("it is shorter than the header of an arm64 Image")?;
    ensure!(magic == b"ARM\x64", "it is not an uncompressed arm64 Image (no `ARMd` at byte 56)");
    Ok(())
}
