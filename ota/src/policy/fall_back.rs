//! What follows from a boot that was not the one hoped for: whose fault was it? Only a version that
//! failed its trial, whole as it was signed and with all it needs, is never tried again.

use formats::Slot;
use formats::boot_state::{BootState, TRIAL_HELD, note_text};

use crate::Result;
use crate::context::{self, Context};
use crate::init::boot_changes;
use crate::integrity::slot_check::SlotCheck;
use crate::policy::commit_gate;
use crate::policy::retrial;
use crate::report;
use crate::state::{Outcome, State};

/// What is known of a slot that was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedBoot {
    /// The slot.
    pub from: Slot,
    /// It was committed once.
    pub committed: bool,
    /// It is on the medium as it was signed.
    pub whole: bool,
    /// Why it was left, as far as anybody knows.
    pub reason: String,
}

/// What becomes of the version in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It failed its trial: never again, until somebody says otherwise.
    Failed,
    /// It waits for another trial, for this reason.
    PutOff(String),
    /// The medium is to blame: it may be fetched again.
    Decayed,
}

/// Decides. A version that was good enough to be committed is not banned, whatever it does later:
/// power cuts, a sagging battery or a camera that is away end boots as well.
pub fn verdict(failed: &FailedBoot) -> Verdict {
    match (failed.committed, failed.whole) {
        (true, false) => Verdict::Decayed,
        (true, true) => Verdict::PutOff(failed.reason.clone()),
        // Fetched again after a pause, lest a medium that cannot hold it make that a loop.
        (false, false) => Verdict::PutOff(format!(
            "slot {} was no longer what was signed ({})",
            failed.from, failed.reason
        )),
        (false, true) if commit_gate::is_unreached(&failed.reason) || was_held(&failed.reason) => {
            Verdict::PutOff(failed.reason.clone())
        }
        (false, true) => Verdict::Failed,
    }
}

/// Whether `init` ended a trial that lacked something from outside, such as an address. The boot
/// state keeps the reason as a note.
fn was_held(reason: &str) -> bool {
    reason.starts_with(TRIAL_HELD) || reason.starts_with(&note_text(TRIAL_HELD))
}

/// Acts on a slot that was left for this reason. `committed`: it was, once. Gives the line that
/// tells so.
pub fn settle(
    context: &Context,
    boot: &BootState,
    (from, committed, reason): (Slot, bool, &str),
    beat: &dyn Fn(),
) -> Result<String> {
    let Context { device, running, .. } = context;
    let pending = State::load(device).pending.filter(|pending| pending.slot == from.letter());
    let trial_ended = boot.active != from && (boot.trial == Some(from) || pending.is_some());
    // The slot itself knows best what failed; if it was overwritten, what was pending does.
    let content = context.idle_content()?;
    let whole = match &content {
        Some((manifest, _)) => SlotCheck::open(device, from, manifest)?.all(beat),
        None => false,
    };
    let version = content.map(|(_, v)| v).or(pending);
    let failed = FailedBoot { from, committed, whole, reason: reason.into() };
    let verdict = verdict(&failed);
    if verdict == Verdict::Decayed {
        return decayed(context);
    }
    let state = State::change(device, |state| {
        state.pending = None;
        state.commit_waits = None;
        match (&version, &verdict) {
            // A person wanted to go back to it. It was committed once, and nothing waits for it.
            (Some(version), _) if committed && version.sequence <= running.sequence => {}
            (Some(version), Verdict::PutOff(reason)) => {
                retrial::put_off(state, version, committed, reason, trial_ended);
            }
            (Some(version), _) => {
                state.retrial.take_if(|waits| waits.header_sha256 == version.header_sha256);
                state.remember_failed(version.failed(reason));
            }
            (None, _) => {}
        }
    })?;
    let same = |sha256: &str| version.as_ref().is_some_and(|v| v.header_sha256 == sha256);
    let later = state.retrial.filter(|retrial| same(&retrial.header_sha256));
    let later = later.map_or(String::new(), |retrial| format!("; {}", retrial.when()));
    let name = version.map_or_else(|| "an unknown version".into(), |version| version.version);
    report::note(device, Outcome::FellBack, &name, reason)?;
    // Last: until then a restart of `ota` comes here again.
    boot_changes::give_up_trial(device, from)?;
    Ok(format!("fell back from {name}: {reason}{later}"))
}

