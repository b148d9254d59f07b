//! Boards with UEFI: our own program on the firmware partition counts and chooses, a unified kernel
//! image on a slot's boot partition is what it starts. docs/choosers/efi.md explains them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use formats::efi::{self, MAX_UKI, PROFILES};
use formats::gpt;
use publisher::secure_boot_keys;
use uefi_image::{Profile, Signer, UnifiedKernel};

use super::method::{
    BootKeys, BootMethod, BootSigner, DeviceProgram, Files, FirmwareParts, Packages,
    PartitionTypes, SlotParts,
};
use super::target::Target;
use crate::config::board::machine::Architecture;

/// The module for the EFI variables: one of them says which disk a board with UEFI was started from.
/// A kernel of one's own without it finds its disk by the boot state.
const EFI_VARIABLES: &str = "efivarfs";

/// Boards with UEFI firmware.
#[derive(Debug)]
pub struct Efi;

impl BootMethod for Efi {
    fn name(&self) -> &'static str {
        "efi"
    }

    fn keys(&self) -> BootKeys {
        BootKeys { stub: true, ..BootKeys::default() }
    }

    fn partition_types(&self) -> PartitionTypes {
        PartitionTypes { firmware: gpt::EFI_SYSTEM, boot: gpt::LINUX_DATA }
    }

    fn initrd_modules(&self) -> &'static [&'static str] {
        &[EFI_VARIABLES]
    }

    fn device_programs(&self, architecture: Architecture) -> Vec<DeviceProgram> {
        vec![DeviceProgram {
            file: architecture.uefi().boot_program(),
            component: "efi-bootchooser",
            magic: b"MZ",
            kind: "UEFI",
        }]
    }

    /// Where there are keys for Secure Boot they sign, whatever the image file says: the firmware
    /// asks for it or does not mind.
    fn secure_boot(&self, keys: &Path, _asked_for: bool) -> Result<Option<Box<dyn BootSigner>>> {
        let signer = secure_boot_keys::signer(keys)?;
        Ok(signer.map(|signer| Box::new(signer) as Box<dyn BootSigner>))
    }

    fn firmware_files(&self, target: &Target, parts: &FirmwareParts) -> Result<Files> {
        let machine = target.architecture.uefi();
        let mut files = Vec::new();
        for (DeviceProgram { file, .. }, program) in parts.programs {
            machine.check(program).with_context(|| format!("the device program {file}"))?;
            let program = match parts.signer {
                Some(signer) => signer.sign_program(program.clone()).context(*file)?,
                None => program.clone(),
            };
            files.push((format!("EFI/BOOT/{file}"), program));
        }
        Ok(files)
    }

    fn slot_files(&self, target: &Target, parts: SlotParts) -> Result<Files> {
        slot_files(target, &parts, &stub(target, &parts.packages)?)
    }
}

impl BootSigner for Signer {
    fn identity(&self) -> Result<Vec<u8>> {
        self.certificate_der()
    }

    fn sign_program(&self, program: Vec<u8>) -> Result<Vec<u8>> {
        self.sign(program)
    }
}

/// One file is the kernel, the initramfs and the rest; beside it what tells that it has decayed.
fn slot_files(target: &Target, parts: &SlotParts, stub: &[u8]) -> Result<Files> {
    let made = unified(target, parts, stub).and_then(|image| match parts.signer {
        Some(signer) => signer.sign_program(image),
        None => Ok(image),
    });
    let image = made.context("the unified kernel image")?;
    let sum = efi::sum_text(&image).into_bytes();
    Ok(vec![(efi::UKI.to_owned(), image), (efi::SUM.to_owned(), sum)])
}

/// Takes the stub that the board names out of its package.
fn stub(target: &Target, packages: &Packages) -> Result<Vec<u8>> {
    let stub = target.stub.context("the board file has no [boot.stub]")?;
    let Some(deb) = packages.stub else {
        bail!("the package {} is not locked; run `imager lock`", stub.package);
    };
    deb.file(stub.path.trim_start_matches('/')).with_context(|| {
        format!("{} {}: has no {}; correct the board file", deb.name, deb.version, stub.path)
    })
}

/// What the stub is to start: the kernel, and for each way to boot a slot a profile with its
/// arguments.
fn unified(target: &Target, parts: &SlotParts, stub: &[u8]) -> Result<Vec<u8>> {
    let device_tree = match &parts.device_trees[..] {
        [] => None,
        [(_, tree)] => Some(&tree[..]),
        _ => bail!("[kernel] `device_trees`: the efi chooser takes one at most"),
    };
    let SlotParts { image: name, version, .. } = parts;
    let os_release = format!(
        "ID=ferrite\nNAME=Ferrite\nPRETTY_NAME=\"{name} {version}\"\nVERSION_ID={version}\n"
    );
    let profiles = PROFILES.map(|(slot, boot)| Profile {
        id: format!("slot-{slot}-{}", format!("{boot:?}").to_lowercase()),
        arguments: format!("{} {}", target.kernel_arguments, efi::arguments(slot, boot)),
    });
    let image = UnifiedKernel {
        machine: target.architecture.uefi(),
        stub,
        os_release: &os_release,
        kernel_release: target.kernel_release,
        kernel: &parts.kernel,
        initramfs: &parts.initrd,
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
    use crate::config::Board;
    use uefi_image::sample::program;
    use uefi_image::{Machine, Pe};

    fn board() -> Board {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        Board::load("qemu-arm64-efi", Path::new(folder)).unwrap()
    }

    fn parts() -> SlotParts<'static> {
        SlotParts {
            image: "demo",
            version: "1",
            kernel: program(Machine::Arm64),
            initrd: b"initrd".to_vec(),
            volume_id: 1,
            ..SlotParts::default()
        }
    }

    #[test]
    fn a_slot_has_a_profile_for_each_way_to_boot_it() {
        let (board, stub) = (board(), program(Machine::Arm64));
        let made = slot_files(&board.target(), &parts(), &stub).unwrap();
        assert_eq!(made, slot_files(&board.target(), &parts(), &stub).unwrap());
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
        let (board, other) = (board(), program(Machine::Amd64));
        let firmware_files = |bytes: &[u8]| {
            let programs = Efi.device_programs(Architecture::Arm64);
            let programs: Vec<_> = programs.into_iter().map(|p| (p, bytes.to_vec())).collect();
            let parts = FirmwareParts { programs: &programs, ..FirmwareParts::default() };
            Efi.firmware_files(&board.target(), &parts)
        };
        let message = format!("{:#}", firmware_files(&other).unwrap_err());
        assert!(message.contains("BOOTAA64.EFI") && message.contains("0x8664"), "{message}");
        assert!(slot_files(&board.target(), &parts(), &other).is_err());
        let wrong = SlotParts { kernel: b"\x1F\x8B".to_vec(), ..parts() };
        let stub = program(Machine::Arm64);
        let message = format!("{:#}", slot_files(&board.target(), &wrong, &stub).unwrap_err());
        assert!(message.contains("the kernel: it is no PE image"), "{message}");
        let made = firmware_files(&program(Machine::Arm64)).unwrap();
        assert_eq!(made[0].0, "EFI/BOOT/BOOTAA64.EFI");
    }
}
