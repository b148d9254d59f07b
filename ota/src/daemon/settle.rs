//! What the last boot means, acted upon before anything else: a trial is committed once it is good, a
//! version that was left is remembered, what is armed waits for its reboot.

use std::time::Duration;

use formats::Slot;
use formats::boot_request::BootRequest;

use super::workload::{BootStatePoll, Daemon, TICK};
use crate::console::say;
use crate::context::{self, Context};
use crate::device::Device;
use crate::init::{boot, health};
use crate::policy::commit_gate::Gate;
use crate::policy::fall_back;
use crate::policy::trial::{Situation, situation};
use crate::report;
use crate::state::{Outcome, State};
use crate::{Error, Result};

/// The first wait after what the last boot means could not be settled; doubles up to the longest.
const FIRST_SETTLE_RETRY: Duration = Duration::from_secs(1);
const LONGEST_SETTLE_RETRY: Duration = Duration::from_secs(60);

impl Daemon<'_> {
    /// Settles the last boot before anything else; true when nothing is left to settle. What cannot be
    /// settled now is tried again later, but a trial is not let go: nobody else commits it.
    pub fn settle_first(&self) -> bool {
        let Daemon { context: Context { device, running, .. }, heart, .. } = self;
        let mut told = None;
        let mut pause = FIRST_SETTLE_RETRY;
        loop {
            if self.try_settle(&mut told) {
                return true;
            }
            // As long as nobody knows better, what runs on trial is on trial still.
            let given_up = boot::state(device).is_ok_and(|boot| boot.trial != Some(running.slot));
            if !running.trial || given_up {
                return false;
            }
            heart.sleep(pause);
            pause = (pause * 2).min(LONGEST_SETTLE_RETRY);
        }
    }

    /// Settles, and says what came of it, the same failure once. A data partition that is full or gone,
    /// or a boot state that cannot be had, must not end the daemon: it could still be the one that
    /// commits, and one day there is room again.
    pub(super) fn try_settle(&self, told: &mut Option<Error>) -> bool {
        match self.settle() {
            Ok(line) => {
                line.iter().for_each(|line| say(line));
                true
            }
            Err(error) => {
                if told.as_ref() != Some(&error) {
                    say(&error.to_string());
                }
                *told = Some(error);
                false
            }
        }
    }

    /// Acts on what the last boot means, until nothing is left to settle. Gives the line that tells
    /// what was done, if anything was.
    pub fn settle(&self) -> Result<Option<String>> {
        let Daemon { context, heart, .. } = self;
        let Context { device, running, .. } = context;
        let last_failure = context::last_failure(device);
        let state = State::load(device);
        let boot = boot::state(device)?;
        match situation(running, &boot, state.pending.as_ref(), last_failure.as_ref()) {
            Situation::Settled => fall_back::notice_struck_out(context, &boot, &|| heart.beat()),
            Situation::OnTrial => {
                loop {
                    self.wait_until_good();
                    match commit(context) {
                        // `init` found it ill at that very moment; a trial that takes too long it ends.
                        Err(error) if is_on_trial(device, running.slot) => say(&error.to_string()),
                        result => return result.map(Some),
                    }
                    heart.sleep(TICK);
                }
            }
            Situation::Armed(_) => {
                remember_pending(context)?;
                self.wait_and_reboot();
                Ok(None)
            }
            // A cut came between the chooser's commit and the state's.
            Situation::Committed => {
                let floor = context.manifest()?.rollback_floor;
                State::change(device, |state| {
                    state.pending = None;
                    state.retrial = None;
                    state.rollback_floor = state.rollback_floor.max(floor);
                })
                .map(|_| None)
            }
            Situation::FellBack { from, reason, committed } => {
                let left = (from, committed, reason.as_str());
                fall_back::settle(context, &boot, left, &|| heart.beat()).map(Some)
            }
        }
    }

    /// Until every vital workload is healthy, and the update server has been reached if it has to be.
    /// `init` resets the board when this takes too long: no limit is needed here.
    fn wait_until_good(&self) {
        let Daemon { context, settings, heart, .. } = self;
        let device = &context.device;
        let enough = Duration::from_secs(settings.commit_after_seconds);
        let mut told = String::new();
        let mut poll = BootStatePoll::default();
        let mut gate = Gate::new(device);
        loop {
            heart.beat();
            let reason = match health::ask(device) {
                Ok(health) if health.healthy && health.since >= enough => {
                    if gate.is_open() {
                        return;
                    }
                    gate.ask(context, self.timeouts);
                    if gate.is_open() {
                        // That took a while: is it healthy still?
                        continue;
                    }
                    String::new()
                }
                Ok(health) if health.healthy => String::new(),
                Ok(health) => health.reason,
                Err(error) => error.to_string(),
            };
            if reason != told && !reason.is_empty() {
                say(&format!("on trial, not healthy yet: {reason}"));
            }
            told = reason;
            // A person may have committed or cleared it meanwhile.
            if poll.due() && boot::state(device).is_ok_and(|boot| boot.trial.is_none()) {
                return;
            }
            heart.sleep(TICK);
        }
    }
}

fn is_on_trial(device: &Device, slot: Slot) -> bool {
    boot::state(device).is_ok_and(|boot| boot.trial == Some(slot))
}

/// Makes the running version the one that boots from now on. Gives the line that tells so.
///
/// Fails when its trial was given up meanwhile.
pub fn commit(context: &Context) -> Result<String> {
    let Context { device, running, .. } = context;
    let boot = boot::state(device)?;
    if boot.trial != Some(running.slot) && boot.active != running.slot {
        return Err(Error::failed(format!(
            "slot {} is neither on trial nor active any more; nothing was committed",
            running.slot
        )));
    }
    let floor = context.manifest()?.rollback_floor;
    // `init` knows whether this slot is on trial, and shuts out what is below its floor.
    boot::ask(device, BootRequest::Commit)?;
    State::change(device, |state| {
        state.pending = None;
        state.retrial = None;
        state.commit_waits = None;
        state.rollback_floor = state.rollback_floor.max(floor);
        // It may have failed an earlier trial: what was committed is never banned.
        state.failed.retain(|failed| failed.version != running.version);
    })?;
    report::note(device, Outcome::Committed, &running.version, "")?;
    Ok(format!("committed {} in slot {}", running.version, running.slot))
}

/// After a cut between arming and writing it down, the slot's own header says what it is.
fn remember_pending(context: &Context) -> Result<()> {
    let content = context.idle_content()?;
    State::change(&context.device, |state| {
        if state.pending.is_none() {
            state.pending = content.map(|(_, pending)| pending);
        }
    })
    .map(|_| ())
}
