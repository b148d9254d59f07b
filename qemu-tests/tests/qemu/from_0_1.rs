//! A device that was made with version 0.1: its boot script, which no update replaces, its boot state,
//! and the files of its `ota`.

use std::time::Duration;

use anyhow::{Context, Result};
use formats::Slot;
use formats::boot_state::BootState;
use qemu_tests::fixture::{TestSlot, Variant, release_0_1};
use qemu_tests::{Board, Options};

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(180);

#[test]
#[ignore = "compiles version 0.1; `just boot-all` runs it"]
fn a_device_of_version_0_1_takes_this_version_and_finds_its_way_with_the_old_loader() -> Result<()>
{
    let board = Board::QemuArm64;
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let release = Some(release_0_1()?);
    let old = test_slot.build(&Variant { label: "zero", release, ..Variant::good(1) })?;
    let (second, third) =
        (test_slot.build(&Variant::good(2))?, test_slot.build(&Variant::good(3))?);
    let disk = board.disk(&old)?;
    let mut machine = board.start("from-0-1", &disk, &old, Options::default())?;
    let console = &mut machine.console;
    console.wait_for("ota: running 1-zero (sequence 1) in slot a", TO_BOOT)?;

    for (version, slot) in [(&second, Slot::B), (&third, Slot::A)] {
        board.publish(&repository, &old, version)?;
        let name = &version.version;
        console.wait_for(&format!("ota: installed {name} in slot {slot}"), TO_INSTALL)?;
        console.wait_for(&format!("ferrite: slot {slot} (trial, "), TO_BOOT)?;
        console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
        console.wait_for(&format!("ota: committed {name} in slot {slot}"), TO_BOOT)?;
    }
    machine.power_cut()?;
    let state = disk.boot_state()?.context("boot state")?;
    assert_eq!((state.active, state.fallback), (Slot::A, Some(Slot::B)));

    // The old script counts to five, and counts no boot of the fallback. The version in it knows
    // that the other one was committed, and brings it back.
    disk.set_boot_state(&BootState { strikes: 5, ..state })?;
    let mut machine = board.start("from-0-1-fallback", &disk, &old, Options::default())?;
    let console = &mut machine.console;
    console.wait_for("ferrite: slot b (fallback, slot a had 05 strikes)", TO_BOOT)?;
    console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    console.wait_for("ota: fell back from 3-good: ", TO_BOOT)?;
    console.type_line("ota retry 3-good")?;
    console.wait_for("ferrite: slot a (trial, ", TO_INSTALL)?;
    console.wait_for("ota: committed 3-good in slot a", TO_BOOT)?;
    machine.power_cut()
}
