//! USB sticks: a bundle on one updates a device whose image allows it; what is wrong with one is
//! said, and the device goes on.

use std::path::Path;
use std::time::Duration;

use anyhow::{ensure, Result};
use qemu_tests::fixture::{Built, Lane, Variant};
use qemu_tests::{Disk, Machine, Options, Stick};

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_MOUNT: Duration = Duration::from_secs(60);

/// A socket for sticks, which the board has not got.
const WITH_USB: &[(&str, &str)] =
    &[("\"virtio-rng-pci\"]", "\"virtio-rng-pci\", \"qemu-xhci,id=usb\"]")];

/// The version that devices with a socket start with.
fn first(lane: &Lane, sticks: bool) -> Result<Built> {
    let label = if sticks { "sticks" } else { "no-sticks" };
    lane.build(&Variant { label, sticks, board: WITH_USB, ..Variant::good(1) })
}

fn start(name: &str, disk: &Disk, built: &Built) -> Result<Machine> {
    let board = Some(built.board.display().to_string());
    Machine::start(name, disk, &Options { board, ..Options::default() })
}

/// What lies below the sticks' folder, as seen by the first process of that name.
fn seen_by(machine: &mut Machine, process: &str) -> Result<Vec<String>> {
    machine.console.shell(&format!(
        "busybox ls /proc/$(busybox pidof {process} | busybox cut -d' ' -f1)/root/run/media"
    ))
}

#[test]
fn sticks_come_and_go_for_those_who_may_see_them_and_a_broken_one_is_said() -> Result<()> {
    let lane = Lane::take()?;
    let built = first(&lane, true)?;
    let disk = Disk::copy_of(&built.img)?;
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let stick = Stick::with(&[("some file.toml", file)])?;
    let before = stick.sha256()?;
    let mut machine = start("sticks-come", &disk, &built)?;
    machine.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    machine.console.wait_for("ota: running ", TO_BOOT)?;

    let number = machine.plug_in(&stick)?;
    machine.console.wait_for("ferrite: media: sda1 mounted at /run/media/sda1-", TO_MOUNT)?;
    ensure!(seen_by(&mut machine, "ota")?.len() == 1, "ota does not see the stick");
    ensure!(seen_by(&mut machine, "runner")?.is_empty(), "the model's workload sees the stick");
    let mounts = machine.console.shell("busybox grep sda1 /proc/mounts")?.join("\n");
    for option in ["ro,", "nosuid", "nodev", "noexec"] {
        ensure!(mounts.contains(option), "{option} is missing: {mounts}");
    }
    let first = machine.console.shell("busybox head -n 1 /run/media/sda1-*/'some file.toml'")?;
    ensure!(first == ["[package]"], "the file is not what was put on the stick: {first:?}");
    machine.pull_out(number)?;
    machine.console.wait_for("ferrite: media: sda1 is gone", TO_MOUNT)?;
    ensure!(stick.sha256()? == before, "something was written to the stick");

    stick.break_file_system()?;
    let number = machine.plug_in(&stick)?;
    machine.console.wait_for("ferrite: media: sda1: cannot be mounted as vfat: ", TO_MOUNT)?;
    machine.pull_out(number)?;
    let again = Stick::with(&[("a.toml", file)])?;
    machine.plug_in(&again)?;
    machine.console.wait_for("ferrite: media: sda1 mounted at /run/media/sda1-", TO_MOUNT)?;
    ensure!(seen_by(&mut machine, "ota")?.len() == 1, "only the stick that is plugged in is seen");
    Ok(())
}

#[test]
fn an_image_that_does_not_allow_sticks_has_not_even_drivers_for_them() -> Result<()> {
    let lane = Lane::take()?;
    let built = first(&lane, false)?;
    let disk = Disk::copy_of(&built.img)?;
    let stick = Stick::with(&[])?;
    let mut machine = start("sticks-off", &disk, &built)?;
    machine.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
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
