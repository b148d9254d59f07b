//! The cheapest chunk source in the guest: a large delta that `imager publish` made, what memory it takes,
//! and one that is altered on the way.

use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_tests::fixture::{TestSlot, Variant};
use qemu_tests::{Board, Fault, Machine, Options};

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);

/// The most memory that `ota` may take, whatever the delta's size.
const MOST_MEMORY: u64 = 24_000_000;

/// The C++ library and the shell as Debian 12 has them, for both processors: a delta from them really
/// moves code.
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
    (
        r#"version = "1:1.37.0-6+b9"
architecture = "amd64"
suite = "trixie"
path = "pool/main/b/busybox/busybox-static_1.37.0-6+b9_amd64.deb"
size = 955316
sha256 = "598a3fd92bdafc34cd81196b2952ad36e910e47a4ecf162f8ce5e8e262598e53""#,
        r#"version = "1:1.35.0-4+deb12u1+b1"
architecture = "amd64"
suite = "bookworm"
path = "pool/main/b/busybox/busybox-static_1.35.0-4+deb12u1+b1_amd64.deb"
size = 928188
sha256 = "3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744""#,
    ),
    (
        r#"version = "14.2.0-19"
architecture = "amd64"
suite = "trixie"
path = "pool/main/g/gcc-14/libstdc++6_14.2.0-19_amd64.deb"
size = 713628
sha256 = "ab1fa05837aa7a92aae748fd07a18a35f7d18bb4a71c4724fe2bbf0e32089de0""#,
        r#"version = "12.2.0-14+deb12u1"
architecture = "amd64"
suite = "bookworm"
path = "pool/main/g/gcc-12/libstdc++6_12.2.0-14+deb12u1_amd64.deb"
size = 612604
sha256 = "5cd3171216d4ab0fc911cfe9c35509bf2dd8f47761c43b7f6a4296701551a24d""#,
    ),
];

/// Waits until a version is installed.
fn see_installed(board: Board, machine: &mut Machine, version: &str, slot: &str) -> Result<()> {
    let (to_install, console) = (board.patience(TO_INSTALL), &mut machine.console);
    console.wait_for(&format!("ota: found {version} "), to_install)?;
    console.wait_for(&format!("ota: installed {version} in slot {slot}"), to_install).map(drop)
}

/// Waits until a version that is installed is committed.
fn see_committed(board: Board, machine: &mut Machine, version: &str, slot: &str) -> Result<()> {
    let (to_boot, console) = (board.patience(TO_BOOT), &mut machine.console);
    console.wait_for("ferrite: all vital workloads healthy", 2 * to_boot)?;
    console.wait_for(&format!("ota: committed {version} in slot {slot}"), to_boot).map(drop)
}

/// The most memory that both halves of `ota` together had since they started, in bytes, as the
/// guest's kernel counted it.
fn peak_memory(machine: &mut Machine) -> Result<u64> {
    let lines = machine
        .console
        .shell("for P in $(busybox pidof ota); do busybox grep VmHWM /proc/$P/status; done")?;
    let text = lines.join(" ");
    let kib: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    ensure!(kib.len() == 2, "not the two halves: {text:?}");
    Ok(kib.iter().sum::<u64>() * 1024)
}

#[test]
fn a_large_delta_brings_the_next_version_and_an_altered_one_falls_to_the_payload() -> Result<()> {
    deltas(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_large_delta_and_an_altered_one_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(deltas)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_large_delta_and_an_altered_one_on_a_pc() -> Result<()> {
    Board::Pc.run(deltas)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_large_delta_and_an_altered_one_on_a_raspberry_pi_3() -> Result<()> {
    deltas(Board::Rpi3)
}

fn deltas(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let build = |variant| test_slot.build(&board.variant(variant));
    let repository = test_slot.repository()?;
    let older = Variant { label: "older-library", lock: OLDER, ..Variant::good(1) };
    let first = build(Variant { reboot: Some("manual"), ..older })?;
    let (second, third) = (build(Variant::good(2))?, build(Variant::good(3))?);
    let disk = board.disk(&first)?;
    let length =
        |built: &qemu_tests::fixture::Built| std::fs::metadata(&built.update).map(|f| f.len());

    repository.publish(&first)?;
    repository.publish_with(&second, &["--deltas", "1"])?;
    let name = format!("deltas-{}", board.name());
    let mut machine = board.start(&name, &disk, &first, Options::default())?;
    see_installed(board, &mut machine, &second.version, "b")?;
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
    see_committed(board, &mut machine, &second.version, "b")?;

    // Every byte of the next delta's frames that matters is behind its head.
    repository.server.spoil(".delta", Fault::Altered(40));
    repository.publish_with(&third, &["--deltas", "1"])?;
    see_installed(board, &mut machine, &third.version, "a")?;
    see_committed(board, &mut machine, &third.version, "a")?;
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
