//! Raspberry Pi: its firmware reads `autoboot.txt` on the firmware partition, then `config.txt` and
//! what that names on a slot's boot partition. docs/choosers/rpi.md tells how a slot is chosen.
//!
//! Rules and names are those of the Raspberry Pi documentation, "config.txt".

use anyhow::{Context, Result, bail, ensure};
use formats::Slot;
use formats::rpi::BOOT_VOLUME;
use formats::rpi::autoboot::{self, Method};

pub mod ramdisk;

use super::{Files, INITRD, KERNEL, SlotFiles};
use crate::config::board::{Board, BoardFirmware};
use debian::deb::Deb;

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
pub struct FirmwareFiles {
    /// For the firmware partition.
    pub loader: Files,
    /// For a slot's boot partition.
    pub slot: Files,
}

/// Takes the files that the board names out of their package.
///
/// Fails when one is missing, or a `start*.elf` has no `fixup*.dat` of its own: the pair has to be
/// of one build (documentation, "boot folder contents").
pub fn firmware_files(deb: &Deb, firmware: &BoardFirmware) -> Result<FirmwareFiles> {
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
        FirmwareFiles { loader: take(&firmware.loader_files)?, slot: take(&firmware.slot_files)? };
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

/// `autoboot.txt` of a new image: slot a.
pub fn autoboot_file(method: Method) -> (String, Vec<u8>) {
    (autoboot::NAME.to_owned(), autoboot::text(method, Slot::A).into_bytes())
}

/// `config.txt` and `cmdline.txt` of a slot.
///
/// Fails on what the firmware would not read or not start.
pub fn slot_files(board: &Board, files: &SlotFiles) -> Result<Files> {
    super::check_kernel(&files.kernel).context("the Raspberry Pi's firmware cannot start it")?;
    ensure!(
        !files.device_trees.is_empty(),
        "[kernel] `device_trees` is empty: a Raspberry Pi's kernel gets the tree that lies beside it"
    );
    let config = config(board)?;
    let arguments = format!("{} {BOOT_VOLUME}{:08x}\n", board.kernel.arguments, files.volume_id);
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
fn config(board: &Board) -> Result<String> {
    let mut text = String::from("[all]\n");
    let own = [format!("kernel={KERNEL}"), format!("initramfs {INITRD} followkernel")];
    for line in CONFIG.into_iter().chain(own.iter().map(String::as_str)) {
        text += line;
        text.push('\n');
    }
    for line in &board.boot.config {
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
    use std::path::Path;

    fn board() -> Board {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        Board::load("rpi3", Path::new(folder)).unwrap()
    }

    fn files(kernel: Vec<u8>) -> SlotFiles {
        SlotFiles {
            kernel,
            initrd: b"initrd".to_vec(),
            device_trees: vec![("bcm2837-rpi-3-b.dtb".to_owned(), vec![0xd0, 0x0d, 0xfe, 0xed])],
            firmware: FirmwareFiles::default(),
            volume_id: 0xABC,
            efi: None,
        }
    }

    fn image() -> Vec<u8> {
        let mut image = vec![0; 4096];
        image[56..60].copy_from_slice(b"ARMd");
        image
    }

    #[test]
    fn a_slot_has_what_the_firmware_reads() {
        let made = slot_files(&board(), &files(image())).unwrap();
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
        let files = firmware_files(&deb, firmware).unwrap();
        let names = |files: &Files| files.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        assert_eq!(names(&files.loader), ["bootcode.bin", LICENCE]);
        assert_eq!(names(&files.slot), ["start.elf", "fixup.dat", LICENCE]);
        let (_folder, without) =
            open_deb("raspi-firmware", &[(&*boot, "b"), (&*start, "s"), (&*fixup, "f")]);
        assert!(firmware_files(&without, firmware).is_err());
        let mut lonely = Board::load("rpi3", Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let alone = lonely.boot.firmware.as_mut().unwrap();
        alone.slot_files.retain(|name| name.as_str() != "fixup.dat");
        let message = firmware_files(&deb, alone).unwrap_err().to_string();
        assert!(message.contains("start.elf and no fixup.dat"), "{message}");
    }

    #[test]
    fn what_the_firmware_cannot_start_is_refused() {
        assert!(slot_files(&board(), &files(vec![0; 4096])).is_err());
        let mut none = files(image());
        none.device_trees.clear();
        assert!(slot_files(&board(), &none).unwrap_err().to_string().contains("device_trees"));
    }
}
