//! How far the idle slot has been looked through; `daemon::scrub` does that.

use serde::{Deserialize, Serialize};

/// Bytes that are read on one day, at most: a slot of a gigabyte in four days.
const DAILY: u64 = 256 << 20;
/// Days between two passes.
const REST: u64 = 7;

/// How far it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubProgress {
    /// What is looked through.
    pub header_sha256: String,
    /// The first step of the pass that was not taken yet.
    pub next: u64,
    /// The day of the last step, in days since 1970 by the device's clock.
    pub day: u64,
    /// Bytes read on that day.
    pub bytes: u64,
    /// The day on which the last pass ended.
    pub finished: Option<u64>,
}

impl ScrubProgress {
    /// Whether a step may be taken on this day. A clock that jumps costs a pass, or a few days.
    pub fn may_step(&self, today: u64) -> bool {
        let spent = self.day == today && self.bytes >= DAILY;
        let rests = self.finished.is_some_and(|last| today >= last && today - last < REST);
        !spent && !rests
    }

    /// The same after the step it stands at, out of `steps`, which read so many bytes.
    #[must_use]
    pub fn stepped(self, steps: u64, bytes: u64, today: u64) -> ScrubProgress {
        let before = if self.day == today { self.bytes } else { 0 };
        let (next, finished) = match self.next + 1 {
            next if next < steps => (next, None),
            _ => (0, Some(today)),
        };
        ScrubProgress { next, finished, day: today, bytes: before.saturating_add(bytes), ..self }
    }

    /// ScrubProgress with this version; another one is begun with.
    #[must_use]
    pub fn of(self, header_sha256: &str) -> ScrubProgress {
        match self.header_sha256 == header_sha256 {
            true => self,
            false => ScrubProgress {
                header_sha256: header_sha256.into(),
                next: 0,
                finished: None,
                ..self
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_days_and_the_next_one_waits() {
        let (steps, bytes) = (1000, 1 << 20);
        let mut progress = ScrubProgress::default().of("aa");
        let (mut today, mut days) = (20_000, Vec::new());
        while progress.finished.is_none() {
            let mut on_this_day = 0;
            while progress.may_step(today) && progress.finished.is_none() {
                progress = progress.stepped(steps, bytes, today);
                on_this_day += 1;
            }
            days.push(on_this_day);
            today += 1;
        }
        assert_eq!(days, [256, 256, 256, 232]);
        assert_eq!(progress.finished, Some(20_003));
        assert!(!progress.may_step(20_009) && progress.may_step(20_010));
        assert!(progress.may_step(19_000), "the clock came back");
        let other = progress.clone().of("bb");
        assert!(other.next == 0 && other.may_step(20_004));
        assert_eq!(progress.clone().of("aa"), progress);
    }
}
