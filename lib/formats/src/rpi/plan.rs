//! What the initrd does where no loader can choose: from what it finds to the writes it makes,
//! in their order, and whether it goes on or resets. Nothing here touches a disk; docs/choosers/rpi.md has
//! the reasons, `tests` tries every state with a power cut at every write.

use super::autoboot::Method;
use crate::boot_state::{Boot, BootState, STATE_LOST};
use crate::{Error, Result, Slot};

/// What the initrd finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How this board boots a slot once.
    pub method: Method,
    /// The boot state; `None` when both copies are spoilt.
    pub state: Option<BootState>,
    /// Where `autoboot.txt` points; `None` when it does not say.
    pub pointer: Option<Slot>,
    /// The slot whose kernel runs.
    pub running: Slot,
    /// The firmware says that it booted because of its one-shot flag.
    pub flagged: bool,
}

/// What has to be on the medium before the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The boot state.
    State(BootState),
    /// `autoboot.txt`.
    Pointer(Slot),
}

/// What comes after the writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The running slot goes on, as this kind of boot.
    Boot(Boot),
    /// A reset, so that the firmware boots the slot that `autoboot.txt` names now.
    Reset(Slot),
    /// A reset with the firmware's one-shot flag, so that it boots this slot once.
    ResetOnce(Slot),
}

/// The writes, in their order, and the step after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Each has to be flushed before the next.
    pub writes: Vec<Write>,
    /// What comes then.
    pub then: Then,
}

/// Where `autoboot.txt` points while no trial is being started: to what the firmware is to boot
/// after any reset that nobody prepared.
pub fn resting(state: &BootState) -> Slot {
    state.turn().0
}

/// Decides. Fails when the running slot may not run and the firmware boots no other.
pub fn plan(found: &Found) -> Result<Plan> {
    let running = found.running;
    let Some(state) = &found.state else {
        return Ok(afresh(found));
    };
    if arrived(found, state) {
        // First of all: from here on every reset leads back to the active slot.
        return Ok(Plan { writes: pointing(found, state.active), then: Then::Boot(Boot::Trial) });
    }
    let (wanted, kind) = state.next();
    let mut next = state.clone();
    if kind == Boot::Trial {
        next.count(Boot::Trial);
        // Counted before the firmware may boot it. The slot may be running without having been
        // asked for, then nothing lies between it and its trial.
        let mut writes = vec![Write::State(next)];
        let then = if wanted == running {
            writes.extend(pointing(found, state.active));
            Then::Boot(Boot::Trial)
        } else {
            match found.method {
                Method::Pointer => {
                    writes.extend(pointing(found, wanted));
                    Then::Reset(wanted)
                }
                Method::Tryboot => {
                    writes.extend(pointing(found, wanted.other()));
                    Then::ResetOnce(wanted)
                }
            }
        };
        return Ok(Plan { writes, then });
    }
    if wanted == running {
        next.count(kind);
        let mut writes = pointing(found, wanted);
        writes.push(Write::State(next));
        return Ok(Plan { writes, then: Then::Boot(kind) });
    }
    if found.pointer != Some(wanted) {
        return Ok(Plan { writes: pointing(found, wanted), then: Then::Reset(wanted) });
    }
    stray(state, running, wanted)
}

/// Whether this is a trial's own boot, counted by the initrd that asked for it. A slot that
/// was on trial and is the fallback as well is the fallback once it is that one's turn.
fn arrived(found: &Found, state: &BootState) -> bool {
    let on_trial = state.trial == Some(found.running) && state.active != found.running;
    on_trial
        && state.next() != (found.running, Boot::Fallback)
        && match found.method {
            Method::Pointer => found.pointer == Some(found.running),
            Method::Tryboot => found.flagged,
        }
}

/// Without a state the slot that runs is all that is known to boot. The other one may be half
/// written, and a firmware that cannot boot it may never come back.
fn afresh(found: &Found) -> Plan {
    let state = BootState {
        active: found.running,
        strikes: 1,
        note: STATE_LOST.to_owned(),
        ..BootState::fresh()
    };
    let mut writes = vec![Write::State(state)];
    writes.extend(pointing(found, found.running));
    Plan { writes, then: Then::Boot(Boot::Active) }
}

/// The firmware was told to boot `wanted` and booted another slot: it cannot, or somebody asked
/// it for this one. Asking again would go on for ever.
fn stray(state: &BootState, running: Slot, wanted: Slot) -> Result<Plan> {
    let mut next = state.clone();
    next.note = ["boot-", wanted.letter(), "-not-loadable"].concat();
    let kind = if state.active == running {
        Boot::Active
    } else if state.fallback == Some(running) {
        Boot::Fallback
    } else {
        let reason = "the firmware does not boot it, and this slot may not run";
        return Err(Error::new(["slot ", wanted.letter(), ": ", reason].concat()));
    };
    next.count(kind);
    Ok(Plan { writes: vec![Write::State(next)], then: Then::Boot(kind) })
}

/// What the running slot may be when nothing can be written any more: as the medium stands, a
/// reset would only come back here. `None` when it may not run at all.
pub fn without_writing(found: &Found) -> Option<Boot> {
    let Some(state) = &found.state else { return Some(Boot::Active) };
    let running = Some(found.running);
    if state.active == found.running {
        Some(Boot::Active)
    } else if state.trial == running {
        Some(Boot::Trial)
    } else if state.fallback == running {
        Some(Boot::Fallback)
    } else {
        None
    }
}

fn pointing(found: &Found, slot: Slot) -> Vec<Write> {
    if found.pointer == Some(slot) { Vec::new() } else { vec![Write::Pointer(slot)] }
}

#[cfg(test)]
mod tests;
