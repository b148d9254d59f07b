//! Boards with UEFI: our own program on the firmware partition counts and chooses, a unified kernel
//! image on a slot's boot partition is what it starts. docs/choosers/efi.md explains them.

use anyhow::{Context, Result, bail, ensure};
use debian::deb::Deb;
use formats::efi::{self, MAX_UKI, PROFILES};
use uefi_image::{Profile, Signer, UnifiedKernel};

use super::{Files, SlotFiles};
use crate::config::board::Board;

/// What only this chooser needs of a slot.
pub struct Parts {
    /// systemd's stub, which the sections are appended to.
    pub stub: Vec<u8>,
    /// What is built, for people: the content of `.osrel`.
    pub os_release: String,
    /// Signs the image, where there are keys for Secure Boot.
    pub signer: Option<Signer>,
}

/// Takes the stub that the board names out of its package.
pub fn stub(board: &Board, package: Option<&Deb>) -> Result<Vec<u8>> {
    let stub = board.boot.stub.as_ref().context("the board file has no [boot.stub]")?;
    let Some(deb) = package else {
        bail!("the package {} is not locked; run `imager lock`", stub.package);
    };
    deb.file(stub.path.trim_start_matches('/')).with_context(|| {
        format!("{} {}: has no {}; correct the board file", deb.name, deb.version, stub.path)
    })
}

/// What lies on the firmware partition: the chooser.
pub fn firmware_files(board: &Board, program: &[u8], signer: Option<&Signer>) -> Result<Files> {
    let machine = board.debian.architecture.uefi();
    let name = machine.boot_program();
    machine.check(program).with_context(|| format!("the device program {name}"))?;
    let program = match signer {
        Some(signer) => signer.sign(program.to_vec()).with_context(|| name.to_owned())?,
        None => program.to_vec(),
    };
    Ok(vec![(format!("EFI/BOOT/{name}"), program)])
}

/// The unified kernel image of a slot, and its sum.
pub fn slot_files(board: &Board, files: &SlotFiles, parts: &Parts) -> Result<Files> {
    let made = unified(board, files, parts).and_then(|image| match &parts.signer {
        Some(signer) => signer.sign(image),
        None => Ok(image),
    });
    let image = made.context("the unified kernel image")?;
    Ok(with_sum(image))
}

/// An image and what tells that it has decayed.
pub fn with_sum(image: Vec<u8>) -> Files {
    let sum = efi::sum_text(&image).into_bytes();
    vec![(efi::UKI.to_owned(), image), (efi::SUM.to_owned(), sum)]
}

/// What the stub is to start: the kernel, and for each way to boot a slot a profile with its
/// arguments.
fn unified(board: &Board, files: &SlotFiles, parts: &Parts) -> Result<Vec<u8>> {
    let device_tree = match &files.device_trees[..] {
        [] => None,
        [(_, tree)] => Some(&tree[..]),
        _ => bail!("[kernel] `device_trees`: the efi chooser takes one at most"),
    };
    let profiles = PROFILES.map(|(slot, boot)| Profile {
        id: format!("slot-{slot}-{}", format!("{boot:?}").to_lowercase()),
        arguments: format!("{} {}", board.kernel.arguments, efi::arguments(slot, boot)),
    });
    let image = UnifiedKernel {
        machine: board.debian.architecture.uefi(),
        stub: &parts.stub,
        os_release: &parts.os_release,
        kernel_release: &board.kernel.release,
        kernel: &files.kernel,
        initramfs: &files.initrd,
        device_tree,
        profiles: &profiles,
    }
    .build()?;
    ensure!(image.len() as u64 <= MAX_UKI, "it is longer than {} MiB", MAX_UKI >> 20);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chooser::rpi::FirmwareFiles;
    use std::path::Path;
    use uefi_image::sample::program;
    use uefi_image::{Machine, Pe};

    fn board() -> Board {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        Board::load("qemu-arm64-efi", Path::new(folder)).unwrap()
    }

    fn files() -> SlotFiles {
        SlotFiles {
            kernel: program(Machine::Arm64),
            initrd: b"initrd".to_vec(),
            device_trees: Vec::new(),
            firmware: FirmwareFiles::default(),
            volume_id: 1,
            efi: None,
        }
    }

    fn parts() -> Parts {
        Parts { stub: program(Machine::Arm64), os_release: "ID=ferrite\n".to_owned(), signer: None }
    }

    #[test]
    fn a_slot_has_a_profile_for_each_way_to_boot_it() {
        let made = slot_files(&board(), &files(), &parts()).unwrap();
        assert_eq!(made, slot_files(&board(), &files(), &parts()).unwrap());
        let [(name, image), (sum_name, sum)] = &made[..] else { panic!("{} files", made.len()) };
        assert_eq!((&**name, &**sum_name), (efi::UKI, efi::SUM));
        let length = image.len() as u64;
        assert_eq!(efi::read_sum(sum).unwrap(), (formats::boot_state::crc32(image), length));
        let pe = Pe::read(image.clone()).unwrap();
        let text = |section| String::from_utf8_lossy(pe.content(section)).into_owned();
        let sections: Vec<_> = pe.sections().iter().map(|s| (s.name.as_str(), text(s))).collect();
        let names: Vec<_> = sections.iter().map(|(name, _)| *name).collect();
        assert_eq!(names[..5], [".text", ".osrel", ".uname", ".linux", ".initrd"]);
        assert_eq!(sections[4].1, "initrd");
        for (number, (slot, boot)) in PROFILES.into_iter().enumerate() {
            assert_eq!(names[5 + 2 * number..][..2], [".profile", ".cmdline"]);
            let arguments = &sections[6 + 2 * number].1;
            assert!(arguments.starts_with("console="), "{arguments}");
            assert!(arguments.ends_with(&efi::arguments(slot, boot)), "{arguments}");
        }
        assert_eq!(names.len(), 5 + 2 * PROFILES.len());
    }

    #[test]
    fn programs_for_another_processor_are_refused() {
        let other = program(Machine::Amd64);
        let message = format!("{:#}", firmware_files(&board(), &other, None).unwrap_err());
        assert!(message.contains("BOOTAA64.EFI") && message.contains("0x8664"), "{message}");
        let wrong = Parts { stub: other.clone(), ..parts() };
        assert!(slot_files(&board(), &files(), &wrong).is_err());
        let wrong = SlotFiles { kernel: b"\x1F\x8B".to_vec(), ..files() };
        let message = format!("{:#}", slot_files(&board(), &wrong, &parts()).unwrap_err());
        assert!(message.contains("the kernel: it is no PE image"), "{message}");
        let made = firmware_files(&board(), &program(Machine::Arm64), None).unwrap();
        assert_eq!(made[0].0, "EFI/BOOT/BOOTAA64.EFI");
    }
}
