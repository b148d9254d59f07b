//! Which slot runs, checked exhaustively: every state that a device can come to by any sequence of
//! boots, power cuts, failures, decay, updates, retries and a lost boot state, for each way to
//! choose. The invariants:
//!
//! 1. As long as a slot that may run can boot, it is booted within [`BOUND`] resets.
//! 2. A version that was committed is never banned: only trials are.
//! 3. Nothing below the rollback floor runs, and nothing half written.
//! 4. A healthy device is left alone: a reset boots the same slot again.
//! 5. Nothing is active that was not healthy itself.
//!
//! The choosers are the real ones: `formats::loader` is the EFI program's, `formats::rpi` what `init` does
//! on a Raspberry Pi; `boot.scr` is compared with the same rules on a real U-Boot (`qemu-tests`,
//! `chooser.rs`).

mod choosers;
mod world;

use std::collections::{HashSet, VecDeque};

use choosers::Chooser;
use formats::Slot;
use formats::boot_state::{Boot, STRIKES_PER_ROUND};
use world::{Fate, TRIES, World};

/// A trial's tries, a turn of each slot, and one more.
const BOUND: usize = TRIES as usize + STRIKES_PER_ROUND as usize + 1;

/// Walks through all that can be reached, and checks each world.
fn explore(chooser: Chooser) -> usize {
    let start = World::shipped(chooser);
    let mut seen = HashSet::from([start.clone()]);
    let mut open = VecDeque::from([start]);
    while let Some(world) = open.pop_front() {
        check(&world);
        for next in world.successors() {
            if seen.insert(next.clone()) {
                open.push_back(next);
            }
        }
    }
    seen.len()
}

fn check(world: &World) {
    let known = |slot: Slot| world.content(slot);
    for version in 1..=world::NEWEST {
        let banned = world.banned & 1 << version != 0;
        assert!(!(banned && world.once_committed & 1 << version != 0), "2: {world:?}");
    }
    if !world.was_lost {
        let state = world.state.as_ref().expect("never lost");
        assert!(known(state.active).was_healthy, "5: {world:?}");
    }
    if let Some(running) = world.running {
        let content = known(running.slot);
        assert!(content.whole || world.was_lost, "3, half written: {world:?}");
        if !world.was_lost {
            assert!(content.version >= world.rollback_floor, "3, below the floor: {world:?}");
        }
        // No update is armed and nothing failed: the next reset is nothing special.
        let is_armed = world.state.as_ref().is_some_and(|state| state.tries > 0);
        if running.settled && world.state.is_some() && !is_armed && content.fate == Fate::Good {
            let mut again = world.reset();
            let booted = again.boot(None);
            assert_eq!(booted, Some((running.slot, Boot::Active)), "4: {world:?}");
        }
    }
    if let Some(slot) = world.can_boot() {
        for evidence in [false, true] {
            assert!(
                world.reset().lives_within(BOUND, evidence),
                "1: slot {slot} could boot, and nothing does: {world:?}"
            );
        }
    }
}

#[test]
fn a_device_with_a_loader_of_ours_always_finds_its_way() {
    let worlds = explore(Chooser::Loader);
    println!("loader: {worlds} worlds");
    assert!(worlds > 10_000, "{worlds}");
}

#[test]
fn a_raspberry_pi_always_finds_its_way() {
    for chooser in [Chooser::RpiPointer, Chooser::RpiTryboot] {
        let worlds = explore(chooser);
        println!("{chooser:?}: {worlds} worlds");
        assert!(worlds > 10_000, "{worlds}");
    }
}

/// The rules of version 0.1 break the first invariant: the model can tell.
#[test]
fn the_rules_of_version_0_1_are_found_out() {
    let worlds = std::panic::catch_unwind(|| explore(Chooser::Version01));
    let error = worlds.expect_err("the model finds nothing wrong with them");
    let text = error.downcast_ref::<String>().expect("an assertion's text");
    assert!(text.starts_with("1: "), "{text}");
}
