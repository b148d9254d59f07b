//! Every Raspberry Pi's image, looked at as its firmware looks at a card: nothing is started here.
//! What each rule is and where it comes from stands in `videocore`.

use anyhow::{Context, Result, ensure};
use qemu_tests::Disk;
use qemu_tests::fixture::{TestSlot, Variant, boot_key};
use qemu_tests::videocore::{self, Model, Reset};

#[test]
fn each_models_firmware_boots_slot_a_of_its_image() -> Result<()> {
    let test_slot = TestSlot::take()?;
    for model in Model::ALL {
        let board_file = Some(model.board_file());
        // The label is the folder, too.
        let label = model.board_file();
        let built = test_slot.build(&Variant { label, board_file, ..Variant::good(1) })?;
        let disk = Disk::copy_of(&built.img)?;
        let boot = || videocore::boot(&disk, model, Reset::default());
        let started = boot().with_context(|| format!("{model:?}"))?;
        assert_eq!(started.partition, 2, "{model:?}");
        let arguments = &started.arguments;
        ensure!(arguments.contains("console=tty") && arguments.contains("panic="), "{arguments}");
        ensure!(arguments.contains("ferrite.boot="), "{model:?}: {arguments}");
        ensure!(started.initramfs.starts_with(b"070701"), "{model:?}: no cpio archive");
        // A torn autoboot.txt must not boot the firmware partition.
        let at = disk.partition("firmware")?;
        let firmware = disk.read("firmware", 0, (at.end - at.start) as usize)?;
        let text = b"[all]\nboot_partition=2\n";
        let place = firmware.windows(text.len()).position(|window| window == text);
        let place = place.with_context(|| format!("{model:?}: no autoboot.txt"))?;
        disk.write("firmware", place as u64, &[0xFF; 512])?;
        assert_eq!(boot()?.partition, 2, "{model:?} with a torn autoboot.txt");
    }
    Ok(())
}

#[test]
fn a_bootloader_with_the_key_boots_the_signed_card_and_no_altered_one() -> Result<()> {
    let test_slot = TestSlot::take()?;
    let key = boot_key()?;
    for model in [Model::Pi4, Model::Pi5, Model::Pi5D] {
        let variant = |label, signed_for_pi| {
            let board_file = Some(model.board_file());
            Variant { label, board_file, signed_for_pi, ..Variant::good(1) }
        };
        let boot = |disk: &Disk| videocore::boot_signed(disk, model, Reset::default(), &key);
        let label = if model == Model::Pi4 { "signed-4" } else { "signed-5" };
        let signed = test_slot.build(&variant(label, true))?;
        let disk = Disk::copy_of(&signed.img)?;
        let started = boot(&disk).with_context(|| format!("{model:?}"))?;
        assert_eq!(started.partition, 2, "{model:?}");
        ensure!(started.initramfs.starts_with(b"070701"), "{model:?}: no cpio archive");
        // A board without a key, such as one that nobody has fused, boots the same.
        let unsigned = videocore::boot(&disk, model, Reset::default())?;
        ensure!(unsigned == started, "{model:?} boots something else without a key");

        // One bit of the kernel in the RAM disk.
        let at = disk.partition("boot-a")?;
        let boot_files = disk.read("boot-a", 0, (at.end - at.start) as usize)?;
        let code = &started.kernel[1 << 20..][..512];
        let place = boot_files.windows(code.len()).position(|window| window == code);
        disk.flip_bit("boot-a", place.context("the kernel is not found")? as u64, 3)?;
        let refused = boot(&disk).unwrap_err();
        ensure!(format!("{refused:#}").contains("not boot.sig's"), "{model:?}: {refused:#}");
        // Whoever has no private key can write the files, not sign them.
        let plain = test_slot.build(&variant(model.board_file(), false))?;
        let refused = boot(&Disk::copy_of(&plain.img)?).unwrap_err();
        ensure!(format!("{refused:#}").contains("not bootable"), "{model:?}: {refused:#}");
    }
    Ok(())
}
