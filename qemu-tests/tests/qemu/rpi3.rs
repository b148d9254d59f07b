//! The image for the Raspberry Pi 3, as it would be written to a card, in QEMU's `raspi3b`: the
//! harness plays the firmware, from the files on the card and by its documented rules.

use std::time::Duration;

use anyhow::{Context, Result};
use formats::Slot;
use formats::layout::FIRMWARE;
use qemu_tests::fixture::{Built, Repository, TestSlot, Variant};
use qemu_tests::videocore::{self, Model, Reset};
use qemu_tests::{Board, Disk, Machine, Options};

use crate::face::assert_one_face;
use crate::falls_back::CRASHER;
use crate::fat;

const TO_BOOT: Duration = Duration::from_secs(90);
/// The emulated network is a full-speed USB adapter.
const TO_INSTALL: Duration = Duration::from_secs(300);

const BOARD: Option<&str> = Some("rpi3");

fn base(test_slot: &TestSlot) -> Result<(Built, Disk)> {
    let built = test_slot.build(&Variant { label: "pi", board_file: BOARD, ..Variant::good(1) })?;
    let disk = Board::Rpi3.disk(&built)?;
    Ok((built, disk))
}

fn start(name: &str, disk: &Disk) -> Result<Machine> {
    Machine::start(name, disk, &Options { pi: Some(Model::Pi3), ..Options::default() })
}

/// What the firmware would boot from the card as it is now.
fn next(disk: &Disk) -> Result<u32> {
    Ok(videocore::boot(disk, Model::Pi3, Reset::default())?.partition)
}

#[test]
fn a_pi_3_boots_to_one_face_in_the_photograph() -> Result<()> {
    let test_slot = TestSlot::take()?;
    let (_, disk) = base(&test_slot)?;
    let mut pi = start("rpi3-boots", &disk)?;
    pi.console.wait_for("ferrite: slot a (active, strike 1)", TO_BOOT)?;
    pi.console.wait_for("ferrite: initrd: slot a of demo 1-pi (sequence 1) verified", TO_BOOT)?;
    pi.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    assert_one_face(&pi.console.wait_for("face: {", TO_BOOT)?.text)?;
    // The network behind the board's own USB controller.
    pi.console.wait_for("ferrite: network: ", TO_BOOT)?;
    assert_eq!(pi.boots(), [2]);
    Ok(())
}

/// The base and this version in a repository, the way from one to the other as a delta: the
/// emulated network brings a quarter of a megabyte a second.
fn offer(repository: &Repository, before: &Built, version: &Built) -> Result<()> {
    repository.publish(before)?;
    repository.publish_with(version, &["--deltas", "1"])
}

#[test]
fn a_good_version_is_committed_and_a_broken_one_falls_back() -> Result<()> {
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let (base, disk) = base(&test_slot)?;
    let good = test_slot.build(&Variant { label: "pi", board_file: BOARD, ..Variant::good(2) })?;
    offer(&repository, &base, &good)?;

    let mut pi = start("rpi3-updates", &disk)?;
    pi.console.wait_for("ota: installed 2-pi in slot b", TO_INSTALL)?;
    pi.console.wait_for("ota: trial armed", TO_BOOT)?;
    pi.console.wait_for("ferrite: shutdown: reboot", TO_BOOT)?;
    // Slot a's initrd counts and points to slot b; slot b's points back before it goes on.
    pi.console.wait_for("ferrite: slot b is next (trial, 0 tries left); resetting", TO_BOOT)?;
    pi.console.wait_for("ferrite: slot b (trial, 0 tries left)", TO_BOOT)?;
    assert_eq!(next(&disk)?, 2, "any reset would lead back to slot a");
    pi.console.wait_for("initrd: slot b of demo 2-pi ", TO_BOOT)?;
    pi.console.wait_for("ota: committed 2-pi in slot b", TO_BOOT)?;
    assert_eq!((next(&disk)?, &pi.boots()[..]), (3, &[2, 2, 3][..]));
    pi.reset()?;
    pi.console.wait_for("ferrite: slot b (active, strike 1)", TO_BOOT)?;
    pi.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;

    let broken = test_slot.build(&Variant {
        label: "pi-crashes",
        board_file: BOARD,
        workloads: CRASHER,
        ..Variant::good(3)
    })?;
    repository.publish_with(&broken, &["--deltas", "1"])?;
    pi.console.wait_for("ota: installed 3-pi-crashes in slot a", TO_INSTALL)?;
    pi.console.wait_for("ferrite: slot a (trial, 0 tries left)", TO_BOOT)?;
    pi.console.wait_for("ferrite: vital workload crasher failed (", TO_BOOT)?;
    pi.console.wait_for("ferrite: slot b (active, strike ", TO_BOOT)?;
    let said = pi.console.wait_for("ota: fell back from 3-pi-crashes: ", TO_BOOT)?.text;
    assert!(said.contains("vital workload crasher failed"), "{said}");
    assert_eq!(pi.boots(), [2, 2, 3, 3, 3, 2, 3]);
    let state = disk.boot_state()?.context("boot state")?;
    assert_eq!((state.active, state.trial), (Slot::B, None));
    Ok(())
}

