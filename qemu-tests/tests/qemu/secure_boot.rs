//! OVMF that enforces Secure Boot, with the keys of `imager keygen --secure-boot` enrolled: it starts
//! what they signed, and refuses an altered chooser, an altered kernel image and a whole disk that
//! nobody signed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use formats::Slot;
use formats::efi::{SUM, UKI, sum_text};
use formats::layout::FIRMWARE;
use qemu_tests::fixture::{TestSlot, Variant, secure_boot_keys};
use qemu_tests::{Disk, Machine, Options, variables};

use crate::fat::{read, write};

/// It reads and hashes 40 MB in an emulated processor.
const TO_BOOT: Duration = Duration::from_secs(180);
/// Debian's firmware that can enforce, and its empty store of variables.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const EMPTY: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const CHOOSER: &str = "EFI/BOOT/BOOTX64.EFI";

/// The image with a bit flipped in what the signature covers: in the middle.
fn altered(mut image: Vec<u8>) -> Result<Vec<u8>> {
    let middle = image.len() / 2;
    *image.get_mut(middle).context("it is empty")? ^= 4;
    Ok(image)
}

/// A machine whose firmware has the keys and no other variable.
fn start(name: &str, disk: &Disk, folder: &Path) -> Result<Machine> {
    let store = folder.join(format!("{name}.fd"));
    std::fs::write(&store, variables::enrolled(Path::new(EMPTY), &secure_boot_keys()?)?)
        .with_context(|| store.display().to_string())?;
    let uefi = Some((PathBuf::from(CODE), store));
    Machine::start(name, disk, &Options { uefi, ..Options::default() })
}

#[test]
fn secure_boot_starts_what_is_signed_and_refuses_the_rest_on_a_pc() -> Result<()> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/device-amd64/BOOTX64.EFI");
    if !Path::new(program).is_file() && std::env::var_os("FERRITE_DEVICE").is_none() {
        println!("NOT TESTED: the efi chooser is not built; scripts/efi-rustc says why");
        return Ok(());
    }
    let folder = tempfile::tempdir().context("temporary folder")?;
    let test_slot = TestSlot::take()?;
    let variant = |label, secure_boot| Variant {
        label,
        secure_boot,
        board_file: Some("pc-x86_64"),
        ..Variant::good(1)
    };
    let signed = test_slot.build(&variant("signed", true))?;
    let boot_a = Slot::A.boot_label();

    // What is signed runs, under a kernel in lockdown, with modules that Debian signed.
    let disk = Disk::copy_of(&signed.img)?;
    let mut machine = start("secure-boot", &disk, folder.path())?;
    let console = &mut machine.console;
    console.wait_for("initrd: slot a of demo 1-signed (sequence 1) verified", TO_BOOT)?;
    console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    let said = console.shell("dmesg | grep -i 'secure boot'")?.join("\n");
    ensure!(said.contains("Secure boot enabled"), "the kernel says: {said}");
    ensure!(said.contains("locked down from EFI Secure Boot"), "the kernel says: {said}");
    machine.power_cut()?;

    // A kernel image that is altered together with its sum: the firmware refuses it, slot b is empty.
    let kernel = altered(read(&disk, boot_a, UKI)?)?;
    write(&disk, boot_a, UKI, &kernel)?;
    write(&disk, boot_a, SUM, sum_text(&kernel).as_bytes())?;
    let mut machine = start("secure-boot-kernel", &disk, folder.path())?;
    let console = &mut machine.console;
    console.wait_for("ferrite: slot a (active, strike ", TO_BOOT)?;
    console.wait_for(&format!("ferrite: boot-a: the firmware refuses {UKI}: "), TO_BOOT)?;
    console.wait_for("ferrite: no slot can be loaded, resetting", TO_BOOT)?;
    machine.power_cut()?;

    // An altered chooser, and one that nobody signed: neither says a word.
    let unsigned = Disk::copy_of(&test_slot.build(&variant("unsigned", false))?.img)?;
    let disk = Disk::copy_of(&signed.img)?;
    write(&disk, FIRMWARE, CHOOSER, &altered(read(&disk, FIRMWARE, CHOOSER)?)?)?;
    for (name, disk) in [("secure-boot-chooser", &disk), ("secure-boot-unsigned", &unsigned)] {
        let mut machine = start(name, disk, folder.path())?;
        let (which, line) =
            machine.console.wait_for_any(&["Access Denied", "ferrite: "], TO_BOOT)?;
        ensure!(which == 0, "{name}: {}", line.text);
        machine.power_cut()?;
    }
    Ok(())
}
