//! What survives a reset: the boot state's verdicts and the reason of the last failure.

use std::path::Path;

use formats::Result;
use formats::boot_chooser;
use formats::boot_state::{BootState, note_text, parse_note};
use formats::boot_state_store::{self, BootStateStore, Running};
use formats::last_failure::LastFailure;
use formats::layout::{self, Slot};

use crate::data;

/// The last failure in full, kept on the data partition.
const KEPT: &str = "/data/ferrite/last-failure";
/// Its name in `init`'s own folder.
const KEPT_NAME: &str = "last-failure";

fn open(name: &str, running: Running) -> Result<Box<dyn BootStateStore>> {
    boot_chooser::open(name, Path::new(layout::DEVICES), running)
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
    let full = data::collected(KEPT).filter(|text| text.len() <= LastFailure::MAX_BYTES);
    let (Ok(brief), Some(full)) = (std::fs::read(layout::RUN_LAST_FAILURE), full) else { return };
    if is_about(&full, &brief) {
        let _ = std::fs::write(layout::RUN_LAST_FAILURE, full);
    }
}

/// Whether the full text, made into a note, begins as the brief one does.
fn is_about(full: &[u8], brief: &[u8]) -> bool {
    match (LastFailure::parse(full), LastFailure::parse(brief)) {
        (Ok(full), Ok(brief)) => {
            full.slot == brief.slot && note_text(&full.reason).starts_with(&brief.reason)
        }
        _ => false,
    }
}

fn text(slot: Slot, reason: &str) -> String {
    LastFailure { slot, reason: reason.into() }.to_text()
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
        assert!(is_about(full.as_bytes(), brief.as_bytes()));
        for (slot, reason) in
            [(Slot::A, "vital workload face failed"), (Slot::B, "something older")]
        {
            assert!(!is_about(text(slot, reason).as_bytes(), brief.as_bytes()));
        }
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
