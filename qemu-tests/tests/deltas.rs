//! The cheapest road in the guest: a delta that `imager publish` made, and one that is altered on
//! the way.

use std::time::Duration;

use anyhow::{ensure, Result};
use qemu_tests::fixture::{Lane, Variant};

use qemu_tests::{Disk, Fault, Machine, Options};

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);

/// Waits until a version is committed.
fn see_committed(machine: &mut Machine, version: &str, slot: &str) -> Result<()> {
    let console = &mut machine.console;
    console.wait_for(&format!("ota: found {version} "), TO_INSTALL)?;
    console.wait_for(&format!("ota: installed {version} in slot {slot}"), TO_INSTALL)?;
    console.wait_for("ferrite: all vital workloads healthy", 2 * TO_BOOT)?;
    console.wait_for(&format!("ota: committed {version} in slot {slot}"), TO_BOOT).map(drop)
}

#[test]
fn a_delta_brings_the_next_version_and_an_altered_one_falls_to_the_payload() -> Result<()> {
    let lane = Lane::take()?;
    let repository = lane.repository()?;
    let first = lane.base()?;
    let second = lane.build(&Variant::good(2))?;
    let third = lane.build(&Variant::good(3))?;
    let disk = Disk::copy_of(&first.img)?;
    let length =
        |built: &qemu_tests::fixture::Built| std::fs::metadata(&built.update).map(|f| f.len());

    repository.publish(&first)?;
    repository.publish_with(&second, &["--deltas", "1"])?;
    let mut machine = Machine::start("deltas", &disk, &Options::default())?;
    see_committed(&mut machine, &second.version, "b")?;
    let status = machine.console.shell_json("ota status --json")?;
    let install = &status["install"];
    ensure!(install["fetched"]["delta"].as_u64() > Some(0), "{install}");
    ensure!(install["notes"] == serde_json::json!([]), "{install}");
    let (delta, payload) =
        (repository.server.served_of(".delta").bytes, repository.server.served_of(".update").bytes);
    println!("delta: {delta} bytes, payload: {payload} of {}; {install}", length(&second)?);
    ensure!(delta + payload < length(&second)? / 20, "no small share: {delta} + {payload}");

    // Every byte of the next delta's frames that matters is behind its head.
    repository.server.spoil(".delta", Fault::Altered(40));
    repository.publish_with(&third, &["--deltas", "1"])?;
    see_committed(&mut machine, &third.version, "a")?;
    let status = machine.console.shell_json("ota status --json")?;
    let install = &status["install"];
    println!("altered: {install}");
    ensure!(
        install["notes"][0].as_str().is_some_and(|note| note.starts_with("delta: ")),
        "{install}"
    );
    ensure!(install["fetched"]["payload"].as_u64() > Some(0), "{install}");
    ensure!(
        install["saved_bytes"].as_u64() > Some(length(&third)? / 2),
        "what is held stays: {install}"
    );
    machine.power_cut()
}
