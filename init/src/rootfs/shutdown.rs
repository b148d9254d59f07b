//! The way down: workloads in reverse dependency order, then everything else, then the disk.

use crate::workload::state_machine::{Event, State};
use crate::workload::supervise::Supervisor;

/// The workloads together get no longer than this; the watchdog is still fed meanwhile.
const LONGEST: u64 = 60_000;
/// After a board-wide kill, the kernel gets so long to take the processes down.
const KILL_WAIT: u64 = 2_000;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Reset.
    Reboot,
    /// Power off.
    PowerOff,
}

/// A shutdown under way.
#[derive(Debug)]
pub struct Shutdown {
    /// How it ends.
    pub end: End,
    kill_at: u64,
    over_at: u64,
}

impl Shutdown {
    /// Starts at `now`.
    pub fn new(end: End, now: u64) -> Shutdown {
        Shutdown { end, kill_at: now + LONGEST, over_at: now + LONGEST + KILL_WAIT }
    }

    /// Asks those workloads to stop that nobody running depends on. True when all have ended, or
    /// their time is over.
    pub fn step(&mut self, supervisor: &mut Supervisor, now: u64) -> bool {
        let facts: Vec<(bool, &[usize])> = supervisor
            .units
            .iter()
            .map(|unit| (unit.state.has_process(), &unit.conf.after[..]))
            .collect();
        for index in stoppable(&facts) {
            if supervisor.units[index].state != State::Stopping {
                supervisor.ask(index, Event::AskStop, now);
            }
        }
        if now >= self.kill_at {
            supervisor.kill_all();
        }
        now >= self.over_at || supervisor.units.iter().all(|unit| !unit.state.has_process())
    }

    /// The watchdog is fed for as long as an orderly end can take, and then no longer: a shutdown
    /// that hangs ends in a reset.
    pub fn may_feed(&self, now: u64) -> bool {
        now < self.over_at + LONGEST
    }

    /// When to look again although nothing happened.
    pub fn next_look(&self, now: u64) -> u64 {
        if now < self.kill_at { self.kill_at } else { self.over_at.min(now + 100) }
    }
}

/// Which workloads may stop now: `(runs, those it comes after)` each. One that runs keeps all it
/// came after from stopping. In a circle, nobody would ever stop: then all may.
fn stoppable(units: &[(bool, &[usize])]) -> Vec<usize> {
    let needed = |index: usize| {
        units
            .iter()
            .enumerate()
            .any(|(other, (runs, after))| *runs && other != index && after.contains(&index))
    };
    let free: Vec<usize> = (0..units.len()).filter(|i| !needed(*i)).collect();
    if free.iter().any(|i| units[*i].0) {
        return free;
    }
    (0..units.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_stops_only_after_those_that_came_after_it() {
        // 0 ← 1 ← 2, and 3 alone.
        let after: [&[usize]; 4] = [&[], &[0], &[1], &[]];
        let with = |runs: [bool; 4]| {
            let units: Vec<_> = runs.into_iter().zip(after).collect();
            stoppable(&units)
        };
        assert_eq!(with([true, true, true, true]), [2, 3]);
        assert_eq!(with([true, true, false, false]), [1, 2, 3]);
        assert_eq!(with([true, false, false, false]), [0, 1, 2, 3]);
    }

    #[test]
    fn a_circle_still_stops() {
        let units: [(bool, &[usize]); 2] = [(true, &[1]), (true, &[0])];
        assert_eq!(stoppable(&units), [0, 1]);
    }
}
