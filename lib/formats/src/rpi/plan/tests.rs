//! Every state, every pointer, and the power cut before, in and after every write.

use super::*;
use crate::boot_state::{STRIKES_PER_ROUND, STRIKES_PER_TURN};

/// Lives in a row without a boot after which a board counts as stuck.
const MANY: usize = 8;
/// Both ends of each slot's turn, and what version 0.1 could leave.
const STRIKES: [u8; 5] =
    [0, STRIKES_PER_TURN - 1, STRIKES_PER_TURN, STRIKES_PER_ROUND - 1, u8::MAX];

/// The medium and the firmware's memory: all that outlives a reset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Board {
    method: Method,
    state: Option<BootState>,
    pointer: Option<Slot>,
    flag: bool,
}

/// What a board came to.
#[derive(Debug, Clone)]
struct Came {
    board: Board,
    slot: Slot,
    kind: Boot,
    cuts: usize,
}

impl Board {
    /// The firmware: the flag lasts for one boot and no power cut; without a pointer it boots the
    /// first partition with firmware files, which is slot a.
    fn firmware(&mut self) -> Found {
        let flagged = std::mem::take(&mut self.flag);
        let default = self.pointer.unwrap_or(Slot::A);
        let running = if flagged && self.pointer.is_some() { default.other() } else { default };
        Found {
            method: self.method,
            state: self.state.clone(),
            pointer: self.pointer,
            running,
            flagged,
        }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::State(state) => self.state = Some(state.clone()),
            Write::Pointer(slot) => self.pointer = Some(*slot),
        }
    }

    /// The boards that a power cut in this write may leave: the old sector, the new one, or, as
    /// the pointer has no second copy, rubbish.
    fn cut_in(&self, write: &Write) -> Vec<Board> {
        let mut after = self.clone();
        after.write(write);
        let mut left = vec![self.clone(), after];
        if let Write::Pointer(_) = write {
            left.push(Board { pointer: None, ..self.clone() });
        }
        for board in &mut left {
            board.flag = false;
        }
        left
    }

    /// All that this board can come to, with up to `cuts` power cuts on the way.
    fn lives(&self, cuts: usize) -> Vec<Came> {
        let mut came = Vec::new();
        self.live(cuts, 0, MANY, &mut came);
        came
    }

    fn live(&self, cuts_left: usize, cuts: usize, patience: usize, came: &mut Vec<Came>) {
        assert!(patience > 0, "{self:?} resets for ever");
        let mut board = self.clone();
        let found = board.firmware();
        let plan = plan(&found).unwrap_or_else(|e| panic!("{self:?}: {e}"));
        for write in &plan.writes {
            if cuts_left > 0 {
                for left in board.cut_in(write) {
                    left.live(cuts_left - 1, cuts + 1, MANY, came);
                }
            }
            board.write(write);
        }
        match plan.then {
            Then::Boot(kind) => came.push(Came { board, slot: found.running, kind, cuts }),
            Then::Reset(_) => board.live(cuts_left, cuts, patience - 1, came),
            Then::ResetOnce(_) => {
                assert_eq!(self.method, Method::Tryboot);
                board.flag = true;
                board.live(cuts_left, cuts, patience - 1, came);
            }
        }
    }
}

fn maybe_slots() -> [Option<Slot>; 3] {
    [None, Some(Slot::A), Some(Slot::B)]
}

/// Every state that matters, with every pointer.
fn boards() -> Vec<Board> {
    let mut boards = Vec::new();
    for method in [Method::Pointer, Method::Tryboot] {
        for active in [Slot::A, Slot::B] {
            for trial in [None, Some(active.other())] {
                for tries in 0..=2 {
                    for strikes in STRIKES {
                        for fallback in [None, Some(active.other())] {
                            for pointer in maybe_slots() {
                                let fresh = BootState::fresh();
                                let state = Some(BootState {
                                    active,
                                    trial,
                                    tries,
                                    strikes,
                                    fallback,
                                    ..fresh
                                });
                                boards.push(Board { method, state, pointer, flag: false });
                            }
                        }
                    }
                }
            }
        }
    }
    boards
}

