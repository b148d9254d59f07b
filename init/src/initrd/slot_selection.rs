//! Which slot runs, and as what kind of boot: told by the loader in the kernel's arguments, or
//! chosen here where the firmware cannot choose (the Raspberry Pi's, docs/choosers/rpi.md).

use std::path::Path;

use formats::boot_state::{Boot, BootState};
use formats::boot_state_store::Running;
use formats::layout::{self, Slot};
use formats::medium::DeviceFolder;
use formats::rpi::Rpi;
use formats::rpi::autoboot::Method;
use formats::rpi::plan::{self, Found, Then, Write};
use formats::{Error, Result};

use crate::console::say;
use crate::reset;

/// Set by the Raspberry Pi's firmware when it booted because of its one-shot flag: a big-endian
/// number (Raspberry Pi documentation, "Common bootloader properties").
const FLAGGED: &str = "/proc/device-tree/chosen/bootloader/tryboot";

/// What boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The slot.
    pub slot: Slot,
    /// As what.
    pub kind: Boot,
}

impl Choice {
    /// The slot, and as what it was booted.
    pub fn running(self) -> Running {
        (self.slot, self.kind)
    }
}

/// The choice that a loader made.
pub fn from_cmdline(arguments: &str) -> Result<Choice> {
    let given = |word| arguments.split_ascii_whitespace().any(|w| w == word);
    let slot = Slot::from_cmdline(arguments)
        .ok_or_else(|| Error::new("the kernel arguments lack ferrite.slot=a or b"))?;
    let kind = match (given("ferrite.trial=1"), given("ferrite.fallback=1")) {
        (true, _) => Boot::Trial,
        (_, true) => Boot::Fallback,
        _ => Boot::Active,
    };
    Ok(Choice { slot, kind })
}

/// The method of a chooser that leaves the choice to the initrd; `None` for all others.
pub fn chooses_here(chooser: &str) -> Option<Method> {
    match chooser {
        "rpi" => Some(Method::Pointer),
        "rpi-tryboot" => Some(Method::Tryboot),
        _ => None,
    }
}

/// Chooses, and resets the board when another slot than the running one is chosen. The partitions
/// have to be linked already.
pub fn choose(method: Method, arguments: &str) -> Result<Choice> {
    let rpi = Rpi::new(DeviceFolder::shared(Path::new(layout::DEVICES)), method);
    // A damaged autoboot.txt says nothing; that it cannot be written will be said below.
    let pointer = rpi.pointer().unwrap_or_else(|e| {
        say(&[&e.to_string()]);
        None
    });
    let running = rpi.running(arguments, pointer)?;
    let flagged = std::fs::read(FLAGGED).is_ok_and(|number| number == [0, 0, 0, 1]);
    let state = match rpi.state() {
        Ok(state) => state,
        // Neither copy can be read, so nobody knows whose turn it is, and nothing can be counted.
        // What the firmware started goes on; a reset would only come back here.
        Err(e) => {
            say(&[&e.to_string()]);
            return Ok(Choice { slot: running, kind: Boot::Active });
        }
    };
    let mut found = Found { method, state, pointer, running, flagged };
    loop {
        let plan = plan::plan(&found)?;
        match carry_out(&rpi, &plan.writes) {
            Ok(()) => return arrive(&found, &plan.writes, plan.then),
            Err((write, error)) => {
                say(&[&error.to_string()]);
                found = match after_failure(&found, write) {
                    Next::Again(found) => found,
                    Next::GoOn(kind) => return Ok(Choice { slot: running, kind }),
                    Next::Stop => return Err(error),
                };
            }
        }
    }
}

fn carry_out<'a>(rpi: &Rpi, writes: &'a [Write]) -> std::result::Result<(), (&'a Write, Error)> {
    writes.iter().try_for_each(|write| rpi.write(write).map_err(|error| (write, error)))
}

/// What is left when a write failed.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Another choice, without what cannot be done.
    Again(Found),
    /// The running slot, as this.
    GoOn(Boot),
    /// Nothing.
    Stop,
}

