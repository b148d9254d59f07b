//! What the last boot means: decisions over plain data.

use formats::Slot;
use formats::boot_state::{self, BootState};

use crate::context::Running;
use crate::state::{STRUCK_OUT, VersionId};

/// Where a device stands between two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Situation {
    /// What runs is committed, nothing is under way.
    Settled,
    /// What runs is on trial: commit it when it is healthy.
    OnTrial,
    /// A version is installed in this slot and waits for a reboot.
    Armed(Slot),
    /// What runs was on trial and is committed; `ota` has only not written that down yet.
    Committed,
    /// The version in this slot was tried, or was the active one, and did not hold.
    FellBack {
        /// The slot that failed.
        from: Slot,
        /// Why, as far as anybody knows.
        reason: String,
        /// It was committed once: what it has done well before, it fails at now.
        committed: bool,
    },
}

/// Decides where the device stands. `last_failure` is what `init` found in the boot state of why
/// the last boot failed, and of which slot.
pub fn situation(
    running: &Running,
    boot: &BootState,
    pending: Option<&VersionId>,
    last_failure: Option<&(Slot, String)>,
) -> Situation {
    let idle = running.slot.other();
    let committed = boot.active == idle || boot.fallback == Some(idle);
    let reason = || reason(idle, boot, last_failure, committed);
    let fell_back = || Situation::FellBack { from: idle, reason: reason(), committed };
    let pending_here =
        pending.map(|p| p.slot == running.slot.letter() && p.sequence == running.sequence);
    if boot.active != running.slot {
        if running.trial {
            return Situation::OnTrial;
        }
        // The chooser gave up on the active slot, or could not load it. `init` makes this one
        // active when it is healthy; that the other one failed is known now.
        return fell_back();
    }
    match (boot.trial, pending_here) {
        (Some(slot), _) if slot == idle && boot.tries > 0 => Situation::Armed(idle),
        (Some(slot), _) if slot == idle => fell_back(),
        (_, Some(true)) => Situation::Committed,
        // `init`, or a person, cleared the trial.
        (_, Some(false)) => fell_back(),
        (_, None) => Situation::Settled,
    }
}

/// Why `slot` was left, as far as anybody knows. `committed`: it was, once.
pub(crate) fn reason(
    slot: Slot,
    boot: &BootState,
    last_failure: Option<&(Slot, String)>,
    committed: bool,
) -> String {
    match last_failure {
        Some((failed, reason)) if *failed == slot && !reason.is_empty() => reason.clone(),
        _ => match noted(slot, &boot.note) {
            Some(note) => note.into(),
            None if committed => STRUCK_OUT.into(),
            None => "it was reset before it was committed, and left no reason".into(),
        },
    }
}

/// What a note in the boot state (`b:reason`) says of this slot.
fn noted(slot: Slot, note: &str) -> Option<&str> {
    let (noted, reason) = boot_state::parse_note(note)?;
    (noted == slot && !reason.is_empty()).then_some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(slot: Slot, sequence: u64) -> Running {
        Running {
            slot,
            trial: false,
            fallback: false,
            board: "b".into(),
            name: "n".into(),
            version: sequence.to_string(),
            sequence,
        }
    }

    fn pending(slot: Slot, sequence: u64) -> VersionId {
        VersionId {
            slot: slot.letter().into(),
            sequence,
            version: sequence.to_string(),
            ..VersionId::default()
        }
    }

    fn armed(tries: u8) -> BootState {
        BootState { trial: Some(Slot::B), tries, ..BootState::fresh() }
    }

    #[test]
    fn a_new_device_is_settled() {
        let running = running(Slot::A, 1);
        assert_eq!(situation(&running, &BootState::fresh(), None, None), Situation::Settled);
    }

    #[test]
    fn after_an_install_it_is_armed_even_if_the_name_was_lost() {
        let running = running(Slot::A, 1);
        for pending in [Some(pending(Slot::B, 2)), None] {
            let now = situation(&running, &armed(3), pending.as_ref(), None);
            assert_eq!(now, Situation::Armed(Slot::B));
        }
    }

    #[test]
    fn the_new_version_is_on_trial_until_committed() {
        let mut running = running(Slot::B, 2);
        running.trial = true;
        let pending = pending(Slot::B, 2);
        for tries in [0, 2] {
            let now = situation(&running, &armed(tries), Some(&pending), None);
            assert_eq!(now, Situation::OnTrial);
        }
        let mut committed = armed(2);
        committed.commit(Slot::B);
        let now = situation(&running, &committed, Some(&pending), None);
        assert_eq!(now, Situation::Committed);
        assert_eq!(situation(&running, &committed, None, None), Situation::Settled);
    }

    #[test]
    fn a_trial_out_of_tries_fell_back_with_its_reason() {
        let running = running(Slot::A, 1);
        let pending = pending(Slot::B, 2);
        let why = |boot: &BootState, last: Option<&(Slot, String)>| match situation(
            &running,
            boot,
            Some(&pending),
            last,
        ) {
            Situation::FellBack { from: Slot::B, reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        let last = (Slot::B, "face: golden sample differs".to_string());
        assert_eq!(why(&armed(0), Some(&last)), last.1);
        let mut noted = armed(0);
        noted.note = "b:kernel_panic".into();
        assert_eq!(why(&noted, None), "kernel_panic");
        noted.note = "a:kernel_panic".into();
        assert!(why(&noted, None).contains("left no reason"));
        assert!(why(&armed(0), Some(&(Slot::A, "other".into()))).contains("left no reason"));
        assert_eq!(why(&BootState::fresh(), Some(&last)), last.1);
    }

    #[test]
    fn a_slot_that_stays_the_fallback_was_committed_before_its_trial_failed() {
        let running = running(Slot::A, 1);
        let pending = pending(Slot::B, 2);
        for fallback in [None, Some(Slot::B)] {
            let boot = BootState { fallback, ..armed(0) };
            let Situation::FellBack { committed, .. } =
                situation(&running, &boot, Some(&pending), None)
            else {
                panic!("it fell back")
            };
            assert_eq!(committed, fallback.is_some());
        }
    }

    #[test]
    fn a_committed_version_that_keeps_failing_fell_back_too() {
        let mut running = running(Slot::A, 1);
        running.fallback = true;
        let mut boot = BootState::fresh();
        boot.commit(Slot::B);
        boot.strikes = 5;
        let now = situation(&running, &boot, None, None);
        assert!(matches!(now, Situation::FellBack { from: Slot::B, .. }), "{now:?}");
    }
}
