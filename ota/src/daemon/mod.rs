//! The workload: settles the last boot, commits a healthy trial, then polls for ever.

pub mod keeper;
pub mod scrub;
mod settle;
pub mod sticks;
mod workload;

use std::path::Path;
use std::time::{Duration, Instant};

use self::keeper::Keeper;
pub use self::settle::commit;
use self::sticks::Sticks;
pub use self::workload::Daemon;
use self::workload::{BootStatePoll, TICK};
use crate::clock::{self, now};
use crate::console::say;
use crate::context::Context;
use crate::device::Device;
use crate::fetch::data_budget::{Trigger, is_closed};
use crate::fetch::timeouts::Timeouts;
pub use crate::heart::Heart;
use crate::init::{boot, health};
use crate::install::announce;
use crate::install::candidates::{self, Candidate, install_first};
use crate::policy::check::check;
use crate::report::{self, send_due};
use crate::settings::Reboot;
use crate::state::{Outcome, State};
use crate::{Error, Result, random};

/// The first wait after a check that failed; doubles up to the poll interval.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// The longest wait for the next look; also how late a heartbeat may be.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// A device that asked to be rebooted and still runs after this asks again.
const REBOOT_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs until the device reboots.
pub fn run(device: &Device) -> Result<()> {
    let context = Context::load(device)?;
    context.settings()?;
    let heart = Heart::new().of_process();
    Daemon::new(&context, Timeouts::default(), heart)?.run()
}

impl Daemon<'_> {
    /// Settles the last boot, then polls until the device reboots.
    pub fn run(&self) -> Result<()> {
        let running = &self.context.running;
        say(&format!(
            "running {} (sequence {}) in slot {}",
            running.version, running.sequence, running.slot
        ));
        let settled = self.settle_first();
        self.poll(settled)
    }

    fn poll(&self, mut settled: bool) -> Result<()> {
        let Daemon { context: Context { device, running, .. }, settings, .. } = self;
        let jitter = Duration::from_secs(settings.jitter_seconds);
        let interval = Duration::from_secs(settings.poll_seconds);
        let mut retry = FIRST_RETRY.min(interval);
        let mut background = Background::default();
        let mut wait = |duration| self.wait(&mut background, duration);
        wait(random::up_to(jitter));
        let mut told = None;
        let mut told_of_settling = None;
        loop {
            if let Some(hours) = settings.hours.filter(|hours| is_closed(*hours, now())) {
                wait(hours.opens_in(now()) + random::up_to(jitter.min(hours.length() / 2)));
                continue;
            }
            settled = settled || self.try_settle(&mut told_of_settling);
            // What went wrong with telling is no reason not to go on, and is told by its absence.
            let _ = send_due(device, settings, self.timeouts, running);
            let pause = match self.update() {
                Ok(true) => {
                    self.wait_and_reboot();
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

    /// Sleeps; takes what comes on a stick meanwhile, where the image allows that, and looks after the
    /// idle slot.
    fn wait(&self, background: &mut Background, duration: Duration) {
        let Daemon { context, settings, heart, .. } = self;
        let end = Instant::now() + duration;
        loop {
            if settings.sticks {
                for stick in background.sticks.new_ones(&context.device) {
                    self.take_stick(&stick);
                }
            }
            if background.keeper.look(context, &|| heart.beat()) {
                self.wait_and_reboot();
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            heart.sleep(left.min(LONGEST_SLEEP));
        }
    }

    fn take_stick(&self, stick: &Path) {
        let Daemon { context, heart, .. } = self;
        match sticks::update(context, stick, &|| heart.beat()) {
            Ok(true) => self.wait_and_reboot(),
            Ok(false) => {}
            Err(error) => {
                say(&format!("stick: {error}; pull it out and plug it in again to try once more"));
                let error = error.to_string();
                // A state that cannot be written is said where it matters.
                let _ = State::change(&context.device, |state| state.last_error = Some(error));
            }
        }
    }

    /// Checks, and installs what is newer; true when a trial was armed by this. What happened goes
    /// into the state.
    pub fn update(&self) -> Result<bool> {
        let device = &self.context.device;
        let result = self.find_and_install();
        // All that was found may be refused, or the newest of it.
        let (refused, last_error) = match &result {
            Ok((_, refused)) => (refused.as_ref(), refused.as_ref().map(ToString::to_string)),
            Err(error) => (Some(error), Some(error.to_string())),
        };
        if let Some(Error::Refused { version, reason }) = refused {
            report::note(device, Outcome::Refused, version, reason)?;
        }
        // All that is newer failed here, or is refused: that, too, is an answer.
        let answered = matches!(result, Err(Error::Refused { .. }));
        let kept = State::change(device, |state| {
            state.last_error = last_error;
            if answered {
                state.last_check = Some(now());
            }
        });
        result.and_then(|(armed, _)| kept.map(|_| armed))
    }

    /// Whether a trial was armed, and why the newest version was refused where an older one is taken.
    fn find_and_install(&self) -> Result<(bool, Option<Error>)> {
        let Daemon { context, settings, heart, .. } = self;
        let checked = check(context, self.timeouts, &settings.url, Trigger::Scheduled)?;
        // It has answered, whatever becomes of what it offers.
        State::change(&context.device, |state| state.last_check = Some(now()))?;
        let offers = checked.take.iter().map(|(candidate, offer)| (candidate, offer));
        let mut told = |event: std::result::Result<&Candidate, &Error>| match event {
            Ok(Candidate { ferrite, .. }) => {
                say(&format!("found {} (sequence {})", ferrite.version, ferrite.sequence));
            }
            Err(error) => say(&error.to_string()),
        };
        let beat = || heart.beat();
        let (taken, refused) = install_first(context, offers, settings.tries, &beat, &mut told)?;
        if let Some(candidates::Outcome::Installed(installed)) = &taken {
            announce(installed);
        }
        Ok((matches!(taken, Some(candidates::Outcome::Installed(_))), refused))
    }

    /// Reboots when the image file allows. Comes back when it never does, or when the trial is not
    /// armed any more.
    fn wait_and_reboot(&self) {
        let Daemon { context, settings, heart, .. } = self;
        let (device, policy) = (&context.device, settings.reboot);
        if policy != Reboot::Now {
            say(&format!("reboot: {policy}"));
        }
        if policy == Reboot::Manual {
            return;
        }
        let mut poll = BootStatePoll::default();
        loop {
            if poll.due() && boot::state(device).is_ok_and(|boot| boot.trial.is_none()) {
                return;
            }
            let now = now();
            let known = policy == Reboot::Now || clock::was_set(now);
            if known && policy.allows(now) {
                match health::reboot(device) {
                    Ok(()) => heart.sleep(REBOOT_TIMEOUT),
                    Err(error) => {
                        say(&format!("cannot ask for a reboot: {error}"));
                        heart.sleep(REBOOT_TIMEOUT);
                    }
                }
            }
            heart.sleep(TICK);
        }
    }
}

/// What is looked after between two checks.
#[derive(Debug, Default)]
struct Background {
    sticks: Sticks,
    keeper: Keeper,
}
