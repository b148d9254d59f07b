//! One flipped bit in a slot: what is altered is never executed, and the other slot takes over.

use std::time::Duration;

use anyhow::{Context, Result};
use formats::Slot;
use formats::boot_state::{BootState, STRIKES_PER_TURN};
use formats::efi::UKI;
use formats::manifest::HEADER_SIZE;
use qemu_tests::fixture::{Built, TestSlot, Variant};
use qemu_tests::{Board, Disk, Machine, Options, Random, wait_until};

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_FAIL: Duration = Duration::from_secs(120);
const BLOCK: u64 = 4096;
/// What the kernel says when it reads an altered block, and then resets (dm-verity's
/// `restart_on_corruption`): nobody ever gets to see the block.
const CORRUPTED: &str = " is corrupted";

/// A disk as an update leaves it: version 2 in slot a, committed; version 1 in slot b, whole. And
/// version 2.
fn two_slots(test_slot: &TestSlot, board: Board) -> Result<(Built, Disk)> {
    let new = test_slot.build(&board.variant(Variant::good(2)))?;
    let disk = board.disk(&new)?;
    let base = Variant { label: "base", ..Variant::good(1) };
    let old = Disk::copy_of(&test_slot.build(&board.variant(base))?.img)?;
    for (from, to) in
        [(Slot::A.boot_label(), Slot::B.boot_label()), (Slot::A.root_label(), Slot::B.root_label())]
    {
        let range = old.partition(from)?;
        disk.write(to, 0, &old.read(from, 0, (range.end - range.start) as usize)?)?;
    }
    disk.set_boot_state(&BootState { fallback: Some(Slot::B), ..BootState::fresh() })?;
    Ok((new, disk))
}

/// At the end of slot a's turn: the next failure is its last one.
fn nearly_worn_out(disk: &Disk) -> Result<()> {
    let strikes = STRIKES_PER_TURN - 1;
    let state = BootState { strikes, fallback: Some(Slot::B), ..BootState::fresh() };
    disk.set_boot_state(&state)
}

/// Where the slot header of slot a begins, in its root partition.
fn header_at(disk: &Disk) -> Result<u64> {
    let range = disk.partition(Slot::A.root_label())?;
    Ok(range.end - range.start - HEADER_SIZE as u64)
}

/// A number out of slot a's manifest.
fn manifest_number(disk: &Disk, key: &str) -> Result<u64> {
    let header = disk.read(Slot::A.root_label(), header_at(disk)?, HEADER_SIZE)?;
    let text = String::from_utf8_lossy(&header[1024..]).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {key} in the manifest"))?.parse()?)
}

/// Where the model lies: a TensorFlow Lite file has `TFL3` at byte 4, a file begins with a block.
fn model_at(disk: &Disk) -> Result<u64> {
    let root = disk.read(Slot::A.root_label(), 0, manifest_number(disk, "root-size")? as usize)?;
    let block = root.chunks(BLOCK as usize).position(|block| block.get(4..8) == Some(b"TFL3"));
    Ok(block.context("no model in the root image")? as u64 * BLOCK)
}

/// Slot b runs version 1, and is made the active slot.
fn see_slot_b(machine: &mut Machine, board: Board) -> Result<()> {
    let (to_boot, console) = (board.patience(TO_BOOT), &mut machine.console);
    let fallback = "ferrite: slot b (fallback, strike 9)";
    console.wait_for(fallback, board.patience(TO_FAIL))?;
    console.wait_for("initrd: slot b of demo 1-base ", to_boot)?;
    console.wait_for("ferrite: all vital workloads healthy", to_boot).map(drop)
}

