//! A data partition that is not in order: it is checked, in the end made afresh, never silently,
//! and what runs on it runs.

use std::time::Duration;

use anyhow::Result;
use qemu_tests::fixture::{Lane, Variant};
use qemu_tests::{Board, Options};
use slot::layout;

const TO_BOOT: Duration = Duration::from_secs(90);
/// Where ext4's superblock is, and its `s_kbytes_written` in it: covered by the superblock's
/// checksum, and of no consequence by itself.
const KBYTES_WRITTEN: u64 = 1024 + 0x178;
/// Large enough for a second block group, which has the superblock's copy to repair it from. The
/// 16 MiB that an image begins with have one.
const GROWN: u64 = 1 << 30;

#[test]
fn a_damaged_superblock_is_repaired_and_what_was_there_stays() -> Result<()> {
    damaged_superblock(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_damaged_superblock_is_repaired_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(damaged_superblock)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_damaged_superblock_is_repaired_on_a_pc() -> Result<()> {
    Board::Pc.run(damaged_superblock)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_damaged_superblock_is_repaired_on_a_raspberry_pi_3() -> Result<()> {
    damaged_superblock(Board::Rpi3)
}

fn damaged_superblock(board: Board) -> Result<()> {
    let lane = Lane::take()?;
    let built = lane.build(&board.variant(Variant { label: "base", ..Variant::good(1) }))?;
    let disk = board.disk(&built)?;
    disk.grow(GROWN)?;
    let to_boot = board.patience(TO_BOOT);
    let start = |name: &str| {
        board.start(&format!("{name}-{}", board.name()), &disk, &built, Options::default())
    };
    let mut machine = start("data-before-damage")?;
    let both = ["ferrite: data: grown to ", "ferrite: all vital workloads healthy"];
    machine.console.wait_for_all(&both, to_boot)?;
    machine.console.shell("echo kept > /data/witness && busybox sync")?;
    machine.power_cut()?;

    disk.flip_bit(layout::DATA, KBYTES_WRITTEN, 3)?;
    let mut machine = start("data-damaged")?;
    let console = &mut machine.console;
    console.wait_for("ferrite: data: cannot mount: ", to_boot)?;
    console.wait_for("ferrite: all vital workloads healthy", to_boot)?;
    assert!(!console.has("made afresh"), "a check was enough");
    assert_eq!(console.shell("busybox cat /data/witness")?, ["kept"]);
    Ok(())
}

#[test]
fn a_partition_beyond_repair_is_made_afresh_and_said_so() -> Result<()> {
    beyond_repair(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_partition_beyond_repair_is_made_afresh_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(beyond_repair)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_partition_beyond_repair_is_made_afresh_on_a_pc() -> Result<()> {
    Board::Pc.run(beyond_repair)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_partition_beyond_repair_is_made_afresh_on_a_raspberry_pi_3() -> Result<()> {
    beyond_repair(Board::Rpi3)
}

fn beyond_repair(board: Board) -> Result<()> {
    let lane = Lane::take()?;
    let built = lane.build(&board.variant(Variant { label: "base", ..Variant::good(1) }))?;
    let disk = board.disk(&built)?;
    let to_boot = board.patience(TO_BOOT);
    let range = disk.partition(layout::DATA)?;
    disk.write(layout::DATA, 0, &vec![0xA5; (range.end - range.start) as usize])?;
    let name = format!("data-lost-{}", board.name());
    let mut machine = board.start(&name, &disk, &built, Options::default())?;
    let console = &mut machine.console;
    console.wait_for("ferrite: data: still not usable after the check: ", to_boot)?;
    console.wait_for("ferrite: data: made afresh; what was on it is lost", to_boot)?;
    console.wait_for("ferrite: all vital workloads healthy", to_boot)?;
    let head = console.shell("busybox hexdump -n 4 /data/ferrite/old-superblocks")?;
    assert!(head.iter().any(|line| line.contains("a5a5 a5a5")), "{head:?}");
    Ok(())
}
