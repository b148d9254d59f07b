//! Whether this machine's clock is one to sign with.
//!
//! The timestamp says when it was signed, and devices go by that (docs/updates.md, "Time"). A clock
//! that is ahead lets what others sign later look old; one that is behind makes metadata that
//! expires too soon. Nothing on a PC says for certain what time it is; what was signed before, and
//! the files at hand, say what it cannot be.

use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Result, anyhow};
use tuf::Time;
use tuf::author::Published;

/// Seconds that a repository may lie unsigned without a question.
const LONGEST_LEAP: u64 = 366 * 86_400;
/// Seconds by which another machine's clock, which dated a file, may be ahead of this one's.
const TOLERANCE: u64 = 86_400;

/// Whether this machine's clock is looked at before something is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockCheck {
    /// It is, and one that looks wrong signs nothing.
    #[default]
    Plausible,
    /// It is not: its owner says that it is right.
    Trusted,
}

impl ClockCheck {
    /// Fails when `now` is behind what `before` was signed at or what `files` were last changed at,
    /// or more than a year ahead of what was signed, or of the files where nothing was.
    pub fn check(self, now: Time, before: Option<&Published>, files: &[&Path]) -> Result<()> {
        if self == ClockCheck::Trusted {
            return Ok(());
        }
        let changed = |path: &&Path| {
            let changed = std::fs::metadata(path).and_then(|about| about.modified()).ok()?;
            Some(Time(changed.duration_since(UNIX_EPOCH).ok()?.as_secs()))
        };
        let signed = before.and_then(|before| before.timestamp.signed_at);
        judge(now, signed, files.iter().filter_map(changed).max()).map_err(|why| {
            anyhow!(
                "{why}; set this machine's clock, or pass --yes if it is right. Nothing was signed"
            )
        })
    }
}

/// Why `now` cannot be the time, when the repository was signed at `signed` and the newest file at
/// hand changed at `changed`.
fn judge(now: Time, signed: Option<Time>, changed: Option<Time>) -> Result<(), String> {
    if let Some(signed) = signed.filter(|signed| now < *signed) {
        return Err(format!("it is {now} here, and the repository was signed later, at {signed}"));
    }
    if let Some(changed) = changed.filter(|changed| now.0.saturating_add(TOLERANCE) < changed.0) {
        return Err(format!(
            "it is {now} here, and a file to publish was changed later, at {changed}"
        ));
    }
    match signed.or(changed) {
        Some(known) if known.0.saturating_add(LONGEST_LEAP) < now.0 => Err(format!(
            "it is {now} here, more than a year after {known}, when {}",
            match signed {
                Some(_) => "the repository was last signed",
                None => "the newest file to publish was changed",
            }
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_800_000_000);

    #[test]
    fn a_clock_that_stood_still_or_ran_away_is_noticed() {
        let at = |days: i64| Some(Time(NOW.0.saturating_add_signed(days * 86_400)));
        for (signed, changed, wrong) in [
            (None, None, None),
            (at(-1), None, None),
            (at(-1), at(-1000), None),
            (at(-366), at(0), None),
            (None, at(-366), None),
            // Another machine's clock was ahead a little.
            (at(-1), at(1), None),
            (at(1), None, Some("signed later")),
            (at(-1), at(2), Some("changed later")),
            (at(-367), at(0), Some("last signed")),
            (None, at(-367), Some("changed")),
        ] {
            let error = judge(NOW, signed, changed).err();
            assert_eq!(error.is_some(), wrong.is_some(), "{signed:?} {changed:?} {error:?}");
            let error = error.unwrap_or_default();
            assert!(error.contains(wrong.unwrap_or("")), "{error}");
        }
    }
}
