//! Every Raspberry Pi's image, looked at as its firmware looks at a card: nothing is started here.
//! What each rule is and where it comes from stands in `videocore`.

use anyhow::{ensure, Context, Result};
use qemu_tests::fixture::{Lane, Variant};
use qemu_tests::videocore::{self, Model, Reset};
use qemu_tests::Disk;

#[test]
fn each_models_firmware_boots_slot_a_of_its_image() -> Result<()> {
    let lane = Lane::take()?;
    for model in Model::ALL {
        let board_file = Some(model.board_file());
        // The label is the folder, too.
        let label = model.board_file();
        let built = lane.build(&Variant { label, board_file, ..Variant::good(1) })?;
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
