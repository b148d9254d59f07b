//! What all Raspberry Pis have in common: the firmware reads `autoboot.txt` on the firmware partition, then `config.txt` and
//! what that names on a slot's boot partition. docs/choosers/rpi.md tells how a slot is chosen.
//!
//! Rules and names are those of the Raspberry Pi documentation, "config.txt".

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use formats::Slot;
use formats::gpt;
use formats::rpi::BOOT_VOLUME;
use formats::rpi::autoboot::{self, Method};

pub mod ramdisk;

use super::arm64_kernel;
use super::method::{
    BootKeys, BootSigner, Files, FirmwareParts, INITRD, KERNEL, Packages, PartitionTypes, SlotParts,
};
use super::target::Target;
use crate::config::board::loader::BoardFirmware;
use debian::deb::Deb;

/// The keys of `[boot]` that are for a Raspberry Pi.
pub const KEYS: BootKeys =
    BootKeys { memory: false, firmware: true, secure_boot: true, stub: false };

/// The type under which people have seen the Raspberry Pi's bootloader take FAT partitions of a GPT
/// (rpi-eeprom issue 359).
pub const PARTITION_TYPES: PartitionTypes =
    PartitionTypes { firmware: gpt::BASIC_DATA, boot: gpt::BASIC_DATA };

/// The firmware reads lines of `config.txt` up to this many bytes (98 in newer ones), and ignores the rest
/// of a line (documentation, "config.txt", file format).
const MAX_LINE: usize = 78;
/// The most the kernel takes of its arguments (arm64 `COMMAND_LINE_SIZE`), less what the firmware
/// adds to them.
const MAX_ARGUMENTS: usize = 2048 - 512;
/// The firmware's licence, beside its files.
const LICENCE: &str = "LICENCE.broadcom";
/// Lines that every image has: a 64-bit kernel with the names and device trees of upstream
/// Linux, and nothing on the way that takes time.
const CONFIG: [&str; 6] = [
    "arm_64bit=1",
    "upstream_kernel=1",
    "enable_uart=1",
    "boot_delay=0",
    "disable_splash=1",
    "auto_initramfs=0",
];

/// The firmware's own files, by where they go.
#[derive(Debug, Default)]
struct OwnFirmware {
    /// For the firmware partition.
    loader: Files,
    /// For a slot's boot partition.
    slot: Files,
}

/// Takes the files that the board names out of their package.
///
/// Fails when one is missing, or a `start*.elf` has no `fixup*.dat` of its own: the pair has to be
/// of one build (documentation, "boot folder contents").
fn own_firmware_of(deb: &Deb, firmware: &BoardFirmware) -> Result<OwnFirmware> {
    let folder = firmware.folder.trim_start_matches('/');
    let take = |names: &[crate::config::values::Line]| -> Result<Files> {
        names
            .iter()
            .map(|name| {
                let path = format!("{folder}/{name}");
                let bytes = deb.file(&path).with_context(|| {
                    format!("{} {}: has no {path}; correct the board file", deb.name, deb.version)
                })?;
                Ok((name.to_string(), bytes))
            })
            .collect()
    };
    let mut files =
        OwnFirmware { loader: take(&firmware.loader_files)?, slot: take(&firmware.slot_files)? };
    for (name, _) in &files.slot {
        let kind = name.strip_prefix("start").and_then(|rest| rest.strip_suffix(".elf"));
        let Some(kind) = kind else { continue };
        let fixup = format!("fixup{kind}.dat");
        ensure!(
            files.slot.iter().any(|(name, _)| *name == fixup),
            "[boot.firmware] `slot_files` has {name} and no {fixup}"
        );
    }
    // The licence asks that its text goes along. Each package has it (Debian Policy 12.5).
    let path = format!("usr/share/doc/{}/copyright", deb.name);
    let licence = deb.file(&path).with_context(|| format!("{}: has no {path}", deb.name))?;
    for part in [&mut files.loader, &mut files.slot] {
        if !part.is_empty() {
            part.push((LICENCE.to_owned(), licence.clone()));
        }
    }
    Ok(files)
}

/// The firmware that the board file names, out of its package; nothing where it names none.
fn own_firmware(target: &Target, packages: &Packages) -> Result<OwnFirmware> {
    match (target.firmware, packages.firmware) {
        (Some(firmware), Some(deb)) => own_firmware_of(deb, firmware),
        (None, _) => Ok(OwnFirmware::default()),
        (Some(firmware), None) => {
            bail!("the package {} is not locked; run `imager lock`", firmware.package)
        }
    }
}

/// Who signs a slot for the bootloader, where the image file asks for it.
pub fn signer(keys: &Path, asked_for: bool) -> Result<Option<Box<dyn BootSigner>>> {
    if !asked_for {
        return Ok(None);
    }
    Ok(Some(Box::new(ramdisk::RamDiskSigner::load(keys)?)))
}

/// `autoboot.txt` of a new image, which boots slot a, and the firmware that the boot ROM loads.
pub fn firmware_files(target: &Target, parts: &FirmwareParts, method: Method) -> Result<Files> {
    let text = autoboot::text(method, Slot::A).into_bytes();
    let mut files = vec![(autoboot::NAME.to_owned(), text)];
    files.extend(own_firmware(target, &parts.packages)?.loader);
    Ok(files)
}

