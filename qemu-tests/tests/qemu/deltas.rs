//! The cheapest road in the guest: a large delta that `imager publish` made, what memory it takes,
//! and one that is altered on the way.

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use qemu_tests::fixture::{Lane, Variant};
use qemu_tests::{Disk, Fault, Machine, Options};

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);

/// The most memory that `ota` may take, whatever the delta's size.
const MOST_MEMORY: u64 = 24_000_000;

/// The C++ library and the shell as Debian 12 has them: a delta from them really moves code.
const OLDER: &[(&str, &str)] = &[
    ("busybox-static 1:1.37.0-6+b9", "busybox-static 1:1.35.0-4+deb12u1+b1"),
    (
        r#"version = "1:1.37.0-6+b9"
architecture = "arm64"
suite = "trixie"
path = "pool/main/b/busybox/busybox-static_1.37.0-6+b9_arm64.deb"
size = 847552
sha256 = "c833be48abfa16bc19c4966ec93e289ff1ce5d2f1476cad3a57bd105378cd15c""#,
        r#"version = "1:1.35.0-4+deb12u1+b1"
architecture = "arm64"
suite = "bookworm"
path = "pool/main/b/busybox/busybox-static_1.35.0-4+deb12u1+b1_arm64.deb"
size = 822236
sha256 = "732c9135564fc71337e0e05fb4da4d11e6c28c1834bce3e405e575afef2a52f5""#,
    ),
    ("libstdc++6 14.2.0-19", "libstdc++6 12.2.0-14+deb12u1"),
    (
        r#"version = "14.2.0-19"
architecture = "arm64"
suite = "trixie"
path = "pool/main/g/gcc-14/libstdc++6_14.2.0-19_arm64.deb"
size = 637536
sha256 = "6669b0c52a2e7c6af9adfdabce3ff6e286065cdfbc7b85280862b5f799daebee""#,
        r#"version = "12.2.0-14+deb12u1"
architecture = "arm64"
suite = "bookworm"
path = "pool/main/g/gcc-12/libstdc++6_12.2.0-14+deb12u1_arm64.deb"
size = 556608
sha256 = "26e138c677a985775331373828a6c286c551ff397cb735d00e2383cb273d1cb2""#,
    ),
    // The lists of the boards with another processor change with the first of each pair: a lock whose
    // lists name what it does not have is refused. Nothing of this is fetched here.
    (
        "name = \"busybox-static\"\nversion = \"1:1.37.0-6+b9\"\narchitecture = \"amd64\"",
        "name = \"busybox-static\"\nversion = \"1:1.35.0-4+deb12u1+b1\"\narchitecture = \"amd64\"",
    ),
    (
        "name = \"libstdc++6\"\nversion = \"14.2.0-19\"\narchitecture = \"amd64\"",
        "name = \"libstdc++6\"\nversion = \"12.2.0-14+deb12u1\"\narchitecture = \"amd64\"",
    ),
];

/// Waits until a version is installed.
fn see_installed(machine: &mut Machine, version: &str, slot: &str) -> Result<()> {
    let console = &mut machine.console;
    console.wait_for(&format!("ota: found {version} "), TO_INSTALL)?;
    console.wait_for(&format!("ota: installed {version} in slot {slot}"), TO_INSTALL).map(drop)
}

/// Waits until a version that is installed is committed.
fn see_committed(machine: &mut Machine, version: &str, slot: &str) -> Result<()> {
    let console = &mut machine.console;
    console.wait_for("ferrite: all vital workloads healthy", 2 * TO_BOOT)?;
    console.wait_for(&format!("ota: committed {version} in slot {slot}"), TO_BOOT).map(drop)
}

/// The most memory that `ota` had since it started, in bytes, as the guest's kernel counted it.
fn peak_memory(machine: &mut Machine) -> Result<u64> {
    let lines = machine.console.shell("busybox grep VmHWM /proc/$(busybox pidof ota)/status")?;
    let text = lines.join(" ");
    let kib = text.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).with_context(|| format!("no VmHWM in {text:?}"))
}

#[test]
fn a_large_delta_brings_the_next_version_and_an_altered_one_falls_to_the_payload() -> Result<()> {
    let lane = Lane::take()?;
    let repository = lane.repository()?;
    let older = Variant { label: "older-library", lock: OLDER, ..Variant::good(1) };
    let first = lane.build(&Variant { reboot: Some("manual"), ..older })?;
    let second = lane.build(&Variant::good(2))?;
    let third = lane.build(&Variant::good(3))?;
    let disk = Disk::copy_of(&first.img)?;
    let length =
        |built: &qemu_tests::fixture::Built| std::fs::metadata(&built.update).map(|f| f.len());

    repository.publish(&first)?;
    repository.publish_with(&second, &["--deltas", "1"])?;
    let mut machine = Machine::start("deltas", &disk, &Options::default())?;
    see_installed(&mut machine, &second.version, "b")?;
    let memory = peak_memory(&mut machine)?;
    let status = machine.console.shell_json("ota status --json")?;
    let install = &status["install"];
    let fetched = install["fetched"]["delta"].as_u64();
    ensure!(fetched > Some(300_000), "no large delta: {install}");
    ensure!(install["notes"] == serde_json::json!([]), "{install}");
    let (delta, payload) =
        (repository.server.served_of(".delta").bytes, repository.server.served_of(".update").bytes);
    println!(
        "delta: {delta} bytes, payload: {payload} of {}, memory: {memory}; {install}",
        length(&second)?
    );
    ensure!(delta + payload < length(&second)? / 10, "no small share: {delta} + {payload}");
    ensure!(memory <= MOST_MEMORY, "ota took {memory} bytes");
    let saved = install["saved_bytes"].as_u64();
    ensure!(saved > Some(length(&second)? / 10 * 9), "it saved more: {install}");
    let told = machine.console.shell("ota status")?.join("\n");
    ensure!(told.contains("delta") && told.contains("saved"), "{told}");
    machine.console.type_line("ctl reboot")?;
    see_committed(&mut machine, &second.version, "b")?;

    // Every byte of the next delta's frames that matters is behind its head.
    repository.server.spoil(".delta", Fault::Altered(40));
    repository.publish_with(&third, &["--deltas", "1"])?;
    see_installed(&mut machine, &third.version, "a")?;
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
