//! What survives a reset: the boot state's verdicts and the reason of the last failure.

use std::path::Path;

use formats::Result;
use formats::boot_state::{BootState, note_text, parse_note};
use formats::boot_state_store::{self, BootStateStore, Running};
use formats::conf::Writer;
use formats::layout::{self, Slot};

use crate::data;

/// The last failure in full, kept on the data partition.
const KEPT: &str = "/data/ferrite/last-failure";
/// Its name in `init`'s own folder.
const KEPT_NAME: &str = "last-failure";
/// First line of both files.
const FORM: &str = "ferrite-last-failure 1";
/// The longest reason that is kept.
const MAX_REASON: usize = 512;

fn open(name: &str, running: Running) -> Result<Box<dyn BootStateStore>> {
    boot_state_store::open(name, Path::new(layout::DEVICES), running)
}

fn update(name: &str, running: Running, change: impl FnOnce(&mut BootState)) -> Result<()> {
    boot_state_store::update(&*open(name, running)?, Path::new(layout::RUN_BOOT_STATE_LOCK), change)
        .map(drop)
        .map_err(|e| e.within("boot state"))
}

/// This boot was a good one: no strikes, and a fallback that works becomes the active slot.
pub fn settle(chooser: &str, running: Running) -> Result<()> {
    update(chooser, running, |state| state.settle(running.0))
}

/// This boot of the active slot waits for what is no fault of its version.
pub fn forgive_this_boot(chooser: &str, running: Running) -> Result<()> {
    update(chooser, running, BootState::forgive_this_boot)
}

/// In a helper: whether what runs was committed, and is not still on trial, or given up by somebody.
/// When the state cannot be read, it has at least not been committed in a way that the next boot would
/// see.
pub fn is_committed(chooser: &str, running: Running) -> bool {
    open(chooser, running)
        .and_then(|chooser| chooser.load())
        .is_ok_and(|state| state.active == running.0)
}

/// Before a reset of our own: the reason into the boot state and, in full, onto the data
/// partition. With `last_try`, a trial gets no further boots.
pub fn record(chooser: &str, running: Running, reason: &str, last_try: bool) -> Result<()> {
    let slot = running.0;
    let written = data::own_folder(data::MOUNT)
        .and_then(|own| own.replace(KEPT_NAME, text(slot, reason).as_bytes()));
    update(chooser, running, |state| bad_boot(state, slot, reason, last_try))?;
    written
}

fn bad_boot(state: &mut BootState, slot: Slot, reason: &str, last_try: bool) {
    state.note_failure(slot, reason);
    if last_try && state.trial == Some(slot) {
        state.tries = 0;
    }
}

/// In a helper, at the start: what the boot state says of the last boot, for `ota` and for people.
pub fn publish_note(chooser: &str, running: Running) -> Result<()> {
    let state = open(chooser, running)?.load()?;
    if let Some((slot, reason)) = parse_note(&state.note) {
        // Without this file, `ota` only lacks the reason.
        let _ = std::fs::write(layout::RUN_LAST_FAILURE, text(slot, reason));
    }
    Ok(())
}

/// Once the note and `/data` are there: the full text, if it is about the same failure.
pub fn publish_details() {
    let full = data::collected(KEPT).and_then(|bytes| String::from_utf8(bytes).ok());
    let (Ok(brief), Some(full)) = (std::fs::read_to_string(layout::RUN_LAST_FAILURE), full) else {
        return;
    };
    if full.len() <= MAX_REASON * 2 && is_about(&full, &brief) {
        let _ = std::fs::write(layout::RUN_LAST_FAILURE, full);
    }
}

/// Whether the full text, made into a note, begins as the brief one does.
fn is_about(full: &str, brief: &str) -> bool {
    let parts = |text: &str| -> Option<(String, String)> {
        let conf = formats::conf::parse(text.as_bytes(), FORM).ok()?;
        let value =
            |key| formats::conf::one(&conf.head, key).ok().map(|line| line.value.to_string());
        Some((value("slot")?, value("reason")?))
    };
    match (parts(full), parts(brief)) {
        (Some((slot, reason)), Some((other, note))) => {
            slot == other && note_text(&reason).starts_with(&note)
        }
        _ => false,
    }
}

fn text(slot: Slot, reason: &str) -> String {
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    let mut text = Writer::new(FORM);
    text.line("slot", slot.letter()).line("reason", &reason);
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_becomes_the_file_that_ota_reads() {
        let mut state = BootState::fresh();
        state.arm(Slot::B, 3);
        bad_boot(&mut state, Slot::B, "vital workload face failed (exit status 1)", false);
        assert_eq!(state.tries, 3);
        let (slot, reason) = parse_note(&state.note).unwrap();
        let brief = text(slot, reason);
        assert!(brief.contains("slot b\n"), "{brief}");
        let full = text(Slot::B, "vital workload face failed (exit status 1)");
        assert!(is_about(&full, &brief));
        assert!(!is_about(&text(Slot::A, "vital workload face failed"), &brief));
        assert!(!is_about(&text(Slot::B, "something older"), &brief));
    }

    #[test]
    fn a_final_verdict_ends_the_trial() {
        let mut state = BootState::fresh();
        state.arm(Slot::B, 3);
        bad_boot(&mut state, Slot::B, "x", true);
        assert_eq!(state.next().0, Slot::A);
    }

    #[test]
    fn a_failure_of_a_committed_slot_weighs_more_than_a_boot_that_ended() {
        let mut state = BootState { strikes: 1, ..BootState::fresh() };
        bad_boot(&mut state, Slot::A, "x", true);
        assert_eq!((state.strikes, &*state.note), (2, "a:x+"));
    }
}
