//! A disk that fails or lies in the middle of an update: a clear error, the running slot as it was,
//! and the next try works.

use std::io::ErrorKind;

use formats::layout::FIRMWARE;
use formats::manifest::HEADER_SIZE;
use ota::state::State;

use crate::board::{Board, Root, Scenario, boot_state, shipped};
use crate::disk::{Disk, Fault, Image};
use crate::loader::Loader;
use crate::support::Update;
use crate::version;

/// Runs an install on a disk that fails like this; gives the error, having checked what has to be
/// true after it.
fn failed(fault: Fault) -> String {
    let (one, two) = (version(1), version(2));
    let scenario = Scenario { versions: &[&one, &two], offered: &two, offered_is_bad: false };
    let root = Root::new(Loader::Uboot);
    let board = started(&root, &scenario, &one);
    let before = board.disk.image();
    board.disk.set_fault(Some(fault));
    let error = board.install(&two).expect_err("it was installed on a disk that fails");
    let after = board.disk.image();
    assert_running_slot_untouched(&before, &after);
    scenario.check(&after).unwrap();
    // Where arming itself failed half the way, the new version may be started: it is whole.
    let (_, state) = boot_state(&after).unwrap();
    let arming = matches!(fault, Fault::Unflushable { label } if label == FIRMWARE);
    assert!(arming || state.trial.is_none(), "{fault:?}: armed");
    assert!(!error.contains('\n'), "{error}");
    board.disk.set_fault(None);
    assert!(State::load(&board.handle).failed.is_empty(), "the version is not to blame");
    board.live(&scenario).expect("the next try works");
    error
}

/// A board that has booted the version it was shipped with.
fn started<'a>(root: &'a Root, scenario: &Scenario, version: &Update) -> Board<'a> {
    let board = Board::new(root, shipped(Loader::Uboot, version, |_| ()));
    board.boot(scenario).unwrap();
    board
}

fn assert_running_slot_untouched(before: &Image, after: &Image) {
    for label in ["boot-a", "root-a"] {
        assert!(before.partitions[label] == after.partitions[label], "{label} was touched");
    }
}

#[test]
fn a_write_that_fails_names_the_partition() {
    for (label, at) in [("boot-b", 100), ("boot-b", 60_000), ("root-b", 0), ("root-b", 69_000)] {
        let error = failed(Fault::Unwritable { label, at, error: ErrorKind::Other });
        assert!(error.contains(&format!("/dev/ferrite/{label}")), "{error}");
    }
    let error =
        failed(Fault::Unwritable { label: "firmware", at: 0x2000, error: ErrorKind::Other });
    assert!(error.contains("/dev/ferrite/firmware"), "{error}");
}

#[test]
fn a_write_that_ends_early_for_want_of_room_is_an_error_too() {
    let error =
        failed(Fault::Unwritable { label: "root-b", at: 5000, error: ErrorKind::StorageFull });
    assert!(error.contains("/dev/ferrite/root-b"), "{error}");
}

#[test]
fn a_block_that_cannot_be_read_names_the_partition() {
    for label in ["boot-b", "root-b"] {
        let error = failed(Fault::Unreadable { label, at: 20_000 });
        assert!(error.contains(&format!("/dev/ferrite/{label}")), "{error}");
    }
}

/// A disk puts a good sector in the place of a bad one when that is written: an update is what mends
/// it, so it must not end because of it.
#[test]
fn a_block_that_cannot_be_read_until_it_is_written_is_written() {
    let (one, two) = (version(1), version(2));
    let scenario = Scenario { versions: &[&one, &two], offered: &two, offered_is_bad: false };
    let root = Root::new(Loader::Uboot);
    let size = shipped(Loader::Uboot, &one, |_| ()).partitions["root-b"].len();
    let places = [("boot-b", 0), ("boot-b", 20_000), ("root-b", 20_000), ("root-b", size - 1)];
    for (label, at) in places {
        let board = started(&root, &scenario, &one);
        let before = board.disk.image();
        board.disk.set_fault(Some(Fault::UnreadableUntilWritten { label, at }));
        board.install(&two).unwrap_or_else(|error| panic!("{label} at {at}: {error}"));
        let after = board.disk.image();
        assert_running_slot_untouched(&before, &after);
        assert_eq!(boot_state(&after).unwrap().1.trial, Some(formats::Slot::B), "{label} at {at}");
        board.live(&scenario).unwrap();
    }
}

#[test]
fn a_byte_that_takes_no_value_is_found_before_anything_is_armed() {
    for (label, at) in [("boot-b", 0), ("boot-b", 61_439), ("root-b", 12_345)] {
        let error = failed(Fault::Stuck { label, at });
        assert!(error.contains("reads back other bytes than were written"), "{error}");
        assert!(error.contains("should be replaced"), "{error}");
    }
    // The same in the header, the last thing written before the trial is armed.
    let size = shipped(Loader::Uboot, &version(1), |_| ()).partitions["root-b"].len();
    let error = failed(Fault::Stuck { label: "root-b", at: size - HEADER_SIZE });
    assert!(error.contains("reads back other bytes than were written"), "{error}");
}

#[test]
fn a_flush_that_fails_arms_nothing() {
    for label in ["boot-b", "root-b", "firmware"] {
        let error = failed(Fault::Unflushable { label });
        assert!(error.contains(&format!("/dev/ferrite/{label}")), "{error}");
    }
}

#[test]
fn a_full_data_partition_is_said_before_anything_is_written() {
    let (one, two) = (version(1), version(2));
    let scenario = Scenario { versions: &[&one, &two], offered: &two, offered_is_bad: false };
    let root = Root::new(Loader::Uboot);
    let board = started(&root, &scenario, &one);
    let before = board.disk.image();
    board.disk.set_fault(Some(Fault::DataFull));
    let error = board.install(&two).unwrap_err();
    assert!(error.contains("free some space"), "{error}");
    assert!(board.disk.image() == before, "something was written");
    board.disk.set_fault(None);
    board.live(&scenario).unwrap();
}

/// A card that takes 200 KB/s: a heartbeat after each chunk at the latest, so that nobody takes a
/// slow card for a daemon that hangs.
#[test]
fn a_slow_card_lets_the_heart_beat_at_every_chunk() {
    use std::cell::Cell;
    let (one, two) = (version(1), version(2));
    let scenario = Scenario { versions: &[&one, &two], offered: &two, offered_is_bad: false };
    let root = Root::new(Loader::Uboot);
    let board = started(&root, &scenario, &one);
    let written = |disk: &Disk| -> usize {
        let record = disk.record();
        record.iter().map(|event| event.written()).sum()
    };
    let (last, longest) = (Cell::new(written(&board.disk)), Cell::new(0));
    let beat = || {
        let now = written(&board.disk);
        longest.set(longest.get().max(now - last.get()));
        last.set(now);
    };
    board.install_beating(&two, &beat).unwrap();
    let chunk = two.manifest.chunk_size as usize;
    // The writing thread may be one chunk behind, and a header is one write as well.
    assert!(longest.get() <= 3 * chunk, "{} bytes between two beats", longest.get());
    assert!(last.get() > 2 * chunk, "nothing was written");
}
