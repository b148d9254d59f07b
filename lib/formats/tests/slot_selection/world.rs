//! A device as the choice of a slot sees it, and all that can happen to it.

use formats::Slot;
use formats::boot_state::{Boot, BootState, STATE_LOST};
use formats::rpi::plan::resting;

use crate::choosers::{Chooser, Firmware};

/// The newest version that is published.
pub const NEWEST: u8 = 3;
/// Boots that a trial gets.
pub const TRIES: u8 = 2;

/// What becomes of a slot when it is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is healthy.
    Good,
    /// Its boot files are damaged.
    Unloadable,
    /// It hangs or panics, before it could say anything.
    Hangs,
    /// `init` refuses it, and says so.
    Refused,
    /// A vital workload is lost.
    Unhealthy,
}

const FATES: [Fate; 5] =
    [Fate::Good, Fate::Unloadable, Fate::Hangs, Fate::Refused, Fate::Unhealthy];

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    pub version: u8,
    pub whole: bool,
    pub fate: Fate,
    pub was_healthy: bool,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Running {
    pub slot: Slot,
    pub boot: Boot,
    /// It has been healthy long enough.
    pub settled: bool,
}

/// Takes what may come next, as a change of the world that is.
type After<'a> = dyn FnMut(&dyn Fn(&mut World)) + 'a;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub chooser: Chooser,
    /// `None` when both copies are lost.
    pub state: Option<BootState>,
    slots: [Content; 2],
    pub running: Option<Running>,
    pub firmware: Firmware,
    pub rollback_floor: u8,
    /// A bit for each version that is never tried again.
    pub banned: u8,
    /// A bit for each version that was committed.
    pub once_committed: u8,
    /// The last boot hung, and the watchdog or pstore will tell.
    evidence: bool,
    /// Once only, each: the number of worlds is to end.
    has_decayed: bool,
    pub was_lost: bool,
}

/// Version 3 lets nothing below 2 come back.
fn floor_of(version: u8) -> u8 {
    match version {
        3 => 2,
        _ => 0,
    }
}

impl World {
    /// As it comes out of `imager flash`.
    pub fn shipped(chooser: Chooser) -> World {
        let shipped = Content { version: 1, whole: true, fate: Fate::Good, was_healthy: true };
        let empty = Content { version: 0, whole: false, fate: Fate::Refused, was_healthy: false };
        World {
            chooser,
            state: Some(BootState::fresh()),
            slots: [shipped, empty],
            running: None,
            firmware: Firmware { pointer: Some(Slot::A), flag: false },
            rollback_floor: 0,
            banned: 0,
            once_committed: 1 << 1,
            evidence: false,
            has_decayed: false,
            was_lost: false,
        }
    }

    pub fn content(&self, slot: Slot) -> Content {
        self.slots[slot as usize]
    }

    /// Generations decide nothing, and of a note no more than that the state was lost, or that a failure
    /// is counted already; the rest would make worlds differ.
    pub fn forget_what_does_not_matter(&mut self) {
        if let Some(state) = &mut self.state {
            state.generation = 1;
            match &*state.note {
                STATE_LOST => {}
                note if note.ends_with('+') => state.note = "+".into(),
                _ => state.note.clear(),
            }
        }
    }

    /// The power is cut, or anything else resets the board.
    pub fn reset(&self) -> World {
        World { running: None, ..self.clone() }
    }

    /// A slot that may run and can, if there is one.
    pub fn can_boot(&self) -> Option<Slot> {
        let may_run: Vec<Slot> = match &self.state {
            Some(state) => [Some(state.active), state.fallback].into_iter().flatten().collect(),
            // A firmware that cannot choose keeps to what it boots (docs/choosers/rpi.md).
            None if self.chooser.is_rpi() => Vec::new(),
            None => vec![Slot::A, Slot::B],
        };
        may_run.into_iter().find(|slot| {
            let content = self.content(*slot);
            content.whole && content.fate == Fate::Good
        })
    }

    /// Whether something healthy runs within so many resets, with nothing else going wrong.
    pub fn lives_within(mut self, resets: usize, evidence: bool) -> bool {
        (0..resets).any(|_| {
            self.start(None);
            match self.running.take() {
                None => false,
                Some(running) if self.content(running.slot).fate == Fate::Good => {
                    self.content(running.slot).whole
                }
                Some(running) => {
                    self.fail(running);
                    self.evidence &= evidence;
                    false
                }
            }
        })
    }

