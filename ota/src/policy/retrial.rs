//! Another trial for a version that is not to blame: one that was committed here and was left
//! because its boots ended too often, and one whose trial failed for want of something outside it,
//! its update server above all. Neither is banned. It waits until the version that runs has been
//! healthy for a while, longer after each failure, or until a person says so (`ota retry`).
//!
//! Time counts as healthy running, not by the clock: many boards have none, and a device that is
//! switched off learns nothing.

use formats::boot_state::BootState;
use formats::manifest::Manifest;

use crate::Result;
use crate::context::{Context, Running};
use crate::init::boot_changes;
use crate::state::retrial::Retrial;
use crate::state::{State, VersionId};

/// Remembers that `version` waits. `retried`: a trial of it ended just now, and not well.
///
/// Where a newer one waits that was never committed, that one goes on waiting, for longer.
pub fn put_off(
    state: &mut State,
    version: &VersionId,
    committed: bool,
    reason: &str,
    retried: bool,
) {
    if let Some(newer) = state
        .retrial
        .as_mut()
        .filter(|newer| !committed && !newer.committed && newer.sequence > version.sequence)
    {
        newer.hides_older = true;
        if retried {
            newer.failures = newer.failures.saturating_add(1);
            newer.healthy_seconds = 0;
        }
        return;
    }
    let known = state.retrial.take().filter(|r| r.header_sha256 == version.header_sha256);
    let first = known.is_none();
    let mut retrial = known.unwrap_or_default();
    if retried && !first {
        retrial.failures = retrial.failures.saturating_add(1);
        retrial.healthy_seconds = 0;
    }
    state.retrial = Some(Retrial {
        slot: version.slot.clone(),
        sequence: version.sequence,
        version: version.version.clone(),
        header_sha256: version.header_sha256.clone(),
        reason: reason.into(),
        committed,
        ..retrial
    });
}

/// The version in the other slot, when it was committed once and is newer than what runs: it was
/// struck out. Not one that a person or a failed trial has ruled out.
pub fn struck_out(
    context: &Context,
    boot: &BootState,
    state: &State,
) -> Result<Option<(Manifest, VersionId)>> {
    let running = &context.running;
    if !boot_changes::waits(running, boot) {
        return Ok(None);
    }
    Ok(context.idle_content()?.filter(|(manifest, version)| {
        manifest.sequence > running.sequence && state.failure_of(&version.header_sha256).is_none()
    }))
}

/// Whether what waits in the other slot, as it was committed, will never be tried: what runs is
/// settled, and nothing may fall back to that slot.
pub fn is_gone(retrial: &Retrial, running: &Running, boot: &BootState) -> bool {
    retrial.committed
        && boot.active == running.slot
        && boot.trial.is_none()
        && !boot_changes::waits(running, boot)
}

/// Seconds of healthy running go by.
pub fn count(state: &mut State, seconds: u64) {
    if let Some(retrial) = &mut state.retrial {
        retrial.healthy_seconds = retrial.healthy_seconds.saturating_add(seconds);
    }
}

/// Arms the trial of what waits in the other slot, as it lies there. Gives what is tried; `None`
/// when nothing waits there.
pub fn arm(context: &Context, tries: u8) -> Result<Option<VersionId>> {
    let Context { device, running, .. } = context;
    let boot = boot_changes::load(device)?;
    let Some((_, version)) = struck_out(context, &boot, &State::load(device))? else {
        return Ok(None);
    };
    if !boot_changes::arm_again(device, running, tries)? {
        return Ok(None);
    }
    // Without this, by a power cut or on a full partition, a name is lost, but not the trial.
    let pending = version.armed(false);
    let _ = State::change(device, |state| state.pending = Some(pending.clone()));
    Ok(Some(pending))
}

/// What is said when a trial of what waited is armed.
pub fn trying(version: &VersionId) -> String {
    format!("trying {} in slot {} again", version.version, version.slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(sequence: u64) -> VersionId {
        VersionId { sequence, header_sha256: format!("{sequence:064}"), ..VersionId::default() }
    }

    #[test]
    fn pauses_double_up_to_a_day() {
        let mut state = State::default();
        let mut hours = Vec::new();
        for _ in 0..8 {
            put_off(&mut state, &version(2), true, "r", true);
            let retrial = state.retrial.clone().unwrap();
            assert!(!retrial.is_due() && retrial.healthy_seconds == 0);
            hours.push(retrial.pause() / 3600);
            count(&mut state, retrial.pause() - 1);
            assert!(!state.retrial.clone().unwrap().is_due());
            count(&mut state, 1);
            assert!(state.retrial.clone().unwrap().is_due());
        }
        assert_eq!(hours, [1, 2, 4, 8, 16, 24, 24, 24]);
    }

    #[test]
    fn two_that_are_put_off_are_not_tried_in_turn() {
        let mut state = State::default();
        put_off(&mut state, &version(3), false, "r", true);
        count(&mut state, 60);
        put_off(&mut state, &version(2), false, "r", true);
        let waits = state.retrial.clone().unwrap();
        assert_eq!((waits.sequence, waits.failures, waits.healthy_seconds), (3, 1, 0));
        assert!(waits.hides_older);
        // It fails again, and one that is still newer takes its place.
        put_off(&mut state, &version(3), false, "r", true);
        assert!(state.retrial.as_ref().is_some_and(|r| r.hides_older && r.failures == 2));
        put_off(&mut state, &version(4), false, "r", true);
        assert!(state.retrial.as_ref().is_some_and(|r| !r.hides_older && r.sequence == 4));
        // What was committed waits in its slot, whatever else does.
        put_off(&mut state, &version(2), true, "r", true);
        assert!(state.retrial.is_some_and(|r| r.committed && r.sequence == 2));
    }

    #[test]
    fn seeing_it_again_changes_nothing_and_another_version_starts_afresh() {
        let mut state = State::default();
        put_off(&mut state, &version(2), true, "r", true);
        put_off(&mut state, &version(2), true, "r", true);
        count(&mut state, 60);
        put_off(&mut state, &version(2), true, "other", false);
        let retrial = state.retrial.clone().unwrap();
        assert_eq!((retrial.failures, retrial.healthy_seconds), (1, 60));
        assert_eq!(retrial.reason, "other");
        put_off(&mut state, &version(3), false, "r", true);
        let retrial = state.retrial.unwrap();
        assert_eq!((retrial.sequence, retrial.failures, retrial.healthy_seconds), (3, 0, 0));
    }
}
