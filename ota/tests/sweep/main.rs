//! The power-cut sweep: the real install, arm, trial and commit code on a disk that forgets what was
//! not flushed, cut at every write. `docs/testing.md` says what this proves.
//!
//! `FERRITE_SWEEP=full` (`just sweep`) tries more ways of each cut; `FERRITE_SEED=N` others.

mod board;
mod cuts;
mod disk;
mod loader;
mod lying;
mod resume;
mod retrial;
#[path = "../support/mod.rs"]
mod support;

use board::{Board, Root, Scenario, boot_state, shipped};
use cuts::{Dice, Effort, Tally, sweep, sweep_record};
use disk::{Disk, Event, Image, Moment};
use formats::boot_state::BootState;
use formats::boot_state_store::{BootStateStore, RedundantStore};
use loader::Loader;
use std::sync::Arc;
use support::{Recipe, Update, recipe};

/// A version that differs from all others in every sector.
fn version(sequence: u64) -> Update {
    version_of(small(sequence))
}

/// Small enough that thousands of boards live in a minute: two chunks, the first of
/// which both partitions have a part of.
fn small(sequence: u64) -> Recipe {
    Recipe { boot_size: 60 << 10, root_size: 64 << 10, ..recipe(sequence) }
}

fn version_of(recipe: Recipe) -> Update {
    let noise = |at: u64| (at.wrapping_mul(0x9E37_79B9) >> 11) as u8 ^ recipe.sequence as u8;
    recipe.build_of((0..recipe.boot_size + recipe.root_size).map(noise).collect())
}

fn no_brick(what: &str, tally: Tally) {
    println!(
        "{what}: {} power cuts, {} different disks, {} cut again while recovering, {} bricks",
        tally.points,
        tally.disks,
        tally.nested,
        tally.bricks.len()
    );
    assert!(tally.disks > 100, "the sweep found next to nothing to cut");
    assert!(tally.bricks.is_empty(), "{what}: {:#?}", &tally.bricks[..tally.bricks.len().min(5)]);
}

/// A disk that ran `first` in slot a, then got `second` into slot b and committed it.
fn updated(loader: Loader, first: &Update, second: &Update) -> Image {
    let scenario = Scenario { versions: &[first, second], offered: second, offered_is_bad: false };
    let root = Root::new(loader);
    let board = Board::new(&root, shipped(loader, first, |_| ()));
    board.live(&scenario).unwrap();
    let image = board.disk.image();
    let (_, state) = boot_state(&image).unwrap();
    assert_eq!(state.active, formats::Slot::B);
    image
}

#[test]
fn the_first_update() {
    let (one, two) = (version(1), version(2));
    let scenario = Scenario { versions: &[&one, &two], offered: &two, offered_is_bad: false };
    no_brick(
        "the first update",
        sweep(&scenario, shipped(Loader::Uboot, &one, |_| ()), Effort::wanted()),
    );
}

#[test]
fn an_update_over_the_slot_to_fall_back_to() {
    let (one, two, three) = (version(1), version(2), version(3));
    let scenario =
        Scenario { versions: &[&one, &two, &three], offered: &three, offered_is_bad: false };
    no_brick(
        "an update over the fallback",
        sweep(&scenario, updated(Loader::Uboot, &one, &two), Effort::wanted()),
    );
}

#[test]
fn an_update_that_fails_its_trials() {
    let (one, two, bad) = (version(1), version(2), version(3));
    let scenario = Scenario { versions: &[&one, &two, &bad], offered: &bad, offered_is_bad: true };
    no_brick(
        "an update that is bad",
        sweep(&scenario, updated(Loader::Uboot, &one, &two), Effort::wanted()),
    );
}

