use super::*;
use proptest::prelude::*;

fn any_state() -> impl Strategy<Value = BootState> {
    let slot = prop_oneof![Just(Slot::A), Just(Slot::B)];
    let maybe = proptest::option::of(slot.clone());
    (any::<u32>(), slot, maybe.clone(), any::<(u8, u8)>(), maybe, "[a-z._:+]{0,96}").prop_map(
        |(generation, active, trial, (tries, strikes), fallback, note)| BootState {
            generation,
            active,
            trial,
            tries,
            strikes,
            fallback,
            note,
        },
    )
}

#[test]
fn crc_is_the_standard_one() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}

proptest! {
    #[test]
    fn a_blob_comes_back_whole(state in any_state()) {
        prop_assert_eq!(BootState::from_blob(&state.to_blob()).unwrap(), state);
    }

    #[test]
    fn a_blob_with_a_changed_bit_is_refused(state in any_state(), at in 0usize..BLOB_SIZE, bit in 0u8..8) {
        let mut blob = state.to_blob();
        blob[at] ^= 1 << bit;
        prop_assert!(BootState::from_blob(&blob).is_err());
    }

    #[test]
    fn garbage_never_panics(mut blob in proptest::collection::vec(any::<u8>(), BLOB_SIZE)) {
        let crc = crc32(&blob[4..]);
        blob[..4].copy_from_slice(&crc.to_le_bytes());
        let _ = BootState::from_blob(&blob);
    }

    #[test]
    fn a_torn_write_of_one_copy_keeps_the_other(state in any_state(), at in 0usize..BLOB_SIZE) {
        let old = BootState { generation: state.generation / 2, ..state.clone() };
        let mut torn = old.to_blob();
        torn[..at].copy_from_slice(&state.to_blob()[..at]);
        let (index, found) = newest([&old.to_blob(), &torn]).unwrap();
        prop_assert!(found == old || (index == 1 && found == state));
    }

    #[test]
    fn a_slot_being_written_is_never_booted(mut state in any_state()) {
        state.begin_install();
        prop_assert_eq!(state.next().0, state.active);
    }
}

#[test]
fn a_trial_that_is_not_committed_falls_back() {
    let mut state = BootState { strikes: 1, ..BootState::fresh() };
    state.arm(Slot::B, 2);
    assert_eq!(state.strikes, 0, "the active slot has installed an update: it works");
    assert_eq!(state.next(), (Slot::B, Boot::Trial));
    state.tries -= 1;
    assert_eq!(state.next(), (Slot::B, Boot::Trial));
    state.tries -= 1;
    assert_eq!(state.next(), (Slot::A, Boot::Active));
}

/// Resets without a healthy end between them, as often as it takes to boot `slot`.
fn resets_until(state: &mut BootState, slot: Slot) -> usize {
    (1..=100)
        .find(|_| {
            let (next, boot) = state.next();
            state.count(boot);
            next == slot
        })
        .expect("never booted")
}

#[test]
fn slots_that_do_not_come_up_take_turns() {
    let mut state = BootState::fresh();
    state.commit(Slot::B);
    assert_eq!((state.active, state.fallback), (Slot::B, Some(Slot::A)));
    let turn = usize::from(STRIKES_PER_TURN);
    assert_eq!(resets_until(&mut state, Slot::A), turn + 1);
    for _ in 0..20 {
        assert_eq!(resets_until(&mut state, Slot::B), turn);
        assert_eq!(resets_until(&mut state, Slot::A), turn);
    }
}

#[test]
fn a_known_failure_weighs_two_and_none_of_it_is_the_other_slots() {
    let mut state = BootState::fresh();
    state.commit(Slot::B);
    for boots in 1..=4 {
        assert_eq!(state.next(), (Slot::B, Boot::Active), "boot {boots}");
        state.count(Boot::Active);
        state.record_failure(Slot::B);
    }
    assert_eq!((state.next(), state.strikes), ((Slot::A, Boot::Fallback), STRIKES_PER_TURN));
    state.record_failure(Slot::B);
    assert_eq!(state.strikes, STRIKES_PER_TURN, "slot b's turn is over");
}

/// A loader of version 0.1 counts no boot of the fallback slot, and boots it from five strikes
/// on. That each known failure counts gives the active slot its turn there as well.
#[test]
fn an_old_loader_comes_back_to_the_active_slot() {
    let mut state = BootState { fallback: Some(Slot::B), strikes: 5, ..BootState::fresh() };
    let boots = (0..20).take_while(|_| {
        let boots_fallback = state.strikes >= 5;
        state.record_failure(Slot::B);
        boots_fallback
    });
    assert!(boots.count() < 20, "{state:?}");
    // One that hangs is known by the watchdog, at its next start.
    state.strikes = 5;
    let boots = (0..20).take_while(|_| {
        let boots_fallback = state.strikes >= 5;
        state.record_previous_failure((Slot::B, Boot::Fallback), "watchdog");
        boots_fallback
    });
    assert!(boots.count() < 20, "{state:?}");
}

#[test]
fn a_trial_that_was_given_up_is_not_made_active_by_a_healthy_moment() {
    let mut state = BootState::fresh();
    state.arm(Slot::B, 1);
    state.count(Boot::Trial);
    state.clear_trial();
    state.settle(Slot::B);
    assert_eq!(state.next(), (Slot::A, Boot::Active));
}

