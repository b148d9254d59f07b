//! Which slot boots next: the boot state, its transitions, and its form as a U-Boot environment.
//!
//! The transitions only change the value; [`crate::boot_state_store`] writes it. The environment's layout
//! is that of U-Boot's non-redundant `env_t` (include/env_internal.h): little-endian CRC-32 of the
//! data, then `name=value` strings each ended by a zero byte, the last followed by another.

use alloc::string::{String, ToString};

use crate::{Error, Result, Slot};

/// Bytes of one copy of the boot state, CRC included.
pub const BLOB_SIZE: usize = 512;
/// Strikes after which the other slot has its turn, where there is one to fall back to. A boot that
/// simply ended weighs one strike, one that is known to have failed two: so eight power cuts in a
/// row, or four failures, end a turn.
pub const STRIKES_PER_TURN: u8 = 8;
/// Strikes of a turn of the active slot and one of the fallback slot; then it begins anew.
pub const STRIKES_PER_ROUND: u8 = 2 * STRIKES_PER_TURN;
/// The note of a board whose boot state was lost.
pub const STATE_LOST: &str = "boot-state-lost";
/// What `ota` tells `init` in the place of a reason once nothing keeps the trial from being committed any
/// more (`trial-waits` of the control socket).
pub const NO_LONGER_WAITS: &str = "-";
/// Boots that the other slot gets when the state was lost and it is the one above the floor.
const TRIES_AFTER_LOSS: u8 = 3;
/// The longest note.
pub const MAX_NOTE: usize = 96;
/// Ends the note of a boot that wrote its failure down itself: a watchdog's reset while that boot shut
/// down is the same failure, and not counted again.
const COUNTED: char = '+';
/// How the reason begins of a trial that ended because something outside its version was missing:
/// an address, a device's settings, a person's leave. `init` writes it, and `ota` does not ban a
/// version for it. In a note it reads as [`note_text`] makes it; what is missing follows.
pub const TRIAL_HELD: &str = "trial held from outside: ";

/// What the boot chooser knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BootState {
    /// Grows by one with every write; the higher of two valid copies rules.
    pub generation: u32,
    /// The committed slot.
    pub active: Slot,
    /// The slot on trial. With `tries` 0 its trial has failed.
    pub trial: Option<Slot>,
    /// Boots left for the trial.
    pub tries: u8,
    /// What boots without a healthy end weigh since the last healthy one, trials aside; counts
    /// round after round ([`STRIKES_PER_ROUND`]), and says whose turn it is: [`BootState::next`].
    pub strikes: u8,
    /// The other slot, when it was left whole and was once committed.
    pub fallback: Option<Slot>,
    /// Why the last boot failed; empty if it did not. See [`note_text`].
    pub note: String,
}

impl BootState {
    /// The state of a new image: slot a, nothing to try, nothing to fall back to.
    pub fn fresh() -> BootState {
        BootState {
            generation: 1,
            active: Slot::A,
            trial: None,
            tries: 0,
            strikes: 0,
            fallback: None,
            note: String::new(),
        }
    }

    /// The state to go on with when both copies were lost while `running` runs, booted as `boot`.
    /// What runs keeps running, and is not taken for more than it has shown to be.
    pub fn lost(running: Slot, boot: Boot) -> BootState {
        let state = BootState { note: STATE_LOST.to_string(), ..BootState::fresh() };
        match boot {
            Boot::Active => BootState { active: running, ..state },
            Boot::Trial => BootState { active: running.other(), trial: Some(running), ..state },
            Boot::Fallback => BootState {
                active: running.other(),
                fallback: Some(running),
                strikes: STRIKES_PER_TURN,
                ..state
            },
        }
    }

    /// Before the idle slot is overwritten: nothing may boot it any more.
    pub fn begin_install(&mut self) {
        self.trial = None;
        self.tries = 0;
        self.fallback = None;
    }

    /// Boot `slot` next, up to `tries` times, until it is committed. The active slot, which has just
    /// brought an update in, starts without strikes should the board come back to it.
    pub fn arm(&mut self, slot: Slot, tries: u8) {
        self.trial = Some(slot);
        self.tries = tries.max(1);
        self.strikes = 0;
        self.note.clear();
    }

    /// `slot` is good: it is the active one from now on, and the other one its fallback if it was
    /// the active one until now.
    pub fn commit(&mut self, slot: Slot) {
        if self.active != slot {
            self.fallback = Some(self.active);
        }
        self.active = slot;
        self.trial = None;
        self.tries = 0;
        self.strikes = 0;
        self.note.clear();
    }

    /// The other slot must not be booted any more: it is below the floor of the active one.
    pub fn forbid_fallback(&mut self) {
        self.fallback = None;
    }