#[test]
fn an_update_that_forbids_the_way_back() {
    let (one, two) = (version(1), version_of(Recipe { rollback_floor: 2, ..small(2) }));
    let scenario = Scenario { versions: &[&one, &two], offered: &two, offered_is_bad: false };
    no_brick(
        "an update with a floor",
        sweep(&scenario, shipped(Loader::Uboot, &one, |_| ()), Effort::wanted()),
    );
}

/// The same with `ota` in two halves, each install over a socket: the writes and flushes come in the
/// same order, so fewer ways of each cut are enough.
#[test]
fn an_update_by_two_halves() {
    board::IN_TWO_HALVES.set(true);
    let (one, two, three) = (version(1), version(2), version(3));
    let versions = [&one, &two, &three];
    let effort = Effort { ways: 60, ..Effort::wanted() };
    let scenario = Scenario { versions: &versions, offered: &two, offered_is_bad: false };
    no_brick("two halves, first", sweep(&scenario, shipped(Loader::Uboot, &one, |_| ()), effort));
    let start = updated(Loader::Uboot, &one, &two);
    let scenario = Scenario { versions: &versions, offered: &three, offered_is_bad: false };
    no_brick("two halves, over the fallback", sweep(&scenario, start, effort));
}

/// The same with our EFI program, whose own choices run here.
#[test]
fn an_update_on_a_board_with_efi() {
    let (one, two, three) = (version(1), version(2), version(3));
    let versions = [&one, &two, &three];
    let scenario = Scenario { versions: &versions, offered: &two, offered_is_bad: false };
    no_brick("efi, first", sweep(&scenario, shipped(Loader::Efi, &one, |_| ()), Effort::wanted()));
    let start = updated(Loader::Efi, &one, &two);
    let scenario = Scenario { versions: &versions, offered: &three, offered_is_bad: false };
    no_brick("efi, over the fallback", sweep(&scenario, start.clone(), Effort::wanted()));
    let scenario = Scenario { versions: &versions, offered: &three, offered_is_bad: true };
    no_brick("efi, bad", sweep(&scenario, start, Effort::wanted()));
}

/// The same on a Raspberry Pi, where the initrd chooses and `autoboot.txt` has to follow: what
/// the firmware boots by itself is whole at every moment, too.
#[test]
fn an_update_on_a_raspberry_pi() {
    let (one, two, three) = (version(1), version(2), version(3));
    let versions = [&one, &two, &three];
    let scenario = Scenario { versions: &versions, offered: &two, offered_is_bad: false };
    no_brick("rpi, first", sweep(&scenario, shipped(Loader::Rpi, &one, |_| ()), Effort::wanted()));
    let start = updated(Loader::Rpi, &one, &two);
    let scenario = Scenario { versions: &versions, offered: &three, offered_is_bad: false };
    no_brick("rpi, over the fallback", sweep(&scenario, start.clone(), Effort::wanted()));
    let scenario = Scenario { versions: &versions, offered: &three, offered_is_bad: true };
    no_brick("rpi, bad", sweep(&scenario, start, Effort::wanted()));
}

/// And it has to see a pointer that does not follow the commit: the next update would overwrite
/// what the firmware boots.
#[test]
fn a_pointer_that_does_not_follow_is_found() {
    let (one, two, three) = (version(1), version(2), version(3));
    let versions = [&one, &two, &three];
    let start = shipped(Loader::Rpi, &one, |_| ());
    let root = Root::new(Loader::Rpi);
    let board = Board::new(&root, start.clone());
    let to = |offered| Scenario { versions: &versions, offered, offered_is_bad: false };
    board.live(&to(&two)).unwrap();
    board.live(&to(&three)).unwrap();
    let mut record = board.disk.record();
    let before = record.len();
    record.retain(
        |event| !matches!(event, Event::Write { bytes, .. } if bytes.starts_with(b"[all]")),
    );
    assert!(record.len() < before, "nothing points");
    let effort = Effort { ways: 4, nested: u64::MAX, data_lost: u64::MAX };
    let tally = sweep_record(&to(&three), start, &record, effort);
    assert!(tally.bricks.iter().any(|brick| brick.contains("what the firmware boots")));
}

