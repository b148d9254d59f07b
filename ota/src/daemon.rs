//! The workload: settles the last boot, commits a healthy trial, then polls for ever.

use std::path::Path;
use std::time::{Duration, Instant};

use formats::Slot;
use formats::boot_request::BootRequest;

use crate::boot;
use crate::candidates::{self, install_first};
use crate::check::{Candidate, check};
use crate::clock::{self, now};
use crate::commit_gate::Gate;
use crate::console::{announce, say};
use crate::device::{self, Running};
use crate::fall_back;
pub use crate::heart::Heart;
use crate::keeper::Keeper;
use crate::meter::{Asked, is_closed};
use crate::paths::Paths;
use crate::patience::Patience;
use crate::report::{self, send_due};
use crate::settings::{Reboot, Settings};
use crate::state::{Outcome, State};
use crate::sticks::{self, Sticks};
use crate::trial::{Situation, situation};
use crate::{Error, Result, health, random};

/// How often a trial's health, and the reboot window, are looked at.
const TICK: Duration = Duration::from_secs(1);
/// The first wait after a check that failed; doubles up to the poll interval.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// The first wait after what the last boot means could not be settled; doubles up to the longest.
const FIRST_SETTLE_RETRY: Duration = Duration::from_secs(1);
const LONGEST_SETTLE_RETRY: Duration = Duration::from_secs(60);
/// The longest wait for the next look; also how late a heartbeat may be.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// A device that asked to be rebooted and still runs after this asks again.
const REBOOT_PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at the boot state, for which `init` starts a process each time.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// When the boot state was looked at.
#[derive(Debug, Default)]
struct Looks(Option<Instant>);

