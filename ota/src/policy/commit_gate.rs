//! A version that cannot reach its update server is not committed: nobody could bring it the next
//! one. Its `ota` has to bring the repository's metadata up to date once, by its own settings, roots
//! and drivers, if the version before it had managed that within its last day.
//!
//! A server that is down for everybody looks the same from here. So such a trial ends as all do, by
//! `init` at its deadline, but its version is not banned: the one before waits a while and tries it
//! again when the repository has answered it (`retrial`). What somebody brought, on a stick or as a
//! file, is kept without.

use std::time::{Duration, Instant};

use formats::boot_state::{NO_LONGER_WAITS, note_text};

use crate::Error;
use crate::clock;
use crate::console::say;
use crate::context::Context;
use crate::device::Device;
use crate::fetch::data_budget::Trigger;
use crate::fetch::timeouts::Timeouts;
use crate::init::health;
use crate::policy::check::check;
use crate::state::State;

/// How a reason begins that lies in the server, or on the way to it.
const UNREACHED: &str = "the update server was not reached";
/// How fresh the last refresh of the version before has to be, in seconds.
const DAY: u64 = 86_400;
/// The first wait between two attempts; doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// The longest wait that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// A reason is cut to so many bytes: `init` takes a line of 256.
const MAX_REASON: usize = 200;

/// Whether a trial failed for want of the server. The boot state keeps the reason as a note, with
/// other characters in place of most.
pub fn is_unreached(reason: &str) -> bool {
    reason.contains(UNREACHED) || reason.contains(&note_text(UNREACHED))
}

/// Whether the version on trial has to reach its server before it is committed, at this time in
/// seconds since 1970.
pub fn is_asked(state: &State, now: u64) -> bool {
    let Some(last) = state.last_check else { return false };
    let pending = state.pending.as_ref();
    let armed = pending.and_then(|pending| pending.armed_at);
    // An `ota` of 0.1, or one whose power was cut, says neither when it armed the trial nor who
    // brought the update; but an update of a server leaves no error behind.
    let by_server = match pending {
        Some(pending) if armed.is_some() => !pending.brought,
        _ => state.last_error.is_none(),
    };
    // A clock that was wrong then, or is now, asks rather than not.
    by_server && armed.unwrap_or(now).saturating_sub(last) <= DAY
}

/// Asks the server until it has answered.
#[derive(Debug)]
pub struct Gate {
    open: bool,
    next: Instant,
    pause: Duration,
    said: String,
    /// What `init` has taken.
    told: String,
}

impl Gate {
    /// The gate before the commit of what is on trial.
    pub fn new(device: &Device) -> Gate {
        let open = !is_asked(&State::load(device), clock::now());
        Gate {
            open,
            next: Instant::now(),
            pause: FIRST_RETRY,
            said: String::new(),
            told: String::new(),
        }
    }

    /// Whether nothing is in the way of the commit.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Asks the server, if it is time to. That may take a minute.
    pub fn ask(&mut self, context: &Context, timeouts: Timeouts) {
        if self.open || Instant::now() < self.next {
            return;
        }
        // As a person's question it is counted, and neither hours nor a budget forbid it.
        let device = &context.device;
        let checked = context
            .settings()
            .and_then(|settings| check(context, timeouts, &settings.url, Trigger::Manual));
        match checked {
            // All that is newer failed here: that, too, is an answer.
            Ok(_) | Err(Error::Refused { .. }) => {
                // A state that cannot be written is no reason to give up a version that works.
                let _ = State::change(device, |state| {
                    state.last_check = Some(clock::now());
                    state.commit_waits = None;
                });
                self.open = true;
                if !self.told.is_empty() {
                    // Should the trial fail now, that is no longer the reason.
                    let _ = health::say_trial_waits(device, NO_LONGER_WAITS);
                }
            }
            Err(error) => self.wait(device, &error),
        }
    }

    fn wait(&mut self, device: &Device, error: &Error) {
        let asked = match error {
            Error::Later { after, .. } => *after,
            _ => Duration::ZERO,
        };
        self.next = Instant::now() + self.pause.max(asked.min(LONGEST_ASKED));
        self.pause = (self.pause * 2).min(LONGEST_RETRY);
        let reason = format!("{UNREACHED}: {error}");
        if reason != self.said {
            say(&format!("on trial, not committed yet: {reason}"));
            let _ = State::change(device, |state| state.commit_waits = Some(reason.clone()));
        }
        let line = as_line(&reason);
        // A reset without this reason would be a ban: what `init` has not taken, it is told again.
        if line != self.told && health::say_trial_waits(device, &line).is_ok() {
            self.told = line;
        }
        self.said = reason;
    }
}

/// A reason as `init` takes it: short ASCII without control characters.
fn as_line(reason: &str) -> String {
    let plain = |c: char| if c.is_ascii() { c } else { '?' };
    reason.chars().filter(|c| !c.is_control()).map(plain).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::VersionId;

    #[test]
    fn asked_is_who_had_reached_the_server_within_the_last_day() {
        let state = |last_check, armed_at, brought, last_error: Option<&str>| State {
            last_check,
            last_error: last_error.map(Into::into),
            pending: Some(VersionId { armed_at, brought, ..VersionId::default() }),
            ..State::default()
        };
        let now = 2_000_000_000;
        let (armed, fresh) = (Some(now - 50 * DAY), Some(now - 51 * DAY));
        assert!(is_asked(&state(fresh, armed, false, None), now), "it waited for its window");
        assert!(is_asked(&state(fresh, armed, false, Some("refused")), now));
        assert!(!is_asked(&state(fresh, armed, true, None), now), "brought");
        assert!(!is_asked(&state(Some(now - 52 * DAY), armed, false, None), now), "long ago");
        assert!(!is_asked(&state(None, armed, false, None), now), "no network ever");
        assert!(is_asked(&state(Some(now + DAY), armed, false, None), now), "the clock jumped");
        // Armed by 0.1.
        assert!(is_asked(&state(Some(now - DAY), None, false, None), now));
        assert!(!is_asked(&state(Some(now - DAY), None, false, Some("no route")), now), "a stick");
        assert!(!is_asked(&state(Some(now - DAY - 1), None, false, None), now));
        assert!(is_asked(&State { last_check: Some(now), ..State::default() }, now), "a cut");
        assert!(!is_asked(&State::default(), now), "nothing is known");
    }

    #[test]
    fn a_reason_of_any_length_and_script_makes_a_line_that_init_takes() {
        let long = format!("{UNREACHED}: https://müller.example/\n\u{1b}[2J{}", "雪".repeat(300));
        let line = as_line(&long);
        assert_eq!(line.len(), MAX_REASON);
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line}");
        assert!(line.contains("m?ller.example/[2J???") && is_unreached(&line));
    }

    #[test]
    fn the_reason_is_known_again_in_both_its_forms() {
        let reason = format!("trial not committed: {UNREACHED}: http://x/: no connection");
        assert!(is_unreached(&reason) && is_unreached(&note_text(&reason)));
        assert!(!is_unreached("trial not committed: face: golden sample differs"));
    }
}
