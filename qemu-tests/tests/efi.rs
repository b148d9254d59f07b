//! The image of `qemu-arm64-efi` under EDK2: the efi chooser's choices and counting, an update tried
//! through power cuts, versions that fall back.
//!
//! The firmware's variables are in the emulated machine's memory: every power cut loses them all,
//! and each machine starts with none.

use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::fixture::{Built, Lane, Variant};
use qemu_tests::{Disk, Machine, Options};
use serde_json::Value;
use slot::boot_state::BootState;
use slot::efi::UKI;
use slot::layout::SECTOR;
use slot::Slot;

const TO_BOOT: Duration = Duration::from_secs(90);
const TO_INSTALL: Duration = Duration::from_secs(180);
/// The watchdog's minute, and a boot.
const TO_FAIL: Duration = Duration::from_secs(180);
const BOARD: Option<&str> = Some("qemu-arm64-efi");
const END: &str = "ferrite: no slot can be loaded, resetting";

/// Whether the chooser was built: it takes a Rust toolchain with libraries for UEFI.
fn can_be_tested() -> bool {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/device/BOOTAA64.EFI");
    let built =
        std::path::Path::new(program).is_file() || std::env::var_os("FERRITE_DEVICE").is_some();
    if !built {
        println!("NOT TESTED: the efi chooser is not built; scripts/efi-rustc says why");
    }
    built
}

/// The version that gives the next one so many tries.
fn version(lane: &Lane, sequence: u64, tries: u8) -> Result<Built> {
    let good = Variant::good(sequence);
    lane.build(&Variant { label: "efi", board_file: BOARD, tries: Some(tries), ..good })
}

/// Flips a bit of a slot's unified kernel image, which fills most of the partition from its start.
fn spoil_kernel(disk: &Disk, slot: Slot) -> Result<()> {
    let range = disk.partition(slot.boot_label())?;
    disk.flip_bit(slot.boot_label(), (range.end - range.start) / 4 / SECTOR * SECTOR, 3)
}

#[test]
fn the_chooser_goes_by_the_boot_state_alone() -> Result<()> {
    if !can_be_tested() {
        return Ok(());
    }
    let lane = Lane::take()?;
    let disk = Disk::copy_of(&version(&lane, 1, 3)?.img)?;
    // Slot a's kernel has decayed, slot b is empty.
    spoil_kernel(&disk, Slot::A)?;
    let armed = BootState {
        generation: 7,
        trial: Some(Slot::B),
        tries: 1,
        strikes: 0xFE,
        ..BootState::fresh()
    };
    disk.set_boot_state_copies([None, Some(&armed)])?;
    let mut machine = Machine::start("efi-chooser", &disk, &Options::default())?;
    let console = &mut machine.console;
    for line in [
        "ferrite: watchdog armed, 60 s",
        "ferrite: slot b (trial, 0 tries left)",
        "ferrite: boot-b: no file system",
        "ferrite: slot b cannot be loaded",
        "ferrite: slot a (active, strike ff)",
        &format!("ferrite: {UKI} of slot a is altered"),
        "ferrite: slot a cannot be loaded",
        END,
        // Reset, and counted.
        "ferrite: slot a (active, strike ff)",
        END,
    ] {
        console.wait_for(line, TO_BOOT)?;
    }
    let state = disk.boot_state()?.context("boot state")?;
    assert_eq!((state.generation, state.tries, state.strikes), (10, 0, 0xFF));
    assert_eq!(state.note, "boot-b-not-loadable");

    machine.pause()?;
    disk.set_boot_state_copies([None, None])?;
    machine.reset()?;
    machine.resume()?;
    for line in [
        "ferrite: boot state lost, starting afresh with slot a",
        "ferrite: slot a (active, strike 1)",
        "ferrite: slot b (fallback, slot a had 1 strikes)",
        END,
    ] {
        machine.console.wait_for(line, TO_BOOT)?;
    }
    machine.power_cut()?;
    let state = disk.boot_state()?.context("boot state")?;
    assert_eq!((state.generation, state.strikes, state.fallback), (1, 1, Some(Slot::B)));
    Ok(())
}

#[test]
fn a_good_version_is_committed_through_power_cuts_and_broken_ones_fall_back() -> Result<()> {
    if !can_be_tested() {
        return Ok(());
    }
    let lane = Lane::take()?;
    let repository = lane.repository()?;
    let disk = Disk::copy_of(&version(&lane, 1, 3)?.img)?;
    let start = || Machine::start("efi-updates", &disk, &Options::default());

    let mut machine = start()?;
    machine.console.wait_for("ferrite: slot a (active, strike 1)", TO_BOOT)?;
    machine.console.wait_for("first life: slot a of demo 1-efi (sequence 1) verified", TO_BOOT)?;
    let line = machine.console.wait_for("face: {", TO_BOOT)?.text;
    let json = line.find('{').map(|at| &line[at..]).context("a result line")?;
    let result: Value = serde_json::from_str(json).with_context(|| line.clone())?;
    assert_eq!(result["detections"].as_array().map(Vec::len), Some(1), "{line}");

    repository.publish(&version(&lane, 2, 1)?)?;
    machine.console.wait_for("ota: installed 2-efi in slot b", TO_INSTALL)?;
    // Each line, and the power is cut: the trial is tried again while it has tries left.
    machine.console.wait_for("ferrite: slot b (trial, 2 tries left)", TO_BOOT)?;
    machine.power_cut()?;
    let mut machine = start()?;
    machine.console.wait_for("ferrite: slot b (trial, 1 tries left)", TO_BOOT)?;
    machine.console.wait_for("first life: slot b of demo 2-efi ", TO_BOOT)?;
    machine.power_cut()?;
    let mut machine = start()?;
    machine.console.wait_for("ferrite: slot b (trial, 0 tries left)", TO_BOOT)?;
    machine.console.wait_for("ota: committed 2-efi in slot b", TO_BOOT)?;
    machine.power_cut()?;
    let state = disk.boot_state()?.context("boot state")?;
    assert_eq!((state.active, state.trial, state.fallback), (Slot::B, None, Some(Slot::A)));

    let mut machine = start()?;
    machine.console.wait_for("ferrite: slot b (active, strike 1)", TO_BOOT)?;
    machine.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    for (broken, said) in [
        (
            Variant {
                label: "efi-panics",
                board: &[("panic=5", "panic=5 rdinit=/nonexistent")],
                ..Variant::good(3)
            },
            "Kernel panic - not syncing: VFS: Unable to mount root fs",
        ),
        // Waits for ever, with no module loaded: what ends it is the watchdog that the chooser
        // armed.
        (
            Variant {
                label: "efi-hangs",
                board: &[("panic=5", "panic=5 rdinit=/nonexistent root=/dev/vdz9 rootwait")],
                ..Variant::good(4)
            },
            "ferrite: watchdog armed, 60 s",
        ),
    ] {
        let built = lane.build(&Variant { board_file: BOARD, ..broken })?;
        repository.publish(&built)?;
        let console = &mut machine.console;
        console.wait_for(&format!("ota: installed {} in slot a", built.version), TO_INSTALL)?;
        console.wait_for("ferrite: slot a (trial, 0 tries left)", TO_BOOT)?;
        console.wait_for(said, TO_FAIL)?;
        console.wait_for("ferrite: slot b (active, strike ", TO_FAIL)?;
        console.wait_for("first life: slot b of demo 2-efi ", TO_BOOT)?;
        console.wait_for(&format!("ota: fell back from {}: ", built.version), TO_BOOT)?;
    }
    machine.power_cut()
}
