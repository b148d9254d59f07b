//! What goes on between two checks: the time that a version waits for its retrial is counted, and
//! the idle slot is looked through.

use std::time::{Duration, Instant};

use crate::console::say;
use crate::context::Context;
use crate::daemon::scrub::Scrub;
use crate::init::boot_changes;
use crate::init::health;
use crate::policy::fall_back::notice_struck_out;
use crate::policy::retrial;
use crate::state::State;
use crate::{Error, Result};

/// Between two looks at how what runs is doing.
const PAUSE: Duration = Duration::from_secs(60);
/// Seconds of healthy running after which they are written down: so many may be lost with the power.
const SAVE_EVERY: u64 = 600;

/// Looks after the idle slot.
#[derive(Debug)]
pub struct Keeper {
    looked: Instant,
    /// Healthy seconds that are not in the state yet.
    uncounted: u64,
    /// The boot state in which nothing was struck out that is not known.
    noticed: Option<u32>,
    scrub: Scrub,
    /// What went wrong last with looking through the slot, and with the rest.
    told: [String; 2],
}

impl Default for Keeper {
    fn default() -> Self {
        Keeper {
            looked: Instant::now(),
            uncounted: 0,
            noticed: None,
            scrub: Scrub::new(),
            told: Default::default(),
        }
    }
}

impl Keeper {
    /// Does what is due. True when a trial was armed. What goes wrong is said, once.
    pub fn look(&mut self, context: &Context, beat: &dyn Fn()) -> bool {
        let scrubbed = self.scrub.look(context, beat).map(|line| {
            line.iter().for_each(|line| say(line));
        });
        let since = self.looked.elapsed();
        let armed = match since >= PAUSE {
            false => Ok(false),
            true => {
                self.looked = Instant::now();
                self.pass(context, since, beat)
            }
        };
        self.outcome(scrubbed, armed)
    }

    /// Whether a trial was armed, whatever became of the other thing.
    fn outcome(&mut self, scrubbed: Result<()>, armed: Result<bool>) -> bool {
        let [told_of_scrub, told] = &mut self.told;
        tell(told_of_scrub, scrubbed.err());
        match armed {
            Ok(armed) => armed,
            Err(error) => {
                tell(told, Some(error));
                false
            }
        }
    }

    /// So much time went by. True when a trial was armed.
    pub fn pass(&mut self, context: &Context, time: Duration, beat: &dyn Fn()) -> Result<bool> {
        let device = &context.device;
        let boot = boot_changes::load(device)?;
        if self.noticed != Some(boot.generation) {
            let line = notice_struck_out(context, &boot, beat)?;
            if let Some(line) = line {
                say(&line);
                self.uncounted = 0;
            }
            self.noticed = Some(boot.generation);
        }
        let Some(mut retrial) = State::load(device).retrial else {
            self.uncounted = 0;
            return Ok(false);
        };
        match health::ask(device) {
            Ok(health) if health.healthy => {
                self.uncounted += time.min(health.since).as_secs();
            }
            // What is not healthy is nothing to go away from and come back to.
            _ => return Ok(false),
        }
        if !retrial.is_due() {
            retrial.healthy_seconds = retrial.healthy_seconds.saturating_add(self.uncounted);
            if self.uncounted >= SAVE_EVERY || retrial.is_due() {
                let seconds = std::mem::take(&mut self.uncounted);
                State::change(device, |state| retrial::count(state, seconds))?;
            }
        }
        if !retrial.committed || !retrial.is_due() {
            return Ok(false);
        }
        let armed = retrial::arm(context, context.settings()?.tries)?;
        armed.iter().for_each(|version| say(&retrial::trying(version)));
        Ok(armed.is_some())
    }
}

/// Says what went wrong, unless that was the last thing said of it.
fn tell(told: &mut String, error: Option<Error>) {
    let error = error.map(|error| error.to_string());
    if let Some(error) = error.filter(|error| error != told) {
        say(&error);
        *told = error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_cannot_be_read_loses_no_armed_trial() {
        let mut keeper = Keeper::default();
        let failed = || Error::failed("root-b: EIO");
        assert!(keeper.outcome(Err(failed()), Ok(true)));
        assert!(keeper.outcome(Ok(()), Ok(true)));
        assert!(!keeper.outcome(Ok(()), Err(failed())));
        assert!(!keeper.outcome(Err(failed()), Ok(false)));
        assert_eq!(keeper.told, ["root-b: EIO", "root-b: EIO"]);
    }
}