    /// Forgets a trial that failed. The slot is not a fallback: it never was committed.
    pub fn clear_trial(&mut self) {
        self.trial = None;
        self.tries = 0;
        self.note.clear();
    }

    /// A boot of `slot` was healthy: its strikes are forgiven. A fallback slot becomes the active
    /// one; the slot it stood in for was committed, so it stays to fall back to. No other slot does:
    /// a trial that was given up while it ran is nothing that a healthy moment commits.
    pub fn settle(&mut self, slot: Slot) {
        if self.active != slot && self.fallback == Some(slot) {
            self.fallback = Some(self.active);
            self.active = slot;
        }
        self.strikes = 0;
        self.note.clear();
    }

    /// This boot of the active slot is nobody's fault so far (no cable, say): its own strike is taken
    /// back, and those of the boots before it stay.
    pub fn forgive_this_boot(&mut self) {
        self.strikes = self.strikes.saturating_sub(1);
    }

    /// A boot of `slot` failed for this reason, and writes that down itself.
    pub fn note_failure(&mut self, slot: Slot, reason: &str) {
        self.note = note_text(&[slot.letter(), ":", reason].concat());
        self.note.truncate(MAX_NOTE - COUNTED.len_utf8());
        self.note.push(COUNTED);
        self.record_failure(slot);
    }

    /// A boot of `slot` failed, and is known to have: it weighs more than one that simply ended.
    /// Where its turn ended with that boot, no more is counted: that would be the other slot's.
    pub fn record_failure(&mut self, slot: Slot) {
        let (turn, boot) = self.turn();
        // A slot may be booted out of its turn, when the other one's files cannot be loaded.
        let turn_is_over = self.strikes.is_multiple_of(STRIKES_PER_TURN) && turn != slot;
        if self.trial != Some(slot) && !turn_is_over {
            self.count(boot);
        }
    }

    /// `running` is booted as `boot`, not on trial, and the boot before this one is known to have
    /// failed in a way that could not be written down then: `reason`. It counts where it was the same
    /// slot's; a fallback's always, since a loader of version 0.1 counts none of its boots. It does not
    /// where that boot wrote down a failure, and then hung on its way to the reset.
    pub fn record_previous_failure(&mut self, (running, boot): (Slot, Boot), reason: &str) {
        if self.note.ends_with(COUNTED) {
            self.note.pop();
            return;
        }
        let same_turn = self.strikes % STRIKES_PER_TURN >= 2;
        if same_turn || boot == Boot::Fallback {
            self.record_failure(running);
        }
        let before = match boot {
            Boot::Fallback => self.active,
            _ => running,
        };
        let slot = if same_turn { running } else { self.trial.unwrap_or(before) };
        if self.note.is_empty() {
            self.note = note_text(&[slot.letter(), ":", reason].concat());
        }
    }

    /// `running` is below the floor that the version in the other slot sets: whether that one goes
    /// first. It does where both copies of the state were lost, and with them which of the two was
    /// committed: otherwise the other one never was, or the loader would not have come here.
    pub fn yields_to_what_forbids_it(&self, (_, boot): (Slot, Boot)) -> bool {
        self.note == STATE_LOST && boot == Boot::Active
    }

    /// Gives the other slot a trial before `running` is booted again: one that was committed shows that
    /// it is good, and a device whose other version never was does not lose the one that works.
    pub fn yield_to_other(&mut self, running: Slot) {
        self.active = running;
        self.arm(running.other(), TRIES_AFTER_LOSS);
    }

    /// The slot a reset would boot now, and what that boot would be: a trial that has tries left
    /// goes first. The scripts of the choosers follow the same rule.
    pub fn next(&self) -> (Slot, Boot) {
        match self.trial {
            Some(slot) if self.tries > 0 => (slot, Boot::Trial),
            _ => self.turn(),
        }
    }

    /// Whose turn it is when no trial goes first. The active slot and the one to fall back to take
    /// turns of [`STRIKES_PER_TURN`]: as long as one of them can boot, it is booted.
    pub fn turn(&self) -> (Slot, Boot) {
        match self.fallback {
            Some(slot) if (STRIKES_PER_TURN..STRIKES_PER_ROUND).contains(&self.strikes) => {
                (slot, Boot::Fallback)
            }
            _ => (self.active, Boot::Active),
        }
    }

    /// Counts a boot of this kind, which comes before it.
    pub fn count(&mut self, boot: Boot) {
        match boot {
            Boot::Trial => self.tries = self.tries.saturating_sub(1),
            // A state of version 0.1 may have more strikes than a round.
            Boot::Active | Boot::Fallback if self.strikes >= STRIKES_PER_ROUND => self.strikes = 1,
            Boot::Active | Boot::Fallback => {
                self.strikes = (self.strikes + 1) % STRIKES_PER_ROUND;
            }
        }
    }

