//! The image for the Raspberry Pi 4 in QEMU's `raspi4b`, as far as that goes: no network, and a
//! device tree without what QEMU lacks (docs/boards/rpi4.md). It is the image with signed boot files,
//! in a board that boots no others; `pi_cards.rs` looks at the one without.

use std::time::Duration;

use anyhow::Result;
use qemu_tests::fixture::{TestSlot, Variant, boot_key};
use qemu_tests::videocore::{Model, can_play};
use qemu_tests::{Disk, Machine, Options};

const TO_BOOT: Duration = Duration::from_secs(90);

#[test]
fn a_pi_4_boots_to_its_first_inference_and_once_more() -> Result<()> {
    if !can_play(Model::Pi4)? {
        println!("NOT TESTED: this QEMU has no raspi4b; 9.0 and later have");
        return Ok(());
    }
    let test_slot = TestSlot::take()?;
    let board_file = Some("rpi4");
    let variant = Variant { label: "pi4", board_file, signed_for_pi: true, ..Variant::good(1) };
    let built = test_slot.build(&variant)?;
    let (disk, key) = (Disk::copy_of(&built.img)?, boot_key()?);
    // QEMU takes cards of a power of two only.
    disk.grow(2 << 30)?;
    let options = Options { pi: Some(Model::Pi4), boot_key: Some(key), ..Options::default() };
    let mut pi = Machine::start("rpi4-boots", &disk, &options)?;
    pi.console.wait_for("ferrite: slot a (active, strike 1)", TO_BOOT)?;
    pi.console.wait_for("ferrite: initrd: slot a of demo 1-pi4 (sequence 1) verified", TO_BOOT)?;
    pi.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    let line = pi.console.wait_for("face: {", TO_BOOT)?.text;
    assert_eq!(line.matches("\"score\":").count(), 1, "{line}");
    pi.console.type_line("ctl reboot")?;
    pi.console.wait_for("ferrite: slot a (active, strike ", TO_BOOT)?;
    pi.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    assert_eq!(pi.boots(), [2, 2]);
    Ok(())
}
