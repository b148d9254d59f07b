//! How a boot loader of ours goes through its choices: the rules of `boot.scr` (docs/choosers/uboot.md)
//! as code. The board is a trait, so that the same code runs in the firmware and in tests.

use alloc::string::{String, ToString};

use crate::Slot;
use crate::boot_state::{BLOB_SIZE, Boot, BootState, STATE_LOST, newest};

/// What a loader can do on its board.
pub trait Board {
    /// One of the two copies of the boot state, 0 or 1; `None` when the medium does not answer.
    fn read(&mut self, copy: usize) -> Option<[u8; BLOB_SIZE]>;

    /// Overwrites a copy and sees to it that it is on the medium. False when that failed.
    fn write(&mut self, copy: usize, blob: &[u8; BLOB_SIZE]) -> bool;

    /// Starts this slot's kernel. Comes back only when it cannot be started; with
    /// [`Started::Yes`] in tests, which start nothing.
    fn start(&mut self, slot: Slot, boot: Boot) -> Started;

    /// A line for people.
    fn say(&mut self, line: &str);
}

/// Whether a slot was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It runs.
    Yes,
    /// Its files are missing, altered or refused.
    No,
}

/// Counts, and starts the slot whose turn it is, then the next one should it not start. Gives what
/// was started; `None` when nothing can be.
pub fn choose(board: &mut impl Board) -> Option<(Slot, Boot)> {
    let mut round = Round::begin(board);
    if let (slot, Boot::Trial) = round.state.next() {
        round.state.count(Boot::Trial);
        // A trial that cannot be counted would never end: it is passed over.
        if round.save(board) && round.start(board, slot, Boot::Trial) {
            return Some((slot, Boot::Trial));
        }
    }
    let (slot, boot) = round.state.turn();
    round.state.count(boot);
    // That it cannot be counted is no reason not to boot it.
    round.save(board);
    if round.start(board, slot, boot) {
        return Some((slot, boot));
    }
    let (slot, boot) = match boot {
        Boot::Fallback => (round.state.active, Boot::Active),
        _ => (round.state.fallback?, Boot::Fallback),
    };
    round.start(board, slot, boot).then_some((slot, boot))
}

/// The state as it changes from choice to choice.
struct Round {
    state: BootState,
    /// The copy that is written next; none where nothing may be written.
    target: Option<usize>,
}

impl Round {
    /// By the valid copy with the higher generation. Without one nobody knows which slot was
    /// committed: both are tried, and each proves itself to the initrd.
    fn begin(board: &mut impl Board) -> Round {
        let copies = [board.read(0), board.read(1)];
        let bytes = |copy: usize| copies[copy].as_ref().map_or(&[][..], |blob| &blob[..]);
        if let Some((ruling, state)) = newest([bytes(0), bytes(1)]) {
            return Round { state, target: Some(1 - ruling) };
        }
        board.say("boot state lost, starting afresh with slot a");
        let state = BootState {
            generation: 0,
            fallback: Some(Slot::B),
            note: STATE_LOST.to_string(),
            ..BootState::fresh()
        };
        // A medium that did not answer may still hold a good state: it is not written over.
        let answered = copies.iter().all(Option::is_some);
        Round { state, target: answered.then_some(0) }
    }

    /// Writes the state over the older copy and reads it back.
    fn save(&mut self, board: &mut impl Board) -> bool {
        let saved = self.target.is_some_and(|copy| {
            self.state.generation = self.state.generation.wrapping_add(1);
            let blob = self.state.to_blob();
            board.write(copy, &blob) && board.read(copy) == Some(blob)
        });
        if !saved {
            board.say("boot state not written");
            return false;
        }
        self.target = self.target.map(|copy| 1 - copy);
        true
    }

    fn start(&mut self, board: &mut impl Board, slot: Slot, boot: Boot) -> bool {
        board.say(&["slot ", slot.letter(), &described(boot, &self.state)].concat());
        if board.start(slot, boot) == Started::Yes {
            return true;
        }
        self.state.note = ["boot-", slot.letter(), "-not-loadable"].concat();
        board.say(&["slot ", slot.letter(), " cannot be loaded"].concat());
        false
    }
}

/// What kind of boot this is, as every chooser says it: ` (trial, 1 tries left)`. Numbers are
/// hexadecimal.
pub fn described(boot: Boot, state: &BootState) -> String {
    let number = |number: u8| {
        let two = crate::hex::encode(&[number]);
        two.strip_prefix('0').map_or(two.clone(), str::to_string)
    };
    match boot {
        Boot::Trial => [" (trial, ", &number(state.tries), " tries left)"].concat(),
        Boot::Active => [" (active, strike ", &number(state.strikes), ")"].concat(),
        Boot::Fallback => [" (fallback, strike ", &number(state.strikes), ")"].concat(),
    }
}

#[cfg(test)]
mod tests;