    /// The state as an environment blob of [`BLOB_SIZE`] bytes.
    pub fn to_blob(&self) -> [u8; BLOB_SIZE] {
        let letter = |slot: Option<Slot>| slot.map_or("-", Slot::letter);
        let note = if self.note.is_empty() { "-" } else { &self.note };
        let strings = [
            ["gen=", &hex_number(self.generation, 8)].concat(),
            ["active=", self.active.letter()].concat(),
            ["trial=", letter(self.trial)].concat(),
            ["tries=", &hex_number(u32::from(self.tries), 2)].concat(),
            ["strikes=", &hex_number(u32::from(self.strikes), 2)].concat(),
            ["fallback=", letter(self.fallback)].concat(),
            ["note=", &note_text(note)].concat(),
        ];
        let mut blob = [0; BLOB_SIZE];
        let mut at = 4;
        for string in &strings {
            blob[at..at + string.len()].copy_from_slice(string.as_bytes());
            at += string.len() + 1;
        }
        let crc = crc32(&blob[4..]);
        blob[..4].copy_from_slice(&crc.to_le_bytes());
        blob
    }

    /// Reads an environment blob. Variables it does not know are passed over: U-Boot may add some.
    pub fn from_blob(blob: &[u8]) -> Result<BootState> {
        if blob.len() != BLOB_SIZE {
            return Err(Error::new("a boot state copy is 512 bytes"));
        }
        let (crc, data) = blob.split_at(4);
        if crc32(data).to_le_bytes() != crc {
            return Err(Error::new("boot state: wrong CRC"));
        }
        let variable = |name: &str| -> Result<&str> {
            data.split(|byte| *byte == 0)
                .take_while(|string| !string.is_empty())
                .filter_map(|string| core::str::from_utf8(string).ok()?.split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
                .ok_or_else(|| Error::new(["boot state: no variable ", name].concat()))
        };
        let number = |name, digits| -> Result<u32> {
            let text = variable(name)?;
            (text.len() <= digits)
                .then(|| u32::from_str_radix(text, 16).ok())
                .flatten()
                .ok_or_else(|| Error::new(["boot state: bad ", name].concat()))
        };
        let slot = |name| match variable(name)? {
            "-" => Ok(None),
            letter => Slot::parse(letter)
                .map(Some)
                .map_err(|e| e.within(&["boot state: ", name].concat())),
        };
        Ok(BootState {
            generation: number("gen", 8)?,
            active: slot("active")?.ok_or_else(|| Error::new("boot state: no active slot"))?,
            trial: slot("trial")?,
            tries: number("tries", 2)? as u8,
            strikes: number("strikes", 2)? as u8,
            fallback: slot("fallback")?,
            note: match variable("note")? {
                "-" => String::new(),
                note => note_text(note),
            },
        })
    }
}

/// What kind of boot the chooser makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Boot {
    /// The committed slot.
    Active,
    /// A version that is not committed yet.
    Trial,
    /// The once committed other slot, because the active one failed too often.
    Fallback,
}

/// Which of two copies rules: its index and state. `None` when neither is valid.
pub fn newest(copies: [&[u8]; 2]) -> Option<(usize, BootState)> {
    let states = copies.map(|blob| BootState::from_blob(blob).ok());
    match states {
        [Some(a), Some(b)] if b.generation > a.generation => Some((1, b)),
        [Some(a), _] => Some((0, a)),
        [None, Some(b)] => Some((1, b)),
        [None, None] => None,
    }
}

/// The slot that a note says has failed, and why; `None` for the notes of a loader.
pub fn parse_note(note: &str) -> Option<(Slot, &str)> {
    let (slot, reason) = note.split_once(':')?;
    Some((Slot::parse(slot).ok()?, reason.strip_suffix(COUNTED).unwrap_or(reason)))
}

/// A reason as a note: every character a U-Boot script could stumble over becomes `_`.
pub fn note_text(reason: &str) -> String {
    reason
        .chars()
        .take(MAX_NOTE)
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || "._:+-".contains(c) => c,
            _ => '_',
        })
        .collect()
}

fn hex_number(number: u32, digits: usize) -> String {
    let all = crate::hex::encode(&number.to_be_bytes());
    all[all.len() - digits..].to_string()
}

/// CRC-32 as U-Boot and GPT use it (IEEE 802.3, reflected, polynomial 0xEDB88320).
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0xEDB8_8320;
            }
        }
    }
    !crc
}

#[cfg(test)]
mod tests;