#[test]
fn what_boots_is_what_the_state_says() {
    for board in boards() {
        let came = board.lives(0);
        assert_eq!(came.len(), 1);
        let state = board.state.clone().unwrap();
        let asked_for = board.pointer == state.trial && board.method == Method::Pointer;
        let expected = match state.trial {
            // Only an initrd points there, after it has counted.
            Some(slot) if asked_for => (slot, Boot::Trial),
            _ => state.next(),
        };
        // A last try of a slot that is the fallback too, with strikes as arming never leaves them:
        // either name for it is right.
        let is_both = state.trial == state.fallback && state.turn().1 == Boot::Fallback;
        let kind =
            if is_both && came[0].kind == Boot::Fallback { expected.1 } else { came[0].kind };
        assert_eq!((came[0].slot, kind), expected, "{board:?}");
    }
}

#[test]
fn wherever_the_power_is_cut_only_what_may_run_runs_and_the_pointer_is_right_then() {
    let mut seen = 0;
    for board in boards() {
        for came in board.lives(2) {
            seen += 1;
            let state = came.board.state.clone().unwrap();
            let allowed = match came.kind {
                Boot::Active => came.slot == state.active,
                Boot::Trial => Some(came.slot) == state.trial,
                Boot::Fallback => Some(came.slot) == state.fallback,
            };
            assert!(allowed, "{board:?} came to {came:?}");
            // Whatever happens from here on, the next reset needs nobody's help.
            let pointer = match came.kind {
                Boot::Trial => state.active,
                _ => came.slot,
            };
            assert_eq!(came.board.pointer, Some(pointer), "{board:?} came to {came:?}");
        }
    }
    assert!(seen > 10_000, "{seen}");
}