/// A trial that cannot be counted would never end: it is passed over. Where even the rest cannot
/// be written, what runs goes on if it may.
fn after_failure(found: &Found, write: &Write) -> Next {
    let is_trial = found
        .state
        .as_ref()
        .is_some_and(|s| s.next().1 == Boot::Trial && s.active == found.running);
    match (&found.state, write) {
        (Some(state), Write::State(_)) if is_trial => Next::Again(Found {
            state: Some(BootState { tries: 0, ..state.clone() }),
            ..found.clone()
        }),
        _ => plan::without_writing(found).map_or(Next::Stop, Next::GoOn),
    }
}

/// Says what was chosen, in the words of the other choosers; resets where that is the next step.
fn arrive(found: &Found, writes: &[Write], then: Then) -> Result<Choice> {
    let written = writes.iter().find_map(|write| match write {
        Write::State(state) => Some(state),
        Write::Pointer(_) => None,
    });
    let state = written.or(found.state.as_ref());
    let slot = found.running;
    match then {
        Then::Boot(kind) => {
            say(&["slot ", slot.letter(), &described(kind, state)]);
            Ok(Choice { slot, kind })
        }
        Then::Reset(next) => {
            say_next(next, state);
            reset::reset()
        }
        Then::ResetOnce(next) => {
            say_next(next, state);
            reset::reset_with_flag()
        }
    }
}

fn say_next(slot: Slot, state: Option<&BootState>) {
    let kind = match state {
        Some(state) if state.trial == Some(slot) => Boot::Trial,
        Some(state) if state.active != slot => Boot::Fallback,
        _ => Boot::Active,
    };
    say(&["slot ", slot.letter(), " is next", &described(kind, state), "; resetting"]);
}

fn described(kind: Boot, state: Option<&BootState>) -> String {
    state.map_or(String::new(), |state| formats::loader::described(kind, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaders_choice_stands_in_the_arguments() {
        let choice = |slot, kind| Choice { slot, kind };
        for (arguments, expected) in [
            ("quiet ferrite.slot=a\n", choice(Slot::A, Boot::Active)),
            ("ferrite.slot=b ferrite.trial=1", choice(Slot::B, Boot::Trial)),
            ("ferrite.slot=b ferrite.fallback=1", choice(Slot::B, Boot::Fallback)),
        ] {
            assert_eq!(from_cmdline(arguments).unwrap(), expected);
        }
        assert!(from_cmdline("quiet").is_err());
    }

    #[test]
    fn the_lines_are_those_of_the_other_choosers() {
        let mut state = BootState::fresh();
        state.strikes = 0x1f;
        state.arm(Slot::B, 2);
        assert_eq!(described(Boot::Trial, Some(&state)), " (trial, 2 tries left)");
        state.strikes = 0x1f;
        assert_eq!(described(Boot::Active, Some(&state)), " (active, strike 1f)");
        assert_eq!(described(Boot::Fallback, Some(&state)), " (fallback, strike 1f)");
        state.strikes = 0;
        assert_eq!(described(Boot::Active, Some(&state)), " (active, strike 0)");
    }

    #[test]
    fn a_trial_that_cannot_be_counted_is_passed_over() {
        let mut state = BootState::fresh();
        state.arm(Slot::B, 2);
        let found = Found {
            method: Method::Pointer,
            state: Some(state.clone()),
            pointer: Some(Slot::A),
            running: Slot::A,
            flagged: false,
        };
        let write = Write::State(state.clone());
        let Next::Again(again) = after_failure(&found, &write) else { panic!("no other choice") };
        assert_eq!(plan::plan(&again).unwrap().then, Then::Boot(Boot::Active));
        // The strike cannot be written either: the slot goes on.
        assert_eq!(after_failure(&again, &write), Next::GoOn(Boot::Active));
        // The trial's own life cannot point back.
        let trial = Found { pointer: Some(Slot::B), running: Slot::B, ..found };
        assert_eq!(after_failure(&trial, &Write::Pointer(Slot::A)), Next::GoOn(Boot::Trial));
        let mut failed = state;
        failed.clear_trial();
        let stranger = Found { state: Some(failed), ..trial };
        assert_eq!(after_failure(&stranger, &Write::Pointer(Slot::A)), Next::Stop);
    }
}
