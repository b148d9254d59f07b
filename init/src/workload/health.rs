//! Whether a workload that runs is healthy: heartbeats and the health command.

use crate::system_conf::Workload;

/// What is known of a ready workload's health; times in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Monitor {
    /// Last newline on the readiness descriptor.
    last_beat: u64,
    /// When the next health command is due.
    next_check: u64,
    /// Health commands that failed in a row.
    failures: u32,
}

impl Monitor {
    /// The workload became ready at `now`.
    pub fn ready(workload: &Workload, now: u64) -> Monitor {
        Monitor {
            last_beat: now,
            next_check: workload.health.as_ref().map_or(u64::MAX, |h| now + h.interval),
            failures: 0,
        }
    }

    /// It gave a sign of life.
    pub fn beat(&mut self, now: u64) {
        self.last_beat = now;
    }

    /// It has been silent for longer than its heartbeat allows.
    pub fn is_silent(&self, workload: &Workload, now: u64) -> bool {
        workload.heartbeat.is_some_and(|most| now.saturating_sub(self.last_beat) > most)
    }

    /// The health command should be started.
    pub fn check_is_due(&self, now: u64) -> bool {
        now >= self.next_check
    }

    /// The health command was started: none is due until it ended.
    pub fn check_started(&mut self) {
        self.next_check = u64::MAX;
    }

    /// The health command ended. True when the workload has now failed too often.
    pub fn check_ended(&mut self, workload: &Workload, success: bool, now: u64) -> bool {
        let Some(health) = &workload.health else { return false };
        self.next_check = now + health.interval;
        self.failures = if success { 0 } else { self.failures.saturating_add(1) };
        self.failures >= health.retries
    }

    /// When this has to be looked at again.
    pub fn deadline(&self, workload: &Workload) -> Option<u64> {
        let beat = workload.heartbeat.map(|most| self.last_beat.saturating_add(most) + 1);
        let check = (self.next_check != u64::MAX).then_some(self.next_check);
        [beat, check].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_conf::{self, tests::*};

    fn workload(extra: &str) -> Workload {
        let text = with(&format!("[workload x]\n{PLAIN}{extra}"));
        system_conf::System::parse(text.as_bytes()).unwrap().workloads.remove(0)
    }

    #[test]
    fn a_missed_heartbeat_is_noticed_right_after_its_time() {
        let workload = workload("heartbeat 10\n");
        let mut monitor = Monitor::ready(&workload, 5_000);
        assert_eq!(monitor.deadline(&workload), Some(15_001));
        assert!(!monitor.is_silent(&workload, 15_000));
        assert!(monitor.is_silent(&workload, 15_001));
        monitor.beat(14_000);
        assert!(!monitor.is_silent(&workload, 24_000));
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let workload =
            workload("health-command /x\nhealth-interval 10\nhealth-timeout 5\nhealth-retries 2\n");
        let mut monitor = Monitor::ready(&workload, 0);
        assert!(!monitor.check_is_due(9_999) && monitor.check_is_due(10_000));
        monitor.check_started();
        assert!(!monitor.check_is_due(1_000_000), "one check at a time");
        assert!(!monitor.check_ended(&workload, false, 11_000));
        assert!(!monitor.check_ended(&workload, true, 21_000));
        assert!(!monitor.check_ended(&workload, false, 31_000));
        assert!(monitor.check_ended(&workload, false, 41_000));
    }

    #[test]
    fn a_workload_without_checks_needs_no_look() {
        let workload = workload("");
        let monitor = Monitor::ready(&workload, 7);
        assert_eq!(monitor.deadline(&workload), None);
        assert!(!monitor.is_silent(&workload, u64::MAX));
        assert!(!monitor.check_is_due(u64::MAX - 1));
    }
}