    /// All that can come next.
    pub fn successors(&self) -> Vec<World> {
        let mut next = Vec::new();
        let mut after = |change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            world.forget_what_does_not_matter();
            next.push(world);
        };
        match self.running {
            None => {
                after(&|world| world.start(None));
                if self.chooser.is_rpi() {
                    after(&|world| world.start(Some(1)));
                    after(&|world| world.start(Some(2)));
                }
            }
            Some(running) => {
                after(&|world| world.running = None);
                match running.settled {
                    false => self.outcomes(running, &mut after),
                    true => self.updates(running, &mut after),
                }
            }
        }
        if !self.has_decayed {
            for slot in [Slot::A, Slot::B] {
                for fate in [Fate::Unloadable, Fate::Hangs, Fate::Refused] {
                    after(&|world| {
                        world.has_decayed = true;
                        world.slots[slot as usize].fate = fate;
                    });
                }
            }
        }
        if !self.was_lost {
            after(&|world| {
                world.was_lost = true;
                world.state = None;
            });
        }
        next
    }

    /// From a reset to `init` of the slot that was chosen.
    fn start(&mut self, cut_after: Option<usize>) {
        let evidence = std::mem::take(&mut self.evidence);
        let Some((slot, boot)) = self.boot(cut_after) else { return };
        self.running = Some(Running { slot, boot, settled: false });
        let (here, other) = (self.content(slot), self.content(slot.other()));
        let lost = |running: Running| BootState::lost(running.slot, running.boot);
        let state = self.state.clone().or(self.running.map(lost));
        if here.version < floor_of(other.version)
            && other.whole
            && state.is_some_and(|state| state.yields_to_what_forbids_it((slot, boot)))
        {
            self.change_state(|state| state.yield_to_other(slot));
            self.running = None;
            return;
        }
        if evidence && boot != Boot::Trial {
            self.change_state(|state| state.record_previous_failure((slot, boot), ""));
        }
    }

    /// As `formats::boot_state_store::update` does: from the state that is there, or what runs makes of none.
    fn change_state(&mut self, change: impl FnOnce(&mut BootState)) {
        let running = self.running.expect("somebody changes it");
        let mut state =
            self.state.take().unwrap_or_else(|| BootState::lost(running.slot, running.boot));
        change(&mut state);
        if self.chooser.is_rpi() {
            self.firmware.pointer = Some(resting(&state));
        }
        self.state = Some(state);
        self.forget_what_does_not_matter();
    }

    /// What a boot that is not healthy leaves.
    fn fail(&mut self, running: Running) {
        self.running = Some(running);
        let fate = match self.content(running.slot) {
            Content { whole: false, .. } => Fate::Refused,
            content => content.fate,
        };
        match fate {
            Fate::Good | Fate::Unloadable => {}
            Fate::Hangs => self.evidence = true,
            Fate::Refused | Fate::Unhealthy => self.change_state(|state| {
                state.note_failure(running.slot, "");
                if fate == Fate::Unhealthy && state.trial == Some(running.slot) {
                    state.tries = 0;
                }
            }),
        }
        self.running = None;
    }

    /// What becomes of a boot.
    fn outcomes(&self, running: Running, after: &mut After<'_>) {
        let content = self.content(running.slot);
        // What decayed under a version that runs shows at the next boot.
        let can_be_healthy = content.whole && content.fate == Fate::Good;
        if !can_be_healthy {
            after(&|world| world.fail(running));
            if content.fate == Fate::Unhealthy && running.boot == Boot::Active {
                // It waited for its cable first.
                after(&|world| {
                    world.change_state(BootState::forgive_this_boot);
                    world.fail(running);
                });
            }
            // A reset without evidence of it, or a shutdown that hangs when the failure was written down.
            for evidence in [false, true] {
                after(&|world| {
                    world.fail(running);
                    world.evidence = evidence;
                });
            }
            return;
        }
        after(&|world| {
            let other = world.content(running.slot.other());
            let rollback_floor = world.rollback_floor.max(floor_of(content.version));
            world.change_state(|state| match running.boot {
                Boot::Trial => {
                    state.commit(running.slot);
                    if other.version < rollback_floor {
                        state.forbid_fallback();
                    }
                }
                Boot::Active | Boot::Fallback => state.settle(running.slot),
            });
            if running.boot == Boot::Trial {
                world.rollback_floor = rollback_floor;
                world.once_committed |= 1 << content.version;
                world.banned &= !(1 << content.version);
            }
            world.slots[running.slot as usize].was_healthy = true;
            world.running = Some(Running { boot: Boot::Active, settled: true, ..running });
        });
    }

    /// What `ota` does while a committed version runs.
    fn updates(&self, running: Running, after: &mut After<'_>) {
        let Some(state) = self.state.clone().filter(|state| state.active == running.slot) else {
            return;
        };
        let idle = running.slot.other();
        let (here, there) = (self.content(running.slot), self.content(idle));
        let mut set = |state: BootState, content: Content, banned: u8| {
            after(&|world| {
                world.slots[idle as usize] = content;
                world.banned = banned;
                world.change_state(|old| *old = state.clone());
            });
        };
        match state.trial {
            Some(_) if state.tries > 0 => return,
            Some(_) => {
                let mut cleared = state.clone();
                cleared.clear_trial();
                let was_committed = self.once_committed & 1 << there.version != 0;
                let ban = if was_committed { 0 } else { 1 << there.version };
                set(cleared, there, self.banned | ban);
                return;
            }
            None => {}
        }
        for version in here.version.max(self.rollback_floor.saturating_sub(1)) + 1..=NEWEST {
            if self.banned & 1 << version == 0 {
                let mut begun = state.clone();
                begun.begin_install();
                let content =
                    Content { version, whole: false, fate: Fate::Good, was_healthy: false };
                set(begun, content, self.banned);
            }
        }
        let mut armed = state.clone();
        armed.arm(idle, TRIES);
        if !there.whole && there.version > here.version {
            for fate in FATES {
                set(armed.clone(), Content { whole: true, fate, ..there }, self.banned);
            }
        }
        if state.fallback == Some(idle) {
            let was_committed = self.once_committed & 1 << there.version != 0;
            if there.version > here.version && was_committed {
                set(armed, there, self.banned);
            }
            if there.fate != Fate::Good {
                let mut scrubbed = state;
                scrubbed.forbid_fallback();
                set(scrubbed, there, self.banned);
            }
        }
    }
}
