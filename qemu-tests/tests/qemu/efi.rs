//! The images of `qemu-arm64-efi` and `pc-x86_64` under EDK2: the efi chooser's choices and counting,
//! an update tried through power cuts, versions that fall back.
//!
//! The firmware's variables are in the emulated machine's memory: every power cut loses them all,
//! and each machine starts with none.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::fixture::{Built, Lane, Repository, Variant};
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
/// A board, and where its chooser lies when it is built.
type Board = (&'static str, &'static str);
const ARM: Board = ("qemu-arm64-efi", "device/BOOTAA64.EFI");
const PC: Board = ("pc-x86_64", "device-amd64/BOOTX64.EFI");
const END: &str = "ferrite: no slot can be loaded, resetting";

/// Whether the chooser was built: it takes a Rust toolchain with libraries for UEFI.
fn can_be_tested((board, chooser): Board) -> bool {
    let target = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
    let built = target.join(chooser).is_file() || std::env::var_os("FERRITE_DEVICE").is_some();
    if !built {
        println!("NOT TESTED: {board}: target/{chooser} is not built; scripts/efi-rustc says why");
    }
    built
}

/// The version that gives the next one so many tries.
fn version(lane: &Lane, board: Board, sequence: u64, tries: u8) -> Result<Built> {
    let good = Variant::good(sequence);
    lane.build(&Variant { label: "efi", board_file: Some(board.0), tries: Some(tries), ..good })
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
    let line = machine.console.wait_for("face: {", TO_BOOT)?.text;
    let json = line.find('{').map(|at| &line[at..]).context("a result line")?;
    let result: Value = serde_json::from_str(json).with_context(|| line.clone())?;
    assert_eq!(result["detections"].as_array().map(Vec::len), Some(1), "{line}");
    Ok(())
}

/// The device, which runs 2-efi in slot b, is offered a broken version and comes back.
fn falls_back_from(
    (broken, said): (Variant, &str),
    lane: &Lane,
    board: Board,
    repository: &Repository,
    machine: &mut Machine,
) -> Result<()> {
    let built = lane.build(&Variant { board_file: Some(board.0), ..broken })?;
    repository.publish(&built)?;
    let console = &mut machine.console;
    console.wait_for(&format!("ota: installed {} in slot a", built.version), TO_INSTALL)?;
    console.wait_for("ferrite: slot a (trial, 0 tries left)", TO_BOOT)?;
    console.wait_for(said, TO_FAIL)?;
    console.wait_for("ferrite: slot b (active, strike ", TO_FAIL)?;
    console.wait_for("first life: slot b of demo 2-efi ", TO_BOOT)?;
    console.wait_for(&format!("ota: fell back from {}: ", built.version), TO_BOOT)?;
    Ok(())
}

/// Flips a bit of a slot's unified kernel image, which fills most of the partition from its start.
fn spoil_kernel(disk: &Disk, slot: Slot) -> Result<()> {
    let range = disk.partition(slot.boot_label())?;
    disk.flip_bit(slot.boot_label(), (range.end - range.start) / 4 / SECTOR * SECTOR, 3)
}

fn the_chooser_goes_by_the_boot_state_of(board: Board) -> Result<()> {
    if !can_be_tested(board) {
        return Ok(());
    }
    let lane = Lane::take()?;
    let disk = Disk::copy_of(&version(&lane, board, 1, 3)?.img)?;
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
    let mut machine =
        Machine::start(&format!("efi-chooser-{}", board.0), &disk, &Options::default())?;
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

fn a_version_is_committed_through_power_cuts_and_broken_ones_fall_back(board: Board) -> Result<()> {
    if !can_be_tested(board) {
        return Ok(());
    }
    let lane = Lane::take()?;
    let repository = lane.repository()?;
    let disk = Disk::copy_of(&version(&lane, board, 1, 3)?.img)?;
    let name = format!("efi-updates-{}", board.0);
    let start = || Machine::start(&name, &disk, &Options::default());

    let mut machine = start()?;
    machine.console.wait_for("ferrite: slot a (active, strike 1)", TO_BOOT)?;
    machine.console.wait_for("first life: slot a of demo 1-efi (sequence 1) verified", TO_BOOT)?;
    sees_one_face(&mut machine)?;

    repository.publish(&version(&lane, board, 2, 1)?)?;
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
    for broken in [panics(3), hangs(4)] {
        falls_back_from(broken, &lane, board, &repository, &mut machine)?;
    }
    machine.power_cut()
}

#[test]
fn the_chooser_goes_by_the_boot_state_alone() -> Result<()> {
    the_chooser_goes_by_the_boot_state_of(ARM)
}

#[test]
fn the_chooser_goes_by_the_boot_state_alone_on_a_pc() -> Result<()> {
    the_chooser_goes_by_the_boot_state_of(PC)
}

#[test]
fn a_good_version_is_committed_through_power_cuts_and_broken_ones_fall_back() -> Result<()> {
    a_version_is_committed_through_power_cuts_and_broken_ones_fall_back(ARM)
}

/// What differs from the test above is the processor: some minutes that CI does without.
#[test]
#[ignore = "just boot-all"]
fn a_good_version_is_committed_through_power_cuts_and_broken_ones_fall_back_on_a_pc() -> Result<()>
{
    a_version_is_committed_through_power_cuts_and_broken_ones_fall_back(PC)
}

#[test]
fn a_pc_sees_the_face_commits_a_good_version_and_falls_back_from_one_that_panics() -> Result<()> {
    if !can_be_tested(PC) {
        return Ok(());
    }
    let lane = Lane::take()?;
    let repository = lane.repository()?;
    let disk = Disk::copy_of(&version(&lane, PC, 1, 1)?.img)?;
    let mut machine = Machine::start("efi-pc", &disk, &Options::default())?;
    machine.console.wait_for("first life: slot a of demo 1-efi (sequence 1) verified", TO_BOOT)?;
    sees_one_face(&mut machine)?;
    repository.publish(&version(&lane, PC, 2, 1)?)?;
    machine.console.wait_for("ota: installed 2-efi in slot b", TO_INSTALL)?;
    machine.console.wait_for("ferrite: slot b (trial, 0 tries left)", TO_BOOT)?;
    machine.console.wait_for("ota: committed 2-efi in slot b", TO_BOOT)?;
    falls_back_from(panics(3), &lane, PC, &repository, &mut machine)?;
    machine.power_cut()
}
