//! Looking through the idle slot, so that its decay is found before it is needed: slowly, some of it
//! each day, from where it was left. What was committed and is no longer what was signed is nothing
//! to fall back to.

use std::time::{Duration, Instant};

use crate::Result;
use crate::clock;
use crate::context::Context;
use crate::init::boot_changes;
use crate::install::InstallerLock;
use crate::integrity::slot_check::SlotCheck;
use crate::policy::fall_back;
use crate::state::State;
use crate::state::scrub_progress::ScrubProgress;
use crate::status::is_installing;

/// Between two steps of at most some hundred KiB: half a processor's second a minute on a small
/// board, and a medium that is free for others.
const PAUSE: Duration = Duration::from_secs(10);
/// Between two looks whether there is something to look through: PID 1 forks for each.
const IDLE_PAUSE: Duration = Duration::from_secs(600);
/// Bytes after which it is written down how far it came.
const SAVE_EVERY: u64 = 32 << 20;
const SECONDS_OF_DAY: u64 = 86_400;

/// Looks through the idle slot of a device.
#[derive(Debug)]
pub struct Scrub {
    next: Instant,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    check: SlotCheck,
    progress: ScrubProgress,
    unsaved: u64,
}

impl Scrub {
    /// Begins where it was left, a while from now.
    pub fn new() -> Scrub {
        Scrub { next: Instant::now() + PAUSE, open: None }
    }

    /// How long until it may be time for a step.
    pub fn due_in(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Takes a step, if it is time to. Gives the line to say when the slot has decayed.
    pub fn look(&mut self, context: &Context, beat: &dyn Fn()) -> Result<Option<String>> {
        if Instant::now() < self.next {
            return Ok(None);
        }
        self.next = Instant::now() + PAUSE;
        self.step(context, clock::now() / SECONDS_OF_DAY, beat)
    }

    /// Takes a step on this day.
    pub fn step(
        &mut self,
        context: &Context,
        today: u64,
        beat: &dyn Fn(),
    ) -> Result<Option<String>> {
        let Context { device, running, .. } = context;
        // A day of rest asks nobody; what changed meanwhile is seen before the next step.
        if self.open.as_ref().is_some_and(|open| !open.progress.may_step(today)) {
            return Ok(None);
        }
        if is_installing(device) {
            self.open = None;
            return Ok(None);
        }
        if !boot_changes::waits(running, &boot_changes::load(device)?) {
            self.open = None;
            self.next = Instant::now() + IDLE_PAUSE;
            return Ok(None);
        }
        let open = match self.open.take() {
            Some(open) => Some(open),
            None => Open::begin(context)?,
        };
        let Some(mut open) = open else { return confirm(context, None, beat) };
        if !open.progress.may_step(today) {
            self.open = Some(open);
            return Ok(None);
        }
        let step = open.progress.next;
        if !open.check.step(step, beat) {
            return confirm(context, Some(step), beat);
        }
        let bytes = open.check.cost(step);
        open.progress = open.progress.stepped(open.check.steps(), bytes, today);
        open.unsaved = open.unsaved.saturating_add(bytes);
        if open.unsaved >= SAVE_EVERY || open.progress.finished.is_some() {
            open.unsaved = 0;
            State::change(device, |state| state.scrub = Some(open.progress.clone()))?;
        }
        self.open = Some(open);
        Ok(None)
    }
}

impl Default for Scrub {
    fn default() -> Self {
        Scrub::new()
    }
}

impl Open {
    /// `None` when the slot's header is not what was signed.
    fn begin(context: &Context) -> Result<Option<Open>> {
        let Context { device, running, .. } = context;
        let slot = running.slot.other();
        let Some((manifest, version)) = context.idle_content()? else { return Ok(None) };
        let check = SlotCheck::open(device, slot, &manifest)?;
        let mut progress = State::load(device).scrub.unwrap_or_default().of(&version.header_sha256);
        if progress.next >= check.steps() {
            // In other steps than before: its chunk table came or went.
            progress.next = 0;
        }
        Ok(Some(Open { check, progress, unsaved: 0 }))
    }
}

/// Looks at a step again (`None`: at the header), from the beginning and while nobody installs: a
/// read that failed once may be a bad day of the bus. Gives the line to say when it has decayed.
fn confirm(context: &Context, step: Option<u64>, beat: &dyn Fn()) -> Result<Option<String>> {
    let Context { device, running, .. } = context;
    let Ok(_lock) = InstallerLock::take(device) else { return Ok(None) };
    if !boot_changes::waits(running, &boot_changes::load(device)?) {
        return Ok(None);
    }
    let whole = match (Open::begin(context)?, step) {
        (Some(open), Some(step)) => open.check.step(step, beat),
        (Some(_), None) => true,
        (None, _) => false,
    };
    match whole {
        true => Ok(None),
        false => fall_back::decayed(context).map(Some),
    }
}
