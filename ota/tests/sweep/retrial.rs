//! What was committed and struck out: tried again as it lies there, written over by what is newer,
//! and found decayed, with the power cut at any write.

use formats::Slot;
use formats::boot_state::{BLOB_SIZE, BootState};
use formats::layout::{BOOT_STATE_OFFSETS, FIRMWARE};
use formats::rpi::autoboot::{self, Method};
use ota::daemon::scrub::Scrub;
use ota::state::State;

use crate::board::{Board, Root, Scenario, boot_state};
use crate::cuts::{Effort, Tally, sweep};
use crate::disk::{Image, Moment};
use crate::loader::Loader;
use crate::support::Update;
use crate::{no_brick, updated, version};

const LOADERS: [Loader; 3] = [Loader::Uboot, Loader::Efi, Loader::Rpi];

/// A disk whose device ran `second` in slot b until its boots ended too often, and made `first`, in
/// slot a, the active one again.
fn struck_out(loader: Loader, first: &Update, second: &Update) -> Image {
    let mut image = updated(loader, first, second);
    let (_, state) = boot_state(&image).unwrap();
    let mut back = BootState { generation: state.generation, ..BootState::fresh() };
    back.fallback = Some(Slot::B);
    let firmware = image.partitions.get_mut(FIRMWARE).unwrap();
    for offset in BOOT_STATE_OFFSETS {
        firmware[offset as usize..][..BLOB_SIZE].copy_from_slice(&back.to_blob());
    }
    if loader == Loader::Rpi {
        let sector = autoboot::sector(Method::Pointer, Slot::A);
        let at = firmware.len() - sector.len();
        firmware[at..].copy_from_slice(&sector);
    }
    image
}

/// A retrial writes nothing but the boot state and `ota`'s: few disks come of it.
fn no_brick_of_few(what: &str, tally: Tally) {
    println!("{what}: {} power cuts, {} different disks", tally.points, tally.disks);
    assert!(tally.disks > 8, "{what}: only {} disks", tally.disks);
    assert!(tally.bricks.is_empty(), "{what}: {:#?}", &tally.bricks[..tally.bricks.len().min(5)]);
}

#[test]
fn a_version_that_is_tried_again_and_holds() {
    let (one, two) = (version(1), version(2));
    let scenario = Scenario { versions: &[&one, &two], offered: &two, offered_is_bad: false };
    for loader in LOADERS {
        let start = struck_out(loader, &one, &two);
        no_brick_of_few(
            &format!("{loader:?}, a retrial"),
            sweep(&scenario, start, Effort::wanted()),
        );
    }
}

#[test]
fn a_version_that_is_tried_again_in_vain() {
    let (one, two) = (version(1), version(2));
    let scenario = Scenario { versions: &[&one, &two], offered: &two, offered_is_bad: true };
    for loader in LOADERS {
        let start = struck_out(loader, &one, &two);
        let tally = sweep(&scenario, start, Effort::wanted());
        no_brick_of_few(&format!("{loader:?}, a bad retrial"), tally);
    }
}

#[test]
fn a_newer_version_over_one_that_waits() {
    let (one, two, three) = (version(1), version(2), version(3));
    let scenario =
        Scenario { versions: &[&one, &two, &three], offered: &three, offered_is_bad: false };
    let start = struck_out(Loader::Uboot, &one, &two);
    // What is new here is before the first chunk; the rest is `an_update_over_the_slot…`.
    let effort = Effort::wanted();
    let effort = Effort { ways: effort.ways / 6, ..effort };
    no_brick("an update over what waits", sweep(&scenario, start, effort));
}

/// The slot that waits decays. Until that is found the loader may still choose it, and it is the
/// firmware's and the initrd's to refuse it; from then on nothing may.
#[test]
fn decay_is_found_whenever_the_looking_is_cut() {
    let (one, two) = (version(1), version(2));
    let scenario = Scenario { versions: &[&one, &two], offered: &two, offered_is_bad: false };
    let mut start = struck_out(Loader::Uboot, &one, &two);
    start.partitions.get_mut("root-b").unwrap()[30_000] ^= 8;
    let root = Root::new(Loader::Uboot);
    // Looks, until it is found. Fetches it again.
    let live = |image: Image| -> Board<'_> {
        let board = Board::new(&root, image);
        let context = board.boot(&scenario).unwrap();
        board.change_boot(|state| state.strikes = 0).unwrap();
        let mut scrub = Scrub::new();
        let looked =
            (0..100).find_map(|_| scrub.step(&context, 20_000, &|| ()).expect("a disk that works"));
        let (_, state) = boot_state(&board.disk.image()).unwrap();
        assert_eq!((state.active, state.fallback), (Slot::A, None), "{looked:?}");
        assert!(State::load(&board.handle).failed.is_empty());
        board.live(&scenario).unwrap();
        board
    };
    let record = live(start.clone()).disk.record();
    let mut moment = Moment::start(start);
    let mut cuts = 0;
    for event in &record {
        for choice in [0, usize::MAX] {
            let image = moment.left(|contents| choice.min(contents - 1));
            let (_, state) = boot_state(&image).unwrap();
            if state.trial.is_none() && state.active == Slot::A {
                live(image);
                cuts += 1;
            }
        }
        moment.apply(event);
    }
    assert!(cuts > 10, "{cuts}");
}
