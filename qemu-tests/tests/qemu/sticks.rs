//! USB sticks: a bundle on one updates a device whose image allows it; what is wrong with one is
//! said, and the device goes on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::bundles::BundleFixture;
use qemu_tests::fixture::{Built, TestSlot, Variant};
use qemu_tests::{Board, Machine, Options, Stick};

use crate::face::WRONG;
use crate::signed;

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_MOUNT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);
/// A socket for sticks, which the boards of QEMU's own have not got.
const WITH_USB: &[(&str, &str)] =
    &[("\"virtio-rng-pci\"]", "\"virtio-rng-pci\", \"qemu-xhci,id=usb\"]")];

/// A version for a board with a socket.
fn build(test_slot: &TestSlot, board: Board, variant: Variant) -> Result<Built> {
    let changes = if board == Board::Rpi3 { &[] } else { WITH_USB };
    test_slot.build(&board.variant(Variant { board: changes, ..variant }))
}

/// The version that devices start with.
fn first(sticks: bool) -> Variant {
    let label = if sticks { "sticks" } else { "no-sticks" };
    Variant { label, sticks, ..Variant::good(1) }
}

/// What lies below the sticks' folder, as seen by the workload of that name.
fn seen_by(machine: &mut Machine, workload: &str) -> Result<Vec<String>> {
    let status = machine.console.shell_json("ctl status --json")?;
    let pid = crate::two_halves::pid_of(&status, workload)?;
    machine.console.shell(&format!("busybox ls /proc/{pid}/root/run/media"))
}

#[test]
fn sticks_come_and_go_for_those_who_may_see_them_and_a_broken_one_is_said() -> Result<()> {
    come_and_go(Board::QemuArm64)
}