impl Looks {
    /// Whether it is time for another look, which is then taken.
    fn due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= LOOK_EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// Runs until the device reboots.
pub fn run(paths: &Paths) -> Result<()> {
    let settings = Settings::load(&paths.settings())?;
    let running = Running::load(paths)?;
    let heart = Heart::new().of_process();
    say(&format!(
        "running {} (sequence {}) in slot {}",
        running.version, running.sequence, running.slot
    ));
    let settled = settle_first(paths, &settings, &running, heart);
    poll(paths, &settings, &running, heart, settled)
}

/// Settles the last boot before anything else; true when nothing is left to settle. What cannot be
/// settled now is tried again later, but a trial is not let go: nobody else commits it.
pub fn settle_first(paths: &Paths, settings: &Settings, running: &Running, heart: &Heart) -> bool {
    let mut told = None;
    let mut pause = FIRST_SETTLE_RETRY;
    loop {
        if try_settle(paths, settings, running, heart, &mut told) {
            return true;
        }
        // As long as nobody knows better, what runs on trial is on trial still.
        let given_up = boot::state(paths).is_ok_and(|boot| boot.trial != Some(running.slot));
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
fn try_settle(
    paths: &Paths,
    settings: &Settings,
    running: &Running,
    heart: &Heart,
    told: &mut Option<Error>,
) -> bool {
    match settle(paths, settings, running, heart) {
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
pub fn settle(
    paths: &Paths,
    settings: &Settings,
    running: &Running,
    heart: &Heart,
) -> Result<Option<String>> {
    let last_failure = device::last_failure(paths);
    let state = State::load(paths);
    let boot = boot::state(paths)?;
    match situation(running, &boot, state.pending.as_ref(), last_failure.as_ref()) {
        Situation::Settled => fall_back::notice_struck_out(paths, running, &boot, &|| heart.beat()),
        Situation::OnTrial => {
            loop {
                wait_until_good(paths, settings, running, heart);
                match commit(paths, running) {
                    // `init` found it ill at that very moment; a trial that takes too long it ends.
                    Err(error) if is_on_trial(paths, running.slot) => say(&error.to_string()),
                    result => return result.map(Some),
                }
                heart.sleep(TICK);
            }
        }
        Situation::Armed(slot) => {
            remember_pending(paths, slot)?;
            wait_and_reboot(paths, settings.reboot, heart);
            Ok(None)
        }
        // A cut came between the chooser's commit and the state's.
        Situation::Committed => {
            let rollback_floor =
                device::running_manifest(paths, &device::trusted_keys(paths)?)?.rollback_floor;
            State::change(paths, |state| {
                state.pending = None;
                state.retrial = None;
                state.rollback_floor = state.rollback_floor.max(rollback_floor);
            })
            .map(|_| None)
        }
        Situation::FellBack { from, reason, committed } => {
            let left = (from, committed, reason.as_str());
            fall_back::settle(paths, running, &boot, left, &|| heart.beat()).map(Some)
        }
    }
}

fn is_on_trial(paths: &Paths, slot: Slot) -> bool {
    boot::state(paths).is_ok_and(|boot| boot.trial == Some(slot))
}

/// Until every vital workload is healthy, and the update server has been reached if it has to be.
/// `init` resets the board when this takes too long: no limit is needed here.
fn wait_until_good(paths: &Paths, settings: &Settings, running: &Running, heart: &Heart) {
    let enough = Duration::from_secs(settings.commit_after_seconds);
    let mut told = String::new();
    let mut looks = Looks::default();
    let mut gate = Gate::new(paths);
    loop {
        heart.beat();
        let reason = match health::ask(paths) {
            Ok(health) if health.healthy && health.since >= enough => {
                if gate.is_open() {
                    return;
                }
                gate.ask(paths, settings, Patience::default(), running);
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
        if looks.due() && boot::state(paths).is_ok_and(|boot| boot.trial.is_none()) {
            return;
        }
        heart.sleep(TICK);
    }
}

/// Makes the running version the one that boots from now on. Gives the line that tells so.
///
/// Fails when its trial was given up meanwhile.
pub fn commit(paths: &Paths, running: &Running) -> Result<String> {
    let boot = boot::state(paths)?;
    if boot.trial != Some(running.slot) && boot.active != running.slot {
        return Err(Error::failed(format!(
            "slot {} is neither on trial nor active any more; nothing was committed",
            running.slot
        )));
    }
    let rollback_floor =
        device::running_manifest(paths, &device::trusted_keys(paths)?)?.rollback_floor;
    // `init` knows whether this slot is on trial, and shuts out what is below its floor.
    boot::ask(paths, BootRequest::Commit)?;
    State::change(paths, |state| {
        state.pending = None;
        state.retrial = None;
        state.rollback_floor = state.rollback_floor.max(rollback_floor);
        // It may have failed an earlier trial: what was committed is never banned.
        state.failed.retain(|failed| failed.version != running.version);
    })?;
    report::note(paths, Outcome::Committed, &running.version, "")?;
    Ok(format!("committed {} in slot {}", running.version, running.slot))
}

/// After a cut between arming and writing it down, the slot's own header says what it is.
fn remember_pending(paths: &Paths, slot: Slot) -> Result<()> {
    let keys = device::trusted_keys(paths)?;
    State::change(paths, |state| {
        if state.pending.is_none() {
            state.pending = device::content(paths, &keys, slot).map(|(_, pending)| pending);
        }
    })
    .map(|_| ())
}

fn poll(
    paths: &Paths,
    settings: &Settings,
    running: &Running,
    heart: &Heart,
    mut settled: bool,
) -> Result<()> {
    let jitter = Duration::from_secs(settings.jitter_seconds);
    let interval = Duration::from_secs(settings.poll_seconds);
    let mut retry = FIRST_RETRY.min(interval);
    let mut meanwhile = Meanwhile::default();
    let mut wait = |duration| wait(paths, settings, running, heart, &mut meanwhile, duration);
    wait(random::up_to(jitter));
    let mut told = None;
    let mut told_of_settling = None;
    loop {
        if let Some(hours) = settings.hours.filter(|hours| is_closed(*hours, now())) {
            wait(hours.opens_in(now()) + random::up_to(jitter.min(hours.length() / 2)));
            continue;
        }
        settled = settled || try_settle(paths, settings, running, heart, &mut told_of_settling);
        // What went wrong with telling is no reason not to go on, and is told by its absence.
        let _ = send_due(paths, settings, Patience::default(), running);
        let pause = match update(paths, settings, Patience::default(), running, heart) {
            Ok(true) => {
                wait_and_reboot(paths, settings.reboot, heart);
                interval
            }
            Ok(false) => {
                told = None;
                retry = FIRST_RETRY.min(interval);
                interval
            }
            Err(error) => {
                // The same refusal or failure every hour is one line, not one an hour.
                if told.as_ref() != Some(&error) {
                    say(&error.to_string());
                }
                let pause = match &error {
                    Error::Refused { .. } => interval,
                    Error::Failed(_) => retry / 2 + random::up_to(retry / 2),
                    // As long as the server wishes, and no longer than between two polls.
                    Error::Later { after, .. } => (*after).max(retry).min(interval),
                };
                retry = (retry * 2).min(interval);
                told = Some(error);
                pause
            }
        };
        wait(pause + random::up_to(jitter));
    }
}

/// What is looked after between two checks.
#[derive(Debug, Default)]
struct Meanwhile {
    sticks: Sticks,
    keeper: Keeper,
}

/// Sleeps; takes what comes on a stick meanwhile, where the image allows that, and looks after the
/// idle slot.
fn wait(
    paths: &Paths,
    settings: &Settings,
    running: &Running,
    heart: &Heart,
    meanwhile: &mut Meanwhile,
    duration: Duration,
) {
    let end = Instant::now() + duration;
    loop {
        if settings.sticks {
            for stick in meanwhile.sticks.new_ones(paths) {
                take_stick(paths, settings, running, heart, &stick);
            }
        }
        if meanwhile.keeper.look(paths, settings, running, &|| heart.beat()) {
            wait_and_reboot(paths, settings.reboot, heart);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        heart.sleep(left.min(LONGEST_SLEEP));
    }
}

fn take_stick(paths: &Paths, settings: &Settings, running: &Running, heart: &Heart, stick: &Path) {
    match sticks::update(paths, settings, running, stick, &|| heart.beat()) {
        Ok(true) => wait_and_reboot(paths, settings.reboot, heart),
        Ok(false) => {}
        Err(error) => {
            say(&format!("stick: {error}; pull it out and plug it in again to try once more"));
            let error = error.to_string();
            // A state that cannot be written is said where it matters.
            let _ = State::change(paths, |state| state.last_error = Some(error));
        }
    }
}

/// Checks, and installs what is newer; true when a trial was armed by this. What happened goes
/// into the state.
pub fn update(
    paths: &Paths,
    settings: &Settings,
    patience: Patience,
    running: &Running,
    heart: &Heart,
) -> Result<bool> {
    let result = find_and_install(paths, settings, patience, running, heart);
    // All that was found may be refused, or the newest of it.
    let (refused, last_error) = match &result {
        Ok((_, refused)) => (refused.as_ref(), refused.as_ref().map(ToString::to_string)),
        Err(error) => (Some(error), Some(error.to_string())),
    };
    if let Some(Error::Refused { version, reason }) = refused {
        report::note(paths, Outcome::Refused, version, reason)?;
    }
    let answered = matches!(result, Ok(_) | Err(Error::Refused { .. }));
    let kept = State::change(paths, |state| {
        state.last_error = last_error;
        if answered {
            state.last_check = Some(now());
        }
    });
    result.and_then(|(armed, _)| kept.map(|_| armed))
}

/// Whether a trial was armed, and why the newest version was refused where an older one is taken.
fn find_and_install(
    paths: &Paths,
    settings: &Settings,
    patience: Patience,
    running: &Running,
    heart: &Heart,
) -> Result<(bool, Option<Error>)> {
    let checked = check(paths, settings, patience, &settings.url, running, Asked::ByItself)?;
    let offers = checked.take.iter().map(|(candidate, offer)| (candidate, offer));
    let mut told = |event: std::result::Result<&Candidate, &Error>| match event {
        Ok(Candidate { ferrite, .. }) => {
            say(&format!("found {} (sequence {})", ferrite.version, ferrite.sequence));
        }
        Err(error) => say(&error.to_string()),
    };
    let beat = || heart.beat();
    let (taken, refused) = install_first(paths, offers, settings.tries, &beat, &mut told)?;
    if let Some(candidates::Outcome::Installed(installed)) = &taken {
        announce(installed);
    }
    Ok((matches!(taken, Some(candidates::Outcome::Installed(_))), refused))
}

/// Reboots when the image file allows. Comes back when it never does, or when the trial is not
/// armed any more.
fn wait_and_reboot(paths: &Paths, policy: Reboot, heart: &Heart) {
    if policy != Reboot::Now {
        say(&format!("reboot: {policy}"));
    }
    if policy == Reboot::Manual {
        return;
    }
    let mut looks = Looks::default();
    loop {
        if looks.due() && boot::state(paths).is_ok_and(|boot| boot.trial.is_none()) {
            return;
        }
        let now = now();
        let known = policy == Reboot::Now || clock::was_set(now);
        if known && policy.allows(now) {
            match health::reboot(paths) {
                Ok(()) => heart.sleep(REBOOT_PATIENCE),
                Err(error) => {
                    say(&format!("cannot ask for a reboot: {error}"));
                    heart.sleep(REBOOT_PATIENCE);
                }
            }
        }
        heart.sleep(TICK);
    }
}
