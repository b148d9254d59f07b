//! What the workload's steps share: the daemon itself, and how often it looks.

use std::time::{Duration, Instant};

use crate::Result;
use crate::context::Context;
use crate::fetch::timeouts::Timeouts;
use crate::heart::Heart;
use crate::settings::Settings;

/// How often a trial's health, and the reboot window, are looked at.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// Between two polls of the boot state, for which `init` starts a process each time.
const POLL_BOOT_STATE_EVERY: Duration = Duration::from_secs(15);

/// When the boot state was last asked for.
#[derive(Debug, Default)]
pub(super) struct BootStatePoll(Option<Instant>);

impl BootStatePoll {
    /// Whether it is time to ask again; if so, it counts as asked.
    pub(super) fn due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= POLL_BOOT_STATE_EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// The workload: what it serves, and how patient it is.
#[derive(Debug)]
pub struct Daemon<'a> {
    pub(super) context: &'a Context,
    pub(super) settings: &'a Settings,
    pub(super) timeouts: Timeouts,
    pub(super) heart: &'a Heart,
}

impl<'a> Daemon<'a> {
    /// A daemon that has done nothing yet. Fails when the image's settings cannot be read.
    pub fn new(context: &'a Context, timeouts: Timeouts, heart: &'a Heart) -> Result<Daemon<'a>> {
        Ok(Daemon { context, settings: context.settings()?, timeouts, heart })
    }
}