#[test]
fn a_header_with_a_flipped_bit_boots_nothing_of_its_slot() -> Result<()> {
    flipped_header(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_raspberry_pi_3_boots_nothing_of_a_slot_with_a_flipped_header() -> Result<()> {
    flipped_header(Board::Rpi3)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_slot_with_a_flipped_header_boots_nothing_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(flipped_header)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_slot_with_a_flipped_header_boots_nothing_on_a_pc() -> Result<()> {
    Board::Pc.run(flipped_header)
}

fn flipped_header(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let (new, disk) = two_slots(&test_slot, board)?;
    disk.flip_bit(Slot::A.root_label(), header_at(&disk)? + 1024 + 60, 2)?;
    let name = format!("flipped-header-{}", board.name());
    let mut machine = board.start(&name, &disk, &new, Options::default())?;
    let to_boot = board.patience(TO_BOOT);
    // What `init` refused weighs two.
    for strike in (1..STRIKES_PER_TURN).step_by(2) {
        let console = &mut machine.console;
        console.wait_for(&format!("ferrite: slot a (active, strike {strike})"), to_boot)?;
        console.wait_for("ferrite: cannot boot slot a: root-a: ", to_boot)?;
    }
    assert!(!machine.console.has("rootfs"), "something of slot a was executed");
    see_slot_b(&mut machine, board)
}

#[test]
fn what_every_boot_reads_ends_the_boot_when_a_bit_is_flipped() -> Result<()> {
    flipped_in_every_boot(Board::QemuArm64)
}

#[test]
fn a_raspberry_pi_3_ends_the_boot_when_a_bit_is_flipped() -> Result<()> {
    flipped_in_every_boot(Board::Rpi3)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_flipped_bit_ends_the_boot_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(flipped_in_every_boot)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_flipped_bit_ends_the_boot_on_a_pc() -> Result<()> {
    Board::Pc.run(flipped_in_every_boot)
}

fn flipped_in_every_boot(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let (new, disk) = two_slots(&test_slot, board)?;
    let root = Slot::A.root_label();
    let tree = manifest_number(&disk, "root-size")?;
    // The file system's superblock; the hash tree's top block.
    for (name, offset) in [("flipped-superblock", 1024 + 16), ("flipped-tree", tree + 5)] {
        nearly_worn_out(&disk)?;
        disk.flip_bit(root, offset, 6)?;
        let name = format!("{name}-{}", board.name());
        let mut machine = board.start(&name, &disk, &new, Options::default())?;
        machine.console.wait_for(CORRUPTED, board.patience(TO_BOOT))?;
        assert!(!machine.console.has("rootfs"), "something of slot a was executed");
        see_slot_b(&mut machine, board)?;
        machine.power_cut()?;
        disk.flip_bit(root, offset, 6)?;
    }
    Ok(())
}

/// And the version that decayed is mended from the repository.
#[test]
fn a_model_with_a_flipped_bit_never_answers() -> Result<()> {
    flipped_model(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_model_with_a_flipped_bit_never_answers_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(flipped_model)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_model_with_a_flipped_bit_never_answers_on_a_pc() -> Result<()> {
    Board::Pc.run(flipped_model)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_model_with_a_flipped_bit_never_answers_on_a_raspberry_pi_3() -> Result<()> {
    flipped_model(Board::Rpi3)
}

fn flipped_model(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let (new, disk) = two_slots(&test_slot, board)?;
    let [to_boot, to_fail] = [TO_BOOT, TO_FAIL].map(|time| board.patience(time));
    nearly_worn_out(&disk)?;
    disk.flip_bit(Slot::A.root_label(), model_at(&disk)? + 100_000, 0)?;
    let name = format!("flipped-model-{}", board.name());
    let mut machine = board.start(&name, &disk, &new, Options::default())?;
    machine.console.wait_for("initrd: slot a of demo 2-good ", to_boot)?;
    machine.console.wait_for(CORRUPTED, to_boot)?;
    assert!(!machine.console.has("face: {"), "an altered model answered");
    see_slot_b(&mut machine, board)?;
    wait_until("the decay to be noticed", to_boot, || {
        Ok(machine.console.has("ota: slot a has decayed on the medium"))
    })?;

    repository.publish(&new)?;
    machine.console.wait_for("ota: installed 2-good in slot a", to_fail)?;
    let fetched: u64 = repository.server.served().values().map(|served| served.bytes).sum();
    assert!(fetched < 3 << 20, "one chunk had decayed, and {fetched} bytes were fetched");
    machine.console.wait_for("ota: committed 2-good in slot a", to_fail).map(drop)
}

#[test]
fn a_flipped_bit_anywhere_is_never_read_as_data() -> Result<()> {
    flipped_anywhere(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_flipped_bit_anywhere_is_never_read_as_data_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(flipped_anywhere)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_flipped_bit_anywhere_is_never_read_as_data_on_a_pc() -> Result<()> {
    Board::Pc.run(flipped_anywhere)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_flipped_bit_anywhere_is_never_read_as_data_on_a_raspberry_pi_3() -> Result<()> {
    flipped_anywhere(Board::Rpi3)
}

fn flipped_anywhere(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let (new, disk) = two_slots(&test_slot, board)?;
    let [to_boot, to_fail] = [TO_BOOT, TO_FAIL].map(|time| board.patience(time));
    let mut random = Random::new("flipped-anywhere");
    let root = Slot::A.root_label();
    let used = manifest_number(&disk, "root-size")?;
    for number in 0..3 {
        nearly_worn_out(&disk)?;
        let (offset, bit) = (random.below(used), random.below(8) as u8);
        println!("bit {bit} of byte {offset} of {used}");
        disk.flip_bit(root, offset, bit)?;
        let name = format!("flipped-anywhere-{number}-{}", board.name());
        let mut machine = board.start(&name, &disk, &new, Options::default())?;
        // Whether a boot needs that block is chance: if not, somebody asks for it.
        let healthy = "ferrite: all vital workloads healthy";
        let (which, _) = machine.console.wait_for_any(&[healthy, CORRUPTED], to_fail)?;
        if which == 0 {
            println!("no boot needs it");
            let block = offset / BLOCK;
            let dd = format!("dd if=/dev/dm-0 of=/dev/null bs={BLOCK} skip={block} count=1");
            machine.console.type_line(&format!("busybox {dd}"))?;
            machine.console.wait_for(CORRUPTED, to_boot)?;
            machine.console.wait_for("ferrite: slot ", to_boot)?;
        } else {
            see_slot_b(&mut machine, board)?;
        }
        machine.power_cut()?;
        disk.flip_bit(root, offset, bit)?;
    }
    Ok(())
}

#[test]
fn a_kernel_with_a_flipped_bit_is_not_started() -> Result<()> {
    flipped_kernel(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_kernel_with_a_flipped_bit_is_not_started_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(flipped_kernel)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_kernel_with_a_flipped_bit_is_not_started_on_a_pc() -> Result<()> {
    Board::Pc.run(flipped_kernel)
}

/// Not on a Raspberry Pi, whose firmware compares nothing (docs/security.md).
fn flipped_kernel(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let (new, disk) = two_slots(&test_slot, board)?;
    // Every file of the boot partition lies in its first half; the kernel is most of it.
    let (at, what) = match board {
        Board::QemuArm64 => (20 << 20, "kernel"),
        _ => (12 << 20, UKI),
    };
    disk.flip_bit(Slot::A.boot_label(), at, 3)?;
    let name = format!("flipped-kernel-{}", board.name());
    let mut machine = board.start(&name, &disk, &new, Options::default())?;
    let (to_boot, console) = (board.patience(TO_BOOT), &mut machine.console);
    console.wait_for(&format!("ferrite: {what} of slot a is altered"), to_boot)?;
    console.wait_for("ferrite: slot b (fallback, strike 1)", to_boot)?;
    console.wait_for("initrd: slot b of demo 1-base ", to_boot)?;
    console.wait_for("ferrite: all vital workloads healthy", to_boot)?;
    // No version fails because its boot partition does.
    console.wait_for("ota: slot a has decayed on the medium; ", to_boot).map(drop)
}
