//! When a workload that ended is started again: policy, exponential back-off, crash budget.

use formats::system_conf::MAX_CRASHES;

use super::state_machine::Ending;
use crate::system_conf::{RestartLimits, RestartPolicy};

/// A failed workload is tried again after this many longest delays.
const FAILED_FACTOR: u64 = 5;

/// What is remembered of a workload's crashes.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Times of the crashes within the window, oldest first; never longer than the budget.
    crashes: Vec<u64>,
    /// Crashes in a row, without a stable run between them.
    in_a_row: u32,
    /// The budget was spent and no stable run has restored it.
    spent: bool,
}

impl History {
    /// Records that the main process ended at `now` after having been ready for `ready_for`
    /// milliseconds, and says what follows. `clean`: exit status 0 and nobody ended it for being
    /// unhealthy.
    pub fn ended(
        &mut self,
        policy: RestartPolicy,
        limits: &RestartLimits,
        clean: bool,
        ready_for: u64,
        now: u64,
    ) -> Ending {
        match policy {
            RestartPolicy::Never => return Ending::Finished,
            RestartPolicy::OnFailure if clean => return Ending::Finished,
            _ => {}
        }
        // A run as long as the longest delay shows that the cause has gone.
        if ready_for >= limits.longest.max(limits.first) {
            self.forgive();
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.crashes.retain(|at| now.saturating_sub(*at) < limits.window);
        let budget = limits.crashes.clamp(1, MAX_CRASHES) as usize;
        while self.crashes.len() >= budget {
            self.crashes.remove(0);
        }
        self.crashes.push(now);
        if self.spent || self.crashes.len() >= budget {
            self.spent = true;
            return Ending::Spent;
        }
        Ending::Again
    }

    /// Milliseconds to wait before the next start, after the crashes so far.
    pub fn delay(&self, limits: &RestartLimits) -> u64 {
        let doublings = self.in_a_row.saturating_sub(1).min(32);
        limits.first.saturating_mul(1 << doublings).min(limits.longest.max(limits.first))
    }

    /// Milliseconds until a failed workload is tried again.
    pub fn failed_delay(limits: &RestartLimits) -> u64 {
        limits.longest.max(limits.first).saturating_mul(FAILED_FACTOR)
    }

    /// Forgets every crash.
    pub fn forgive(&mut self) {
        self.crashes.clear();
        self.in_a_row = 0;
        self.spent = false;
    }

    /// Crashes in a row without a stable run between them.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: RestartLimits =
        RestartLimits { first: 1_000, longest: 60_000, crashes: 5, window: 300_000 };

    #[test]
    fn the_fifth_crash_within_the_window_spends_the_budget() {
        let mut history = History::default();
        for crash in 0..4 {
            let ending = history.ended(RestartPolicy::Always, &LIMITS, false, 0, crash * 10_000);
            assert_eq!(ending, Ending::Again, "crash {crash}");
        }
        assert_eq!(history.ended(RestartPolicy::Always, &LIMITS, false, 0, 50_000), Ending::Spent);
    }

    #[test]
    fn a_failed_workload_stays_failed_until_a_stable_run() {
        let mut history = History::default();
        for crash in 0..5 {
            history.ended(RestartPolicy::Always, &LIMITS, false, 0, crash);
        }
        let later = 10_000_000;
        assert_eq!(history.ended(RestartPolicy::Always, &LIMITS, false, 5, later), Ending::Spent);
        assert_eq!(
            history.ended(RestartPolicy::Always, &LIMITS, false, 60_000, later * 2),
            Ending::Again
        );
        assert_eq!(history.delay(&LIMITS), 1_000);
    }

    #[test]
    fn crashes_far_apart_never_spend_the_budget() {
        let mut history = History::default();
        for crash in 0..1_000 {
            let ending = history.ended(RestartPolicy::Always, &LIMITS, false, 0, crash * 75_001);
            assert_eq!(ending, Ending::Again);
        }
    }

    #[test]
    fn policies_decide_on_the_exit_status() {
        let mut history = History::default();
        assert_eq!(history.ended(RestartPolicy::Never, &LIMITS, false, 0, 0), Ending::Finished);
        assert_eq!(history.ended(RestartPolicy::OnFailure, &LIMITS, true, 0, 0), Ending::Finished);
        assert_eq!(history.ended(RestartPolicy::OnFailure, &LIMITS, false, 0, 0), Ending::Again);
        assert_eq!(history.ended(RestartPolicy::Always, &LIMITS, true, 0, 0), Ending::Again);
    }

    proptest! {
        #[test]
        fn delays_never_shrink_while_crashes_go_on_and_stay_in_their_bounds(
            first in 1u64..100_000,
            longest in 1u64..10_000_000,
            crashes in 1u32..1_000,
        ) {
            let limits = RestartLimits { first, longest, crashes: u32::MAX, window: 1 };
            let mut history = History::default();
            let mut before = 0;
            for crash in 0..crashes.min(100) {
                history.ended(RestartPolicy::Always, &limits, false, 0, u64::from(crash) * 10);
                let delay = history.delay(&limits);
                prop_assert!(delay >= before && delay >= first.min(longest));
                prop_assert!(delay <= longest.max(first));
                before = delay;
            }
        }

        #[test]
        fn the_budget_is_never_overdrawn(
            times in proptest::collection::vec(0u64..1_000_000, 1..100),
            crashes in 1u32..10,
        ) {
            let limits = RestartLimits { crashes, ..LIMITS };
            let mut times = times;
            times.sort_unstable();
            let mut history = History::default();
            let mut again: Vec<u64> = Vec::new();
            for now in times {
                if history.ended(RestartPolicy::Always, &limits, false, 0, now) == Ending::Spent {
                    break;
                }
                again.push(now);
                let recent = again.iter().filter(|at| now - **at < limits.window).count();
                prop_assert!(recent < crashes as usize);
            }
        }
    }
}