#[test]
fn a_trial_that_never_commits_ends_and_each_of_its_boots_was_counted() {
    for method in [Method::Pointer, Method::Tryboot] {
        for tries in 1..=3u8 {
            let mut state = BootState::fresh();
            state.arm(Slot::B, tries);
            let start = Board { method, state: Some(state), pointer: Some(Slot::A), flag: false };
            // Each trial ends in a reset; a power cut may come in any of the lives between.
            let mut open = vec![(start, 0, 0)];
            while let Some((board, trials, cuts)) = open.pop() {
                for came in board.lives(1) {
                    let cuts = cuts + came.cuts;
                    match came.kind {
                        Boot::Trial => {
                            // A cut between the jump and its initrd repeats what was counted.
                            assert!(trials < usize::from(tries) + cuts, "too many trials");
                            if cuts < 3 {
                                open.push((came.board, trials + 1, cuts));
                            }
                        }
                        _ => {
                            assert_eq!((came.slot, came.kind), (Slot::A, Boot::Active));
                            let lost = usize::from(tries) - trials.min(usize::from(tries));
                            assert!(lost <= cuts, "a try was lost without a power cut");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_trial_that_dies_before_its_initrd_falls_back_where_the_firmware_has_a_flag() {
    let mut state = BootState::fresh();
    state.arm(Slot::B, 2);
    let method = Method::Tryboot;
    let mut board = Board { method, state: Some(state), pointer: Some(Slot::A), flag: false };
    for left in [1, 0] {
        let found = board.firmware();
        assert_eq!(found.running, Slot::A);
        let plan = plan(&found).unwrap();
        plan.writes.iter().for_each(|write| board.write(write));
        assert_eq!(plan.then, Then::ResetOnce(Slot::B));
        assert_eq!(board.state.as_ref().unwrap().tries, left);
        board.flag = true;
        // Slot b's kernel hangs; the watchdog resets.
        assert_eq!(board.firmware().running, Slot::B);
    }
    assert_eq!(board.lives(0)[0].kind, Boot::Active);
}

#[test]
fn a_commit_takes_effect_wherever_it_is_cut() {
    for method in [Method::Pointer, Method::Tryboot] {
        let mut state = BootState::fresh();
        state.arm(Slot::B, 1);
        let armed = Board { method, state: Some(state), pointer: Some(Slot::A), flag: false };
        let [trial] = &armed.lives(0)[..] else { panic!("one end without cuts") };
        assert_eq!((trial.slot, trial.kind), (Slot::B, Boot::Trial));
        let mut committed = trial.board.state.clone().unwrap();
        committed.commit(Slot::B);
        // What a chooser stores: the state, then the pointer where it rests.
        let pointer = Write::Pointer(resting(&committed));
        let state = Write::State(committed);
        let mut board = trial.board.clone();
        for write in [&state, &pointer] {
            for left in board.cut_in(write) {
                for came in left.lives(1) {
                    let expected = if left.state == board.state && *write == state {
                        (Slot::A, Boot::Active)
                    } else {
                        (Slot::B, Boot::Active)
                    };
                    assert_eq!((came.slot, came.kind), expected, "{left:?}");
                }
            }
            board.write(write);
        }
    }
}

#[test]
fn while_a_slot_may_be_half_written_nothing_points_to_it_and_the_pointer_is_not_written() {
    for board in boards() {
        let mut state = board.state.clone().unwrap();
        state.begin_install();
        // What `update` sees to before an installation begins.
        let pointer = Some(resting(&state));
        assert_eq!(pointer, Some(state.active));
        let installing = Board { state: Some(state), pointer, ..board };
        for came in installing.lives(2) {
            assert_eq!((Some(came.slot), came.kind), (pointer, Boot::Active));
            assert_eq!(came.board.pointer, pointer);
        }
        let plan = plan(&installing.clone().firmware()).unwrap();
        assert!(!plan.writes.iter().any(|write| matches!(write, Write::Pointer(_))));
    }
}

#[test]
fn a_lost_state_keeps_the_slot_that_boots() {
    for pointer in maybe_slots() {
        let method = Method::Pointer;
        for came in (Board { method, state: None, pointer, flag: false }).lives(2) {
            let slot = pointer.unwrap_or(Slot::A);
            assert_eq!((came.slot, came.kind), (slot, Boot::Active));
            let state = came.board.state.unwrap();
            assert_eq!((state.active, state.fallback), (slot, None));
            assert_eq!(came.board.pointer, Some(slot));
        }
    }
}

#[test]
fn a_slot_that_the_firmware_does_not_boot_is_not_asked_for_for_ever() {
    let found = |state: BootState, running| Found {
        method: Method::Pointer,
        pointer: Some(resting(&state)),
        state: Some(state),
        running,
        flagged: false,
    };
    let mut state = BootState { fallback: Some(Slot::B), ..BootState::fresh() };
    let stray = plan(&found(state.clone(), Slot::B)).unwrap();
    assert_eq!(stray.then, Then::Boot(Boot::Fallback));
    assert!(matches!(&stray.writes[..], [Write::State(s)] if s.note == "boot-a-not-loadable"));
    state.strikes = STRIKES_PER_TURN;
    assert_eq!(plan(&found(state.clone(), Slot::A)).unwrap().then, Then::Boot(Boot::Active));
    state.fallback = None;
    assert!(plan(&found(state, Slot::B)).is_err());
}

#[test]
fn without_writing_only_what_may_run_runs() {
    let mut state = BootState::fresh();
    let mut found = Found {
        method: Method::Pointer,
        pointer: None,
        state: None,
        running: Slot::B,
        flagged: false,
    };
    assert_eq!(without_writing(&found), Some(Boot::Active));
    found.state = Some(state.clone());
    assert_eq!(without_writing(&found), None);
    state.fallback = Some(Slot::B);
    found.state = Some(state.clone());
    assert_eq!(without_writing(&found), Some(Boot::Fallback));
    state.arm(Slot::B, 1);
    found.state = Some(state);
    assert_eq!(without_writing(&found), Some(Boot::Trial));
}
