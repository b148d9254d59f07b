//! The images of `qemu-arm64-efi` and `pc-x86_64` under EDK2: the efi chooser's choices and counting,
//! an update tried through power cuts, versions that fall back.
//!
//! The firmware's variables are in the emulated machine's memory: every power cut loses them all,
//! and each machine starts with none.

use std::time::Duration;

use anyhow::{Context, Result};
use formats::Slot;
use formats::boot_state::{BootState, STRIKES_PER_ROUND};
use formats::efi::UKI;
use formats::layout::SECTOR;
use qemu_tests::fixture::{Built, Repository, TestSlot, Variant};
use qemu_tests::{Board, Disk, Machine, Options};

use crate::face::assert_one_face;
use crate::neighbours::Neighbours;

const TO_BOOT: Duration = Duration::from_secs(90);
const TO_INSTALL: Duration = Duration::from_secs(180);
/// The watchdog's minute, and a boot.
const TO_FAIL: Duration = Duration::from_secs(180);
const END: &str = "ferrite: no slot can be loaded, resetting";

/// The version that gives the next one so many tries.
fn version(test_slot: &TestSlot, board: Board, sequence: u64, tries: u8) -> Result<Built> {
    let good = Variant::good(sequence);
    test_slot.build(&board.variant(Variant { label: "efi", tries: Some(tries), ..good }))
}

/// A version whose kernel finds nothing to run and panics, and the line that it says.
fn panics(sequence: u64) -> (Variant, &'static str) {
    let board = &[("panic=5", "panic=5 rdinit=/nonexistent")];
    let variant = Variant { label: "efi-panics", board, ..Variant::good(sequence) };
    (variant, "Kernel panic - not syncing: VFS: Unable to mount root fs")
}

/// One that waits for ever, with no module loaded: what ends it is the watchdog that the chooser
/// armed.
fn hangs(sequence: u64) -> (Variant, &'static str) {
    let board = &[("panic=5", "panic=5 rdinit=/nonexistent root=/dev/vdz9 rootwait")];
    let variant = Variant { label: "efi-hangs", board, ..Variant::good(sequence) };
    (variant, "ferrite: watchdog armed, 60 s")
}

/// Waits for the first inference: one face.
fn sees_one_face(machine: &mut Machine) -> Result<()> {
    assert_one_face(&machine.console.wait_for("face: {", TO_BOOT)?.text)
}

/// The device, which runs 2-efi in slot b, is offered a broken version and comes back.
fn falls_back_from(
    (broken, said): (Variant, &str),
    test_slot: &TestSlot,
    board: Board,
    repository: &Repository,
    machine: &mut Machine,
) -> Result<()> {
    let built = test_slot.build(&board.variant(broken))?;
    repository.publish(&built)?;
    let console = &mut machine.console;
    console.wait_for(&format!("ota: installed {} in slot a", built.version), TO_INSTALL)?;
    console.wait_for("ferrite: slot a (trial, 0 tries left)", TO_BOOT)?;
    console.wait_for(said, TO_FAIL)?;
    console.wait_for("ferrite: slot b (active, strike ", TO_FAIL)?;
    console.wait_for("initrd: slot b of demo 2-efi ", TO_BOOT)?;
    console.wait_for(&format!("ota: fell back from {}: ", built.version), TO_BOOT)?;
    Ok(())
}

/// Flips a bit of a slot's unified kernel image, which fills most of the partition from its start.
fn spoil_kernel(disk: &Disk, slot: Slot) -> Result<()> {
    let range = disk.partition(slot.boot_label())?;
    disk.flip_bit(slot.boot_label(), (range.end - range.start) / 4 / SECTOR * SECTOR, 3)
}

