//! The vital workloads go first. On a small board their start and their first results take all the
//! processor there is, so what none of them waits for is held back until they are at work, though
//! not for long: a workload that never gets well must not keep the network off.

use crate::system_conf::Workload;

/// Milliseconds between all vital workloads being healthy and the others' turn: who has just become
/// ready has its first work to do.
const FIRST_WORK: u64 = 500;
/// Milliseconds after which the others have their turn in any case.
const LONGEST: u64 = 2_000;

/// Which workloads go first: the vital ones, and those that one of them starts after.
pub fn first(workloads: &[Workload]) -> Vec<bool> {
    let mut first: Vec<bool> = workloads.iter().map(|workload| workload.vital).collect();
    // A workload is looked at once for each time it is found, so a circle ends as well.
    let mut found: Vec<usize> = (0..first.len()).filter(|index| first[*index]).collect();
    while let Some(index) = found.pop() {
        for before in &workloads[index].after {
            if !std::mem::replace(&mut first[*before], true) {
                found.push(*before);
            }
        }
    }
    first
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupGate {
    /// The vital workloads start; whatever they do, everybody's turn comes at `latest`.
    Starting {
        /// Milliseconds of uptime.
        latest: u64,
    },
    /// The vital workloads are healthy and work until everybody's turn comes.
    Working {
        /// Milliseconds of uptime.
        until: u64,
    },
    /// Everybody's.
    Over,
}

impl StartupGate {
    /// The vital workloads' turn, which begins now.
    pub fn begin(now: u64) -> StartupGate {
        StartupGate::Starting { latest: now.saturating_add(LONGEST) }
    }

    /// Takes whether all vital workloads are healthy. True once: when everybody's turn has come.
    pub fn step(&mut self, healthy: bool, now: u64) -> bool {
        if let (StartupGate::Starting { latest }, true) = (*self, healthy) {
            let until = now.saturating_add(FIRST_WORK).min(latest);
            *self = StartupGate::Working { until };
        }
        let came = self.deadline().is_some_and(|at| now >= at);
        if came {
            *self = StartupGate::Over;
        }
        came
    }

    /// When to look again although nothing happened.
    pub fn deadline(self) -> Option<u64> {
        match self {
            StartupGate::Starting { latest: at } | StartupGate::Working { until: at } => Some(at),
            StartupGate::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_conf::{self, tests::*};

    #[test]
    fn what_a_vital_workload_starts_after_goes_first_with_it() {
        let vital = PLAIN.replace("vital no", "vital yes");
        let text = with(&format!(
            "[workload a]\n{PLAIN}after b\n[workload b]\n{PLAIN}after c\n\
             [workload c]\n{PLAIN}after b\n[workload d]\n{vital}after b\n[workload e]\n{PLAIN}after d\n"
        ));
        let workloads = system_conf::System::parse(text.as_bytes()).unwrap().workloads;
        assert_eq!(first(&workloads), [false, true, true, true, false]);
        assert_eq!(first(&workloads[..3]), [false; 3]);
    }

    #[test]
    fn the_others_follow_when_the_vital_workloads_have_done_their_first_work() {
        let mut turn = StartupGate::begin(1_000);
        assert!(!turn.step(false, 1_300));
        assert!(!turn.step(true, 1_400));
        assert_eq!(turn.deadline(), Some(1_900));
        // Falling ill again is no reason to wait longer.
        assert!(!turn.step(false, 1_899));
        assert!(turn.step(false, 1_900));
        assert_eq!(turn.deadline(), None);
        assert!(!turn.step(true, 9_000));
    }

    #[test]
    fn a_vital_workload_that_never_gets_well_holds_nobody_back_for_long() {
        let mut turn = StartupGate::begin(1_000);
        assert_eq!(turn.deadline(), Some(3_000));
        assert!(!turn.step(false, 2_999));
        assert!(turn.step(false, 3_000));
        let mut late = StartupGate::begin(1_000);
        assert!(!late.step(true, 2_900));
        assert!(late.step(true, 3_000));
    }
}