#[test]
fn a_boot_that_waits_for_its_cable_forgives_itself_alone() {
    let mut state = BootState { fallback: Some(Slot::B), ..BootState::fresh() };
    // Held for a while, then lost: again and again, until it is the other slot's turn.
    let boots = (1..100).find(|_| {
        let (_, boot) = state.next();
        state.count(boot);
        state.forgive_this_boot();
        state.record_failure(Slot::A);
        state.next().1 == Boot::Fallback
    });
    assert_eq!(boots, Some(usize::from(STRIKES_PER_TURN)));
    let mut state = BootState::fresh();
    for _ in 0..100 {
        state.count(Boot::Active);
        state.forgive_this_boot();
    }
    assert_eq!(state.strikes, 0, "one without a cable never adds up");
}

#[test]
fn a_failure_that_shows_at_the_next_boot_is_the_slots_that_failed() {
    let mut state = BootState { fallback: Some(Slot::B), ..BootState::fresh() };
    state.arm(Slot::B, 1);
    state.count(Boot::Trial);
    state.count(Boot::Active);
    state.record_previous_failure((Slot::A, Boot::Active), "watchdog");
    assert_eq!((state.strikes, &*state.note), (1, "b:watchdog"), "the trial's");
    state.clear_trial();
    state.count(Boot::Active);
    state.record_previous_failure((Slot::A, Boot::Active), "kernel panic");
    assert_eq!((state.strikes, &*state.note), (3, "a:kernel_panic"));
}

#[test]
fn a_fallback_that_is_healthy_becomes_active_and_the_struck_out_slot_its_fallback() {
    let mut state = BootState::fresh();
    state.commit(Slot::B);
    state.strikes = STRIKES_PER_TURN + 1;
    state.settle(Slot::A);
    assert_eq!((state.active, state.fallback, state.strikes), (Slot::A, Some(Slot::B), 0));
    state.arm(Slot::B, 2);
    state.clear_trial();
    assert_eq!(state.fallback, Some(Slot::B), "a trial that failed takes nothing from it");
}

#[test]
fn what_is_below_the_floor_is_not_fallen_back_to() {
    let mut state = BootState::fresh();
    state.commit(Slot::B);
    state.forbid_fallback();
    for strikes in 0..=u8::MAX {
        state.strikes = strikes;
        assert_eq!(state.next(), (Slot::B, Boot::Active));
    }
}

#[test]
fn a_lost_state_keeps_what_runs_and_takes_it_for_no_more_than_it_is() {
    for slot in [Slot::A, Slot::B] {
        for boot in [Boot::Active, Boot::Trial, Boot::Fallback] {
            let mut state = BootState::lost(slot, boot);
            assert_eq!(state.active == slot, boot == Boot::Active);
            match boot {
                Boot::Trial => state.commit(slot),
                _ => state.settle(slot),
            }
            assert_eq!(state.next(), (slot, Boot::Active));
        }
    }
}

#[test]
fn a_failure_that_was_written_down_is_not_counted_again_when_the_shutdown_hangs() {
    let mut state = BootState { fallback: Some(Slot::B), ..BootState::fresh() };
    state.count(Boot::Active);
    state.note_failure(Slot::A, "vital workload face failed");
    assert_eq!(state.strikes, 2);
    state.count(Boot::Active);
    state.record_previous_failure((Slot::A, Boot::Active), "reset by the watchdog");
    assert_eq!(state.strikes, 3, "the boot's own strike, and no more");
    assert_eq!(parse_note(&state.note), Some((Slot::A, "vital_workload_face_failed")));
    // The boot after that hangs before it can say anything: that is another failure.
    state.count(Boot::Active);
    state.record_previous_failure((Slot::A, Boot::Active), "reset by the watchdog");
    assert_eq!(state.strikes, 5);
}

#[test]
fn the_longest_reason_still_says_that_it_is_counted() {
    let mut state = BootState::fresh();
    state.note_failure(Slot::A, &"x".repeat(2 * MAX_NOTE));
    assert_eq!(state.note.len(), MAX_NOTE);
    let mut read = BootState::from_blob(&state.to_blob()).unwrap();
    read.record_previous_failure((Slot::A, Boot::Active), "reset by the watchdog");
    assert_eq!(read.strikes, state.strikes);
    assert_eq!(parse_note(&read.note).map(|(_, reason)| reason.len()), Some(MAX_NOTE - 3));
}

#[test]
fn when_the_state_was_lost_the_slot_above_the_floor_goes_first_and_the_other_is_kept() {
    for boot in [Boot::Active, Boot::Fallback, Boot::Trial] {
        assert!(!BootState::fresh().yields_to_what_forbids_it((Slot::A, boot)), "a trial failed");
    }
    let mut state = BootState::lost(Slot::A, Boot::Active);
    assert!(state.yields_to_what_forbids_it((Slot::A, Boot::Active)));
    state.yield_to_other(Slot::A);
    for _ in 0..TRIES_AFTER_LOSS {
        assert_eq!(state.next(), (Slot::B, Boot::Trial));
        state.count(Boot::Trial);
    }
    assert_eq!(state.next(), (Slot::A, Boot::Active));
    assert!(!state.yields_to_what_forbids_it((Slot::A, Boot::Active)), "once");
}