/// The sweep has to see a disk whose flush does nothing: each flush that the code makes is needed.
#[test]
fn a_flush_that_is_left_out_is_found() {
    let (one, two, three) = (version(1), version(2), version(3));
    let scenario =
        Scenario { versions: &[&one, &two, &three], offered: &three, offered_is_bad: false };
    let start = updated(Loader::Uboot, &one, &two);
    let root = Root::new(Loader::of(&start));
    let board = Board::new(&root, start.clone());
    board.live(&scenario).unwrap();
    for lying in ["firmware", "boot-a", "root-a"] {
        let flushes = |event: &Event| matches!(event, Event::Flush { label } if *label == lying);
        let mut record = board.disk.record();
        let before = record.len();
        record.retain(|event| !flushes(event));
        assert!(record.len() < before, "nothing flushes {lying}");
        let effort = Effort { ways: 64, nested: u64::MAX, data_lost: u64::MAX };
        let tally = sweep_record(&scenario, start.clone(), &record, effort);
        assert!(!tally.bricks.is_empty(), "nobody missed the flushes of {lying}");
    }
}

/// And one whose writes change places: what the order of an install is for.
#[test]
fn writes_out_of_order_are_found() {
    let (one, two) = (version(1), version(2));
    let scenario = Scenario { versions: &[&one, &two], offered: &two, offered_is_bad: false };
    let start = shipped(Loader::Uboot, &one, |_| ());
    let root = Root::new(Loader::of(&start));
    let board = Board::new(&root, start.clone());
    board.live(&scenario).unwrap();
    let record = board.disk.record();
    let armed = |event: &Event| match event {
        Event::Write { label: "firmware", bytes, .. } => {
            BootState::from_blob(bytes).is_ok_and(|state| state.trial.is_some())
        }
        _ => false,
    };
    let arm = record.iter().position(armed).unwrap();
    let first_chunk = record
        .iter()
        .position(|event| matches!(event, Event::Write { label: "boot-b", .. }))
        .unwrap();
    let mut early = record.clone();
    // The write of the armed state and its flush, before the first chunk.
    let moved: Vec<_> = early.drain(arm..arm + 2).collect();
    early.splice(first_chunk..first_chunk, moved);
    let effort = Effort { ways: 16, nested: u64::MAX, data_lost: u64::MAX };
    assert!(!sweep_record(&scenario, start, &early, effort).bricks.is_empty());
}

/// Whatever is stored, and however often: a cut leaves the state before or the state after.
#[test]
fn every_store_of_the_boot_state_leaves_the_old_one_or_the_new_one() {
    let start = shipped(Loader::Uboot, &version(1), |_| ());
    let disk = Disk::new(start.clone());
    let uboot = RedundantStore::new(Arc::new(disk.clone()));
    let mut dice = Dice::seeded();
    let mut moment = Moment::start(start);
    let (mut seen, mut points) = (0, 0);
    for round in 0..200 {
        let before = uboot.load().unwrap();
        let mut after = BootState { note: "x".repeat(dice.below(96)), ..before.clone() };
        after.strikes = round as u8;
        uboot.store(&mut after).unwrap();
        let record = disk.record();
        for event in &record[seen..] {
            moment.apply(event);
            for way in 0..moment.ways(64).unwrap() {
                let mut rest = way;
                let image = moment.left(|contents| {
                    let chosen = rest % contents;
                    rest /= contents;
                    chosen
                });
                let (_, found) = boot_state(&image).expect("a state");
                assert!(found == before || found == after, "{found:?}");
                points += 1;
            }
        }
        seen = record.len();
        assert_eq!(boot_state(&moment.left(|_| 0)).unwrap().1, after, "it is not flushed");
    }
    println!("boot state: {points} power cuts");
}
