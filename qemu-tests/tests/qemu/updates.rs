//! Updates to versions that work: into slot b, and from there back into slot a.

use std::time::Duration;

use anyhow::{Context, Result};
use formats::Slot;
use qemu_tests::fixture::{TestSlot, Variant};
use qemu_tests::{Board, Machine, Options};

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);

/// Waits for every step of one update, line by line.
fn see_update(board: Board, machine: &mut Machine, version: &str, slot: &str) -> Result<()> {
    let [to_boot, to_install] = [TO_BOOT, TO_INSTALL].map(|time| board.patience(time));
    let console = &mut machine.console;
    console.wait_for(&format!("ota: found {version} "), to_install)?;
    console.wait_for(&format!("ota: installed {version} in slot {slot}"), to_install)?;
    console.wait_for("ota: trial armed", to_boot)?;
    console.wait_for("ferrite: shutdown: reboot", to_boot)?;
    console.wait_for(&format!("ferrite: slot {slot} (trial, 0 tries left)"), to_boot)?;
    console.wait_for(&format!("initrd: slot {slot} of demo {version} "), to_boot)?;
    console.wait_for("ferrite: all vital workloads healthy", to_boot)?;
    console.wait_for(&format!("ota: committed {version} in slot {slot}"), to_boot).map(drop)
}

#[test]
fn a_good_version_is_committed_and_stays_and_the_next_one_goes_back_into_slot_a() -> Result<()> {
    updates(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_good_version_stays_and_the_next_one_goes_back_into_slot_a_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(updates)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_good_version_stays_and_the_next_one_goes_back_into_slot_a_on_a_pc() -> Result<()> {
    Board::Pc.run(updates)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_good_version_stays_and_the_next_one_goes_back_into_slot_a_on_a_raspberry_pi_3() -> Result<()> {
    updates(Board::Rpi3)
}

fn updates(board: Board) -> Result<()> {
    let to_boot = board.patience(TO_BOOT);
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let build = |variant| test_slot.build(&board.variant(variant));
    let (second, third) = (build(Variant::good(2))?, build(Variant::good(3))?);
    let base = build(Variant { label: "base", ..Variant::good(1) })?;
    let disk = board.disk(&base)?;

    board.publish(&repository, &base, &second)?;
    let name = format!("updates-{}", board.name());
    let mut machine = board.start(&name, &disk, &base, Options::default())?;
    see_update(board, &mut machine, &second.version, "b")?;
    let status = machine.console.shell_json("ota status --json")?;
    assert_eq!(status["version"], "2-good", "{status}");
    assert_eq!((&status["slot"], &status["fallback"]), (&"b".into(), &"a".into()), "{status}");
    assert_eq!(status["failed"].as_array().map(Vec::len), Some(0), "{status}");
    let status = machine.console.shell_json("ctl status --json")?;
    assert_eq!(status["trial"], false, "it is committed: {status}");

    // It stays, however it is started again.
    machine.console.type_line("ctl reboot")?;
    machine.console.wait_for("ferrite: slot b (active, strike ", to_boot)?;
    machine.console.wait_for("ferrite: all vital workloads healthy", to_boot)?;
    machine.reset()?;
    machine.console.wait_for("ferrite: slot b (active, strike ", to_boot)?;
    let both = ["ota: running 2-good (sequence 2) in slot b", "face: {"];
    machine.console.wait_for_all(&both, to_boot)?;

    board.publish(&repository, &second, &third)?;
    see_update(board, &mut machine, &third.version, "a")?;
    machine.power_cut()?;
    let state = disk.boot_state()?.context("boot state")?;
    assert_eq!((state.active, state.trial, state.fallback), (Slot::A, None, Some(Slot::B)));
    Ok(())
}
