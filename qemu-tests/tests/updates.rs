//! Updates to versions that work: into slot b, and from there back into slot a.

use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::fixture::{Lane, Variant};
use qemu_tests::{Disk, Machine, Options};
use slot::Slot;

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);

/// Waits for the whole road of one update, line by line.
fn see_update(machine: &mut Machine, version: &str, slot: &str) -> Result<()> {
    let console = &mut machine.console;
    console.wait_for(&format!("ota: found {version} "), TO_INSTALL)?;
    console.wait_for(&format!("ota: installed {version} in slot {slot}"), TO_INSTALL)?;
    console.wait_for("ota: trial armed", TO_BOOT)?;
    console.wait_for("ferrite: shutdown: reboot", TO_BOOT)?;
    console.wait_for(&format!("ferrite: slot {slot} (trial, 0 tries left)"), TO_BOOT)?;
    console.wait_for(&format!("first life: slot {slot} of demo {version} "), TO_BOOT)?;
    console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    console.wait_for(&format!("ota: committed {version} in slot {slot}"), TO_BOOT).map(drop)
}

#[test]
fn a_good_version_is_committed_and_stays_and_the_next_one_goes_back_into_slot_a() -> Result<()> {
    let lane = Lane::take()?;
    let repository = lane.repository()?;
    let second = lane.build(&Variant::good(2))?;
    let third = lane.build(&Variant::good(3))?;
    let disk = Disk::copy_of(&lane.base()?.img)?;

    repository.publish(&second)?;
    let mut machine = Machine::start("updates", &disk, &Options::default())?;
    see_update(&mut machine, &second.version, "b")?;
    let status = machine.console.shell_json("ota status --json")?;
    assert_eq!(status["version"], "2-good", "{status}");
    assert_eq!((&status["slot"], &status["fallback"]), (&"b".into(), &"a".into()), "{status}");
    assert_eq!(status["failed"].as_array().map(Vec::len), Some(0), "{status}");

    // It stays, however it is started again.
    machine.console.type_line("ctl reboot")?;
    machine.console.wait_for("ferrite: slot b (active, strike ", TO_BOOT)?;
    machine.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    machine.reset()?;
    machine.console.wait_for("ferrite: slot b (active, strike ", TO_BOOT)?;
    let both = ["ota: running 2-good (sequence 2) in slot b", "face: {"];
    machine.console.wait_for_all(&both, TO_BOOT)?;

    repository.publish(&third)?;
    see_update(&mut machine, &third.version, "a")?;
    machine.power_cut()?;
    let state = disk.boot_state()?.context("boot state")?;
    assert_eq!((state.active, state.trial, state.fallback), (Slot::A, None, Some(Slot::B)));
    Ok(())
}