/// Kernel, initramfs, device trees and firmware of a slot, with `config.txt` and `cmdline.txt`; all
/// of it one signed RAM disk where somebody signs.
///
/// Fails on what the firmware would not read or not start.
pub fn slot_files(target: &Target, parts: SlotParts) -> Result<Files> {
    let mut files = start_files(target, &parts)?;
    files.extend(own_firmware(target, &parts.packages)?.slot);
    files.push((KERNEL.to_owned(), parts.kernel));
    files.push((INITRD.to_owned(), parts.initrd));
    files.extend(parts.device_trees);
    match parts.signer {
        Some(signer) => signer.sign_slot(files, parts.volume_id),
        None => Ok(files),
    }
}

/// `config.txt` and `cmdline.txt`.
fn start_files(target: &Target, parts: &SlotParts) -> Result<Files> {
    arm64_kernel::check(&parts.kernel).context("the Raspberry Pi's firmware cannot start it")?;
    ensure!(
        !parts.device_trees.is_empty(),
        "[kernel] `device_trees` is empty: a Raspberry Pi's kernel gets the tree that lies beside it"
    );
    let config = config(target)?;
    let arguments = format!("{} {BOOT_VOLUME}{:08x}\n", target.kernel_arguments, parts.volume_id);
    ensure!(
        arguments.len() <= MAX_ARGUMENTS,
        "the kernel arguments are longer than {MAX_ARGUMENTS} bytes"
    );
    Ok(vec![
        ("config.txt".to_owned(), config.into_bytes()),
        ("cmdline.txt".to_owned(), arguments.into_bytes()),
    ])
}

/// The text of `config.txt`.
fn config(target: &Target) -> Result<String> {
    let mut text = String::from("[all]\n");
    let own = [format!("kernel={KERNEL}"), format!("initramfs {INITRD} followkernel")];
    for line in CONFIG.into_iter().chain(own.iter().map(String::as_str)) {
        text += line;
        text.push('\n');
    }
    for line in target.config {
        if line.len() > MAX_LINE {
            bail!(
                "[boot] `config`: the firmware reads {MAX_LINE} bytes of a line, {line:?} has {}",
                line.len()
            );
        }
        text += line;
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Board;

    fn board() -> Board {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        Board::load("rpi3", Path::new(folder)).unwrap()
    }

    fn parts(kernel: Vec<u8>) -> SlotParts<'static> {
        SlotParts {
            kernel,
            initrd: b"initrd".to_vec(),
            device_trees: vec![("bcm2837-rpi-3-b.dtb".to_owned(), vec![0xd0, 0x0d, 0xfe, 0xed])],
            volume_id: 0xABC,
            ..SlotParts::default()
        }
    }

    fn image() -> Vec<u8> {
        let mut image = vec![0; 4096];
        image[56..60].copy_from_slice(b"ARMd");
        image
    }

    #[test]
    fn a_slot_has_what_the_firmware_reads() {
        let made = start_files(&board().target(), &parts(image())).unwrap();
        let text = |name: &str| {
            let (_, bytes) = made.iter().find(|(found, _)| found == name).unwrap();
            String::from_utf8(bytes.clone()).unwrap()
        };
        let config = text("config.txt");
        assert!(config.starts_with("[all]\narm_64bit=1\nupstream_kernel=1\nenable_uart=1\n"));
        // `initramfs` is the one setting without an equals sign.
        assert!(config.contains("\nkernel=kernel\ninitramfs initrd followkernel\n"), "{config}");
        assert!(config.lines().all(|line| line.len() <= MAX_LINE));
        let arguments = text("cmdline.txt");
        assert!(arguments.ends_with(" ferrite.boot=00000abc\n"), "{arguments}");
        assert_eq!(arguments.lines().count(), 1);
    }

    #[test]
    fn firmware_comes_in_pairs_and_with_its_licence() {
        use debian::fixtures::open_deb;
        let board = board();
        let firmware = board.boot.firmware.as_ref().unwrap();
        let lib = |name: &str| format!("usr/lib/raspi-firmware/{name}");
        let (boot, start, fixup) = (lib("bootcode.bin"), lib("start.elf"), lib("fixup.dat"));
        let licence = "usr/share/doc/raspi-firmware/copyright";
        let (_folder, deb) = open_deb(
            "raspi-firmware",
            &[(&*boot, "b"), (&*start, "s"), (&*fixup, "f"), (licence, "terms")],
        );
        let files = own_firmware_of(&deb, firmware).unwrap();
        let names = |files: &Files| files.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        assert_eq!(names(&files.loader), ["bootcode.bin", LICENCE]);
        assert_eq!(names(&files.slot), ["start.elf", "fixup.dat", LICENCE]);
        let (_folder, without) =
            open_deb("raspi-firmware", &[(&*boot, "b"), (&*start, "s"), (&*fixup, "f")]);
        assert!(own_firmware_of(&without, firmware).is_err());
        let mut lonely = Board::load("rpi3", Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let alone = lonely.boot.firmware.as_mut().unwrap();
        alone.slot_files.retain(|name| name.as_str() != "fixup.dat");
        let message = own_firmware_of(&deb, alone).unwrap_err().to_string();
        assert!(message.contains("start.elf and no fixup.dat"), "{message}");
    }

    #[test]
    fn what_the_firmware_cannot_start_is_refused() {
        let board = board();
        assert!(start_files(&board.target(), &parts(vec![0; 4096])).is_err());
        let mut none = parts(image());
        none.device_trees.clear();
        assert!(
            start_files(&board.target(), &none).unwrap_err().to_string().contains("device_trees")
        );
    }
}
