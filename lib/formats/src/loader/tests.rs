use super::*;
use proptest::prelude::*;

/// Two copies, and what happens to them.
#[derive(Default)]
struct Bench {
    copies: [Option<Vec<u8>>; 2],
    /// No write reaches the medium.
    read_only: bool,
    /// Slots whose files are whole.
    loadable: Vec<Slot>,
    started: Vec<(Slot, Boot)>,
    said: Vec<String>,
    writes: usize,
}

impl Board for Bench {
    fn read(&mut self, copy: usize) -> Option<[u8; BLOB_SIZE]> {
        self.copies[copy].clone()?.try_into().ok()
    }

    fn write(&mut self, copy: usize, blob: &[u8; BLOB_SIZE]) -> bool {
        self.writes += 1;
        if !self.read_only {
            self.copies[copy] = Some(blob.to_vec());
        }
        // A medium that only says it has written is found out by reading.
        true
    }

    fn start(&mut self, slot: Slot, boot: Boot) -> Started {
        self.started.push((slot, boot));
        if self.loadable.contains(&slot) { Started::Yes } else { Started::No }
    }

    fn say(&mut self, line: &str) {
        self.said.push(line.to_owned());
    }
}

impl Bench {
    fn with(state: &BootState) -> Bench {
        let spoilt = Some(vec![0xA5; BLOB_SIZE]);
        Bench { copies: [Some(state.to_blob().to_vec()), spoilt], ..Bench::default() }
    }

    fn state(&self) -> Option<BootState> {
        let [a, b] = self.copies.each_ref().map(|copy| copy.as_deref().unwrap_or(&[]));
        newest([a, b]).map(|(_, state)| state)
    }
}

fn any_state() -> impl Strategy<Value = BootState> {
    let slot = prop_oneof![Just(Slot::A), Just(Slot::B)];
    let maybe = proptest::option::of(slot.clone());
    let counts = (0u8..4, prop_oneof![0u8..20, Just(255)]);
    (1u32..u32::MAX - 9, slot, maybe.clone(), counts, maybe).prop_map(
        |(generation, active, trial, (tries, strikes), fallback)| BootState {
            generation,
            active,
            trial,
            tries,
            strikes,
            fallback,
            note: String::new(),
        },
    )
}

proptest! {
    /// With everything loadable it is what [`BootState::next`] says, counted first.
    #[test]
    fn the_first_choice_is_the_rule_of_all_choosers(state in any_state()) {
        let mut bench = Bench { loadable: vec![Slot::A, Slot::B], ..Bench::with(&state) };
        let (slot, boot) = state.next();
        prop_assert_eq!(choose(&mut bench), Some((slot, boot)));
        let mut expected = state.clone();
        expected.count(boot);
        expected.generation += 1;
        prop_assert_eq!(bench.state(), Some(expected));
        prop_assert_eq!(bench.copies[0].clone(), Some(state.to_blob().to_vec()), "the ruling copy");
    }

    /// With nothing loadable each slot that may run has its turn, and none other.
    #[test]
    fn what_may_run_has_its_turn(state in any_state()) {
        let mut bench = Bench::with(&state);
        prop_assert_eq!(choose(&mut bench), None);
        let mut kinds: Vec<Boot> = bench.started.iter().map(|(_, boot)| *boot).collect();
        let trial = state.trial.filter(|_| state.tries > 0).map(|slot| (slot, Boot::Trial));
        if let Some(trial) = trial {
            prop_assert_eq!(bench.started[0], trial);
            kinds.remove(0);
        }
        let first = BootState { trial: None, ..state.clone() }.next().1;
        prop_assert_eq!(kinds.first(), Some(&first));
        prop_assert_eq!(kinds.len(), 1 + usize::from(state.fallback.is_some()));
        prop_assert!(bench.started.contains(&(state.active, Boot::Active)));
    }

    /// Resets in a row end the trial, and a medium that takes no write never starts one.
    #[test]
    fn a_trial_is_counted_or_passed_over(state in any_state(), read_only: bool) {
        let loadable = vec![Slot::A, Slot::B];
        let mut bench = Bench { read_only, loadable, ..Bench::with(&state) };
        let lives: Vec<_> = (0..5).filter_map(|_| choose(&mut bench)).collect();
        let trials = lives.iter().filter(|(_, boot)| *boot == Boot::Trial).count();
        let expected = if read_only || state.trial.is_none() { 0 } else { usize::from(state.tries) };
        prop_assert_eq!(trials, expected);
        prop_assert_eq!(lives.len(), 5);
    }
}

#[test]
fn a_slot_that_cannot_be_loaded_leaves_a_note_for_the_next() {
    let mut state = BootState::fresh();
    state.arm(Slot::B, 2);
    let mut bench = Bench { loadable: vec![Slot::A], ..Bench::with(&state) };
    assert_eq!(choose(&mut bench), Some((Slot::A, Boot::Active)));
    let left = bench.state().unwrap();
    assert_eq!((left.tries, left.strikes, &*left.note), (1, 1, "boot-b-not-loadable"));
    assert_eq!(
        bench.said,
        ["slot b (trial, 1 tries left)", "slot b cannot be loaded", "slot a (active, strike 1)"]
    );
}

#[test]
fn a_lost_state_starts_afresh_and_an_unreadable_one_is_left_alone() {
    let spoilt = || Some(vec![0xA5; BLOB_SIZE]);
    let mut bench = Bench { copies: [spoilt(), spoilt()], ..Bench::default() };
    assert_eq!(choose(&mut bench), None);
    let tried = [(Slot::A, Boot::Active), (Slot::B, Boot::Fallback)];
    assert_eq!(bench.started, tried);
    let left = bench.state().unwrap();
    assert_eq!((left.generation, left.strikes, &*left.note), (1, 1, STATE_LOST));
    let mut bench = Bench { copies: [None, spoilt()], ..Bench::default() };
    assert_eq!(choose(&mut bench), None);
    assert_eq!((&bench.started[..], bench.writes), (&tried[..], 0));
}

#[test]
fn numbers_are_hexadecimal() {
    let state = BootState { strikes: 0x1f, tries: 2, ..BootState::fresh() };
    assert_eq!(described(Boot::Trial, &state), " (trial, 2 tries left)");
    assert_eq!(described(Boot::Active, &state), " (active, strike 1f)");
    assert_eq!(described(Boot::Fallback, &state), " (fallback, strike 1f)");
}