/// A slot that was committed is no longer what was signed: nothing may fall back to it, and its
/// version, no worse than before, may be fetched again. Gives the line that tells so.
pub fn decayed(context: &Context) -> Result<String> {
    let Context { device, running, .. } = context;
    let slot = running.slot.other();
    let content = context.idle_content().unwrap_or_default();
    let older = content.filter(|(manifest, _)| manifest.sequence <= running.sequence);
    // First: what was left of this by a cut would be found again, but a version that waits in a slot
    // that nothing falls back to would wait for good.
    State::change(device, |state| {
        state.pending = None;
        state.retrial = None;
    })?;
    boot_changes::drop_fallback(device, running)?;
    boot_changes::give_up_trial(device, slot)?;
    Ok(match older {
        // No server may lead the device back to it, whoever asks: below what runs nothing is
        // installed. docs/security.md, "Attacks".
        Some((_, older)) => format!(
            "slot {slot} has decayed on the medium; {} is older than what runs and is not fetched \
             again, so there is nothing to fall back to until the next update",
            older.version
        ),
        None => format!("slot {slot} has decayed on the medium; its version may be fetched again"),
    })
}

/// Notices a version that was committed and struck out, once `init` has made what runs the active
/// one, and forgets one that waits no longer: that nothing may fall back to its slot is all that is
/// left after a cut, or where both copies of the boot state were lost. Gives the line that tells so,
/// when it is news.
pub fn notice_struck_out(
    context: &Context,
    boot: &BootState,
    beat: &dyn Fn(),
) -> Result<Option<String>> {
    let Context { device, running, .. } = context;
    let state = State::load(device);
    if let Some(gone) = state.retrial.as_ref().filter(|r| retrial::is_gone(r, running, boot)) {
        State::change(device, |state| {
            state.retrial.take_if(|r| r.header_sha256 == gone.header_sha256);
        })?;
        return Ok(Some(format!(
            "{} waits in slot {} no longer; it may be fetched again",
            gone.version, gone.slot
        )));
    }
    let Some((_, version)) = retrial::struck_out(context, boot, &state)? else {
        return Ok(None);
    };
    if state.retrial.is_some_and(|r| r.committed && r.header_sha256 == version.header_sha256) {
        return Ok(None);
    }
    let from = running.slot.other();
    let reason =
        crate::policy::trial::reason(from, boot, context::last_failure(device).as_ref(), true);
    settle(context, boot, (from, true, &reason), beat).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_version_that_failed_its_trial_is_banned() {
        let failed = |committed, whole, reason: &str| FailedBoot {
            from: Slot::B,
            committed,
            whole,
            reason: reason.into(),
        };
        let reason = "kernel panic";
        assert_eq!(verdict(&failed(false, true, reason)), Verdict::Failed);
        assert_eq!(verdict(&failed(true, true, reason)), Verdict::PutOff(reason.into()));
        assert_eq!(verdict(&failed(true, false, reason)), Verdict::Decayed);
        let decayed = verdict(&failed(false, false, "boot-b-not-loadable"));
        assert!(matches!(decayed, Verdict::PutOff(r) if r.contains("no longer what was signed")));
        let unreached = "trial not committed: the update server was not reached: no connection";
        assert_eq!(verdict(&failed(false, true, unreached)), Verdict::PutOff(unreached.into()));
    }

    #[test]
    fn a_network_that_is_away_is_no_fault_of_the_version() {
        let workload = "x".repeat(100);
        for reason in ["face waits for an address", "", &workload] {
            // In full, and as the boot state's note keeps it, behind the slot.
            let full = [TRIAL_HELD, reason].concat();
            let note = note_text(&["b:", &full].concat());
            for reason in [&full, note.strip_prefix("b:").unwrap()] {
                let failed = FailedBoot {
                    from: Slot::B,
                    committed: false,
                    whole: true,
                    reason: reason.to_string(),
                };
                assert_eq!(verdict(&failed), Verdict::PutOff(reason.to_string()));
            }
        }
        assert!(!was_held("vital workload trial held from outside: failed"));
    }
}