/// Through the USB controller of the board itself.
#[test]
fn a_raspberry_pi_3_sees_sticks_come_and_go() -> Result<()> {
    come_and_go(Board::Rpi3)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_device_with_edk2_sees_sticks_come_and_go() -> Result<()> {
    Board::QemuArm64Efi.run(come_and_go)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_pc_sees_sticks_come_and_go() -> Result<()> {
    Board::Pc.run(come_and_go)
}

fn come_and_go(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let built = build(&test_slot, board, first(true))?;
    let disk = board.disk(&built)?;
    let to_mount = board.patience(TO_MOUNT);
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let stick = Stick::with(&[("some file.toml", file)])?;
    let before = stick.sha256()?;
    let mut machine =
        board.start(&format!("sticks-come-{}", board.name()), &disk, &built, Options::default())?;
    machine.console.wait_for("ota: running ", board.patience(TO_BOOT))?;

    let number = machine.plug_in(&stick)?;
    machine.console.wait_for("ferrite: media: sda1 mounted at /run/media/sda1-", to_mount)?;
    ensure!(seen_by(&mut machine, "ota")?.len() == 1, "ota does not see the stick");
    ensure!(seen_by(&mut machine, "face")?.is_empty(), "the model's workload sees the stick");
    let mounts = machine.console.shell("busybox grep sda1 /proc/mounts")?.join("\n");
    for option in ["ro,", "nosuid", "nodev", "noexec"] {
        ensure!(mounts.contains(option), "{option} is missing: {mounts}");
    }
    let first = machine.console.shell("busybox head -n 1 /run/media/sda1-*/'some file.toml'")?;
    ensure!(first == ["[package]"], "the file is not what was put on the stick: {first:?}");
    machine.pull_out(number)?;
    machine.console.wait_for("ferrite: media: sda1 is gone", to_mount)?;
    ensure!(stick.sha256()? == before, "something was written to the stick");

    stick.break_file_system()?;
    let number = machine.plug_in(&stick)?;
    machine.console.wait_for("ferrite: media: sda1: cannot be mounted as vfat: ", to_mount)?;
    machine.pull_out(number)?;
    let again = Stick::with(&[("a.toml", file)])?;
    machine.plug_in(&again)?;
    machine.console.wait_for("ferrite: media: sda1 mounted at /run/media/sda1-", to_mount)?;
    ensure!(seen_by(&mut machine, "ota")?.len() == 1, "only the stick that is plugged in is seen");
    Ok(())
}

#[test]
fn an_image_that_does_not_allow_sticks_has_not_even_drivers_for_them() -> Result<()> {
    let (test_slot, board) = (TestSlot::take()?, Board::QemuArm64);
    let built = build(&test_slot, board, first(false))?;
    let disk = board.disk(&built)?;
    let stick = Stick::with(&[])?;
    let mut machine = board.start("sticks-off", &disk, &built, Options::default())?;
    machine.console.wait_for("ota: running ", TO_BOOT)?;
    machine.plug_in(&stick)?;
    // The controller is there, and nothing drives it.
    let found = machine.console.shell(
        "busybox grep -l 0x0c0330 /sys/bus/pci/devices/*/class; \
         busybox find /sys/bus/pci/drivers /usr/lib/modules -name '*xhci*' -o -name '*storage*'; \
         busybox ls -d /sys/block/sd* /run/media 2>/dev/null || true",
    )?;
    ensure!(found.len() == 1 && found[0].ends_with("/class"), "{found:?}");
    Ok(())
}

/// A stick with this one bundle.
fn with_bundle(bundle: &Path) -> Result<Stick> {
    let name = bundle.file_name().and_then(|name| name.to_str()).context("bundle's name")?;
    Stick::with(&[(name, bundle)])
}

#[test]
fn a_stick_updates_a_device_without_a_network_and_never_in_a_loop() -> Result<()> {
    updates_by_stick(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_stick_updates_a_device_with_edk2_and_never_in_a_loop() -> Result<()> {
    Board::QemuArm64Efi.run(updates_by_stick)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_stick_updates_a_pc_and_never_in_a_loop() -> Result<()> {
    Board::Pc.run(updates_by_stick)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_stick_updates_a_raspberry_pi_3_and_never_in_a_loop() -> Result<()> {
    updates_by_stick(Board::Rpi3)
}

fn updates_by_stick(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let build = |variant| build(&test_slot, board, Variant { sticks: true, ..variant });
    let built = build(first(true))?;
    let good = build(Variant { label: "by-stick", ..Variant::good(2) })?;
    let bad = build(Variant { label: "bad", golden: WRONG, ..Variant::good(3) })?;
    let [to_boot, to_mount, to_install] =
        [TO_BOOT, TO_MOUNT, TO_INSTALL].map(|time| board.patience(time));
    let bundles = BundleFixture::new()?;
    let disk = board.disk(&built)?;
    let name = format!("sticks-update-{}", board.name());
    let mut machine = board.start(&name, &disk, &built, Options::default())?;
    machine.console.wait_for("ota: running 1-sticks", to_boot)?;

    // What is no bundle, and one that was altered: said, and nothing is armed.
    let number = machine.plug_in(&with_bundle(&bundles.garbage()?)?)?;
    machine.console.wait_for("/garbage.bundle: not a bundle: ", to_install)?;
    machine.pull_out(number)?;
    let bundle = bundles.bundle(&good)?;
    let number =
        machine.plug_in(&with_bundle(&bundles.altered(&bundle, signed::chunks(&good)?)?)?)?;
    machine.console.wait_for("/altered.bundle: found 2-by-stick (sequence 2)", to_install)?;
    machine.console.wait_for("ota: stick: chunk ", to_install)?;
    machine.pull_out(number)?;
    machine.console.wait_for("is gone", to_mount)?;
    let state = machine.console.shell_json("ota status --json")?;
    ensure!(state["situation"] == "settled" && state["pending"].is_null(), "{state}");

    // The real one, which stays plugged in.
    let stick = with_bundle(&bundle)?;
    let before = stick.sha256()?;
    let number = machine.plug_in(&stick)?;
    let console = &mut machine.console;
    console.wait_for("/2-by-stick.bundle: found 2-by-stick (sequence 2)", to_install)?;
    console.wait_for("ota: installed 2-by-stick in slot b", to_install)?;
    console.wait_for("ferrite: slot b (trial, 0 tries left)", to_boot)?;
    console.wait_for("ota: committed 2-by-stick in slot b", to_boot)?;
    console.wait_for(": nothing newer than 2-by-stick (sequence 2)", to_install)?;
    machine.pull_out(number)?;
    machine.console.wait_for("is gone", to_mount)?;
    ensure!(stick.sha256()? == before, "something was written to the stick");

    // One that fails its trial, and stays plugged in as well: it is not tried again.
    machine.plug_in(&with_bundle(&bundles.bundle(&bad)?)?)?;
    let console = &mut machine.console;
    console.wait_for("ota: installed 3-bad in slot a", to_install)?;
    console.wait_for("initrd: slot b of demo 2-by-stick", to_install)?;
    console.wait_for("ota: fell back from 3-bad: ", to_boot)?;
    console
        .wait_for("/3-bad.bundle: refused 3-bad: it failed its trial here before", to_install)?;
    let tried = console.lines().iter().filter(|line| line.text.contains("found 3-bad")).count();
    ensure!(tried == 1, "3-bad was tried {tried} times");
    Ok(())
}