fn the_chooser_goes_by_the_boot_state_of(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let disk = Disk::copy_of(&version(&test_slot, board, 1, 3)?.img)?;
    // Slot a's kernel has decayed, slot b is empty.
    spoil_kernel(&disk, Slot::A)?;
    let armed = BootState {
        generation: 7,
        trial: Some(Slot::B),
        tries: 1,
        strikes: STRIKES_PER_ROUND - 1,
        ..BootState::fresh()
    };
    disk.set_boot_state_copies([None, Some(&armed)])?;
    let mut machine =
        Machine::start(&format!("efi-bootchooser-{}", board.name()), &disk, &Options::default())?;
    let console = &mut machine.console;
    for line in [
        "ferrite: watchdog armed, 60 s",
        "ferrite: slot b (trial, 0 tries left)",
        "ferrite: boot-b: no file system",
        "ferrite: slot b cannot be loaded",
        "ferrite: slot a (active, strike 0)",
        &format!("ferrite: {UKI} of slot a is altered"),
        "ferrite: slot a cannot be loaded",
        END,
        // Reset, and counted.
        "ferrite: slot a (active, strike 1)",
        END,
    ] {
        console.wait_for(line, TO_BOOT)?;
    }
    let state = disk.boot_state()?.context("boot state")?;
    assert_eq!((state.generation, state.tries, state.strikes), (10, 0, 1));
    assert_eq!(state.note, "boot-b-not-loadable");

    machine.pause()?;
    disk.set_boot_state_copies([None, None])?;
    machine.reset()?;
    machine.resume()?;
    for line in [
        "ferrite: boot state lost, starting afresh with slot a",
        "ferrite: slot a (active, strike 1)",
        "ferrite: slot b (fallback, strike 1)",
        END,
    ] {
        machine.console.wait_for(line, TO_BOOT)?;
    }
    machine.power_cut()?;
    let state = disk.boot_state()?.context("boot state")?;
    assert_eq!((state.generation, state.strikes, state.fallback), (1, 1, Some(Slot::B)));
    Ok(())
}

fn a_version_is_committed_through_power_cuts_and_broken_ones_fall_back(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let disk = Disk::copy_of(&version(&test_slot, board, 1, 3)?.img)?;
    let name = format!("efi-updates-{}", board.name());
    // All of it beside other disks with Ferrite on them.
    let neighbours = Neighbours::of(board, &disk)?;
    let start = || Machine::start(&name, &disk, &neighbours.beside(Options::default()));

    let mut machine = start()?;
    machine.console.wait_for("ferrite: slot a (active, strike 1)", TO_BOOT)?;
    machine.console.wait_for("initrd: slot a of demo 1-efi (sequence 1) verified", TO_BOOT)?;
    sees_one_face(&mut machine)?;

    repository.publish(&version(&test_slot, board, 2, 1)?)?;
    machine.console.wait_for("ota: installed 2-efi in slot b", TO_INSTALL)?;
    // Each line, and the power is cut: the trial is tried again while it has tries left.
    machine.console.wait_for("ferrite: slot b (trial, 2 tries left)", TO_BOOT)?;
    machine.power_cut()?;
    let mut machine = start()?;
    machine.console.wait_for("ferrite: slot b (trial, 1 tries left)", TO_BOOT)?;
    machine.console.wait_for("initrd: slot b of demo 2-efi ", TO_BOOT)?;
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
    neighbours.assert_left_alone(&mut machine.console)?;
    for broken in [panics(3), hangs(4)] {
        falls_back_from(broken, &test_slot, board, &repository, &mut machine)?;
    }
    machine.power_cut()
}

#[test]
fn the_chooser_goes_by_the_boot_state_alone() -> Result<()> {
    Board::QemuArm64Efi.run(the_chooser_goes_by_the_boot_state_of)
}

#[test]
fn the_chooser_goes_by_the_boot_state_alone_on_a_pc() -> Result<()> {
    Board::Pc.run(the_chooser_goes_by_the_boot_state_of)
}

#[test]
fn a_good_version_is_committed_through_power_cuts_and_broken_ones_fall_back() -> Result<()> {
    Board::QemuArm64Efi.run(a_version_is_committed_through_power_cuts_and_broken_ones_fall_back)
}

/// What differs from the test above is the processor: some minutes that CI does without.
#[test]
#[ignore = "just boot-all"]
fn a_good_version_is_committed_through_power_cuts_and_broken_ones_fall_back_on_a_pc() -> Result<()>
{
    Board::Pc.run(a_version_is_committed_through_power_cuts_and_broken_ones_fall_back)
}

#[test]
fn a_pc_sees_the_face_commits_a_good_version_and_falls_back_from_one_that_panics() -> Result<()> {
    Board::Pc.run(sees_the_face_commits_and_falls_back)
}

fn sees_the_face_commits_and_falls_back(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let disk = Disk::copy_of(&version(&test_slot, board, 1, 1)?.img)?;
    let mut machine = Machine::start("efi-pc", &disk, &Options::default())?;
    machine.console.wait_for("initrd: slot a of demo 1-efi (sequence 1) verified", TO_BOOT)?;
    sees_one_face(&mut machine)?;
    repository.publish(&version(&test_slot, board, 2, 1)?)?;
    machine.console.wait_for("ota: installed 2-efi in slot b", TO_INSTALL)?;
    machine.console.wait_for("ferrite: slot b (trial, 0 tries left)", TO_BOOT)?;
    machine.console.wait_for("ota: committed 2-efi in slot b", TO_BOOT)?;
    falls_back_from(panics(3), &test_slot, board, &repository, &mut machine)?;
    machine.power_cut()
}