#[test]
fn a_trial_outlives_power_cuts_on_its_way() -> Result<()> {
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let variant = |sequence| Variant {
        label: "pi-tries",
        board_file: BOARD,
        tries: Some(3),
        ..Variant::good(sequence)
    };
    let (base, good) = (test_slot.build(&variant(1))?, test_slot.build(&variant(2))?);
    offer(&repository, &base, &good)?;
    let disk = Board::Rpi3.disk(&base)?;

    let mut pi = start("rpi3-power-cuts", &disk)?;
    // Each line, and the power is cut. What comes next after it follows from the writes before it.
    for line in [
        "ota: trial armed",
        // Counted, and pointed to slot b: that boots without being counted again.
        "ferrite: slot b is next (trial, 2 tries left); resetting",
        // Pointed back.
        "ferrite: slot b (trial, 2 tries left)",
        "ferrite: slot b is next (trial, 1 tries left); resetting",
        "ferrite: slot b (trial, 1 tries left)",
        "ferrite: slot b (trial, 0 tries left)",
    ] {
        let timeout = if pi.boots().len() == 1 { TO_INSTALL } else { TO_BOOT };
        pi.console.wait_for(line, timeout)?;
        if !line.contains("0 tries left") {
            pi.reset()?;
        }
    }
    pi.console.wait_for("ota: committed 2-pi-tries in slot b", TO_BOOT)?;
    pi.reset()?;
    pi.console.wait_for("ferrite: slot b (active, strike 1)", TO_BOOT)?;
    pi.console.wait_for("ota: running 2-pi-tries (sequence 2) in slot b", TO_BOOT)?;
    assert_eq!(next(&disk)?, 3);
    Ok(())
}

/// What docs/choosers/rpi.md says that this chooser cannot recover from: a kernel that dies before the
/// trial's initrd has pointed back. Every reset leads to it again, until a person writes the old
/// number into `autoboot.txt`.
#[test]
#[ignore = "`just boot-all` runs it"]
fn a_trial_that_dies_before_its_first_write_stays_until_a_person_points_back() -> Result<()> {
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let (base, disk) = base(&test_slot)?;
    let panics = test_slot.build(&Variant {
        label: "pi-panics",
        board_file: BOARD,
        board: &[("panic=5", "panic=5 rdinit=/nonexistent")],
        ..Variant::good(2)
    })?;
    offer(&repository, &base, &panics)?;

    let mut pi = start("rpi3-stays", &disk)?;
    pi.console.wait_for("ota: installed 2-pi-panics in slot b", TO_INSTALL)?;
    pi.console.wait_for("ferrite: slot b is next (trial, 0 tries left); resetting", TO_BOOT)?;
    for _ in 0..3 {
        pi.console.wait_for("Kernel panic - not syncing: VFS: Unable to mount root fs", TO_BOOT)?;
    }
    // The power off and on changes nothing.
    pi.reset()?;
    pi.console.wait_for("Kernel panic - not syncing: VFS: Unable to mount root fs", TO_BOOT)?;
    let boots = pi.boots();
    assert_eq!(boots[..2], [2, 2], "{boots:?}");
    assert!(boots.len() >= 6 && boots[2..].iter().all(|partition| *partition == 3), "{boots:?}");
    pi.power_cut()?;
    assert_eq!(next(&disk)?, 3);

    // The card in a PC: the file's text, with the other number.
    let text = String::from_utf8(fat::read(&disk, FIRMWARE, "autoboot.txt")?)?;
    let back = text.replace("boot_partition=3", "boot_partition=2");
    assert_ne!(text, back);
    fat::write(&disk, FIRMWARE, "autoboot.txt", back.as_bytes())?;
    assert_eq!(next(&disk)?, 2);

    let mut pi = start("rpi3-stays-no-more", &disk)?;
    pi.console.wait_for("ferrite: slot a (active, strike 1)", TO_BOOT)?;
    pi.console.wait_for("initrd: slot a of demo 1-pi ", TO_BOOT)?;
    let said = pi.console.wait_for("ota: fell back from 2-pi-panics: ", TO_BOOT)?.text;
    assert!(said.contains("left no reason"), "{said}");
    pi.console.wait_for("ota: refused 2-pi-panics: it failed its trial here before", TO_BOOT)?;
    // And the card is in order again: the next version comes by itself.
    let mended =
        test_slot.build(&Variant { label: "pi-mended", board_file: BOARD, ..Variant::good(3) })?;
    repository.publish(&mended)?;
    pi.console.wait_for("ota: committed 3-pi-mended in slot b", TO_INSTALL + TO_BOOT)?;
    assert_eq!((next(&disk)?, pi.boots()), (3, vec![2, 2, 3]));
    Ok(())
}
