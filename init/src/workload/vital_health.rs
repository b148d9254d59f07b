//! What a workload's state means for the board: is it well, on its way, held up, or lost?

use super::state_machine::State;
use crate::system_conf::{Provision, Workload};

/// How one workload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VitalHealth {
    /// Ready and healthy, or has done what it was to do.
    Healthy,
    /// Not running for a reason that a reset would not change: no cable, a person's order, a long
    /// file system check.
    Blocked(&'static str),
    /// On its way (back) to ready; that may last until `dead_at`.
    Recovering {
        /// When patience ends.
        dead_at: u64,
        /// Its old process outlives being killed.
        stuck: bool,
    },
    /// Has used up its chances.
    Dead,
}

/// Why a workload that is `Waiting` waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing is missing.
    Nothing,
    /// `/data`, which is still being checked and mounted.
    Data,
    /// `/data`, which cannot be had.
    NoData,
    /// An address.
    Network,
    /// Another workload, by index.
    Workload(usize),
    /// Something in the device's settings, or the device for it.
    Provision(Provision),
    /// Its turn: the vital workloads go first.
    Turn,
}

/// What of a workload's past decides how it stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    /// When it last ceased to be ready (or was first wanted).
    pub since: u64,
    /// The exit status of its last run was 0.
    pub ended_well: bool,
    /// Its process was killed again and again and is still there.
    pub stuck: bool,
}

/// How a workload stands.
pub fn of(workload: &Workload, state: State, need: Need, past: Past) -> VitalHealth {
    let Past { since, ended_well, stuck } = past;
    match (state, need) {
        (State::Ready, _) => VitalHealth::Healthy,
        (State::Finished, _) if ended_well => VitalHealth::Healthy,
        (State::Finished | State::Failed, _) => VitalHealth::Dead,
        (State::Stopped, _) => VitalHealth::Blocked("stopped"),
        (State::Waiting, Need::Data) => VitalHealth::Blocked("waits for the data partition"),
        (State::Waiting, Need::Network) => VitalHealth::Blocked("waits for an address"),
        (State::Waiting, Need::Provision(_)) => {
            VitalHealth::Blocked("waits for the device's settings")
        }
        (State::Waiting, Need::Workload(_)) => VitalHealth::Blocked("waits for another workload"),
        (State::Waiting, Need::Turn) => VitalHealth::Blocked("waits for its turn"),
        _ => VitalHealth::Recovering {
            dead_at: since.saturating_add(recovery_timeout(workload)),
            stuck,
        },
    }
}

/// The longest time between leaving `ready` and being ready again that is nobody's fault: the old
/// process may take its time to stop, the back-off delay passes, the new one gets ready.
fn recovery_timeout(workload: &Workload) -> u64 {
    const MARGIN: u64 = 10_000;
    workload.stop_timeout + workload.limits.longest + workload.ready_timeout + MARGIN
}

/// What all vital workloads together mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every one is ready and healthy.
    Healthy,
    /// None is broken, but this one is not healthy now; the reason why.
    Recovering(String),
    /// Like `Recovering`, but only on things that are no fault of the version that runs.
    Blocked(String),
    /// This one has used up its chances. What follows is [`crate::boot_state::assessment`]'s to say.
    Dead(String),
    /// Like `Dead`, of a process that nothing can kill: the kernel or a driver holds it.
    Stuck(String),
}

/// Judges the vital workloads: `(name, its health, its state's word and reason)`.
pub fn judge<'a>(vital: impl Iterator<Item = (&'a str, VitalHealth, String)>, now: u64) -> Verdict {
    let mut verdict = Verdict::Healthy;
    for (name, health, detail) in vital {
        let text = |why: &str| [name, " ", why].concat();
        match health {
            VitalHealth::Healthy => {}
            VitalHealth::Dead => return Verdict::Dead(text(&detail)),
            VitalHealth::Recovering { dead_at, stuck } if now >= dead_at => {
                return if stuck {
                    Verdict::Stuck(text(&detail))
                } else {
                    Verdict::Dead(text(&detail))
                };
            }
            VitalHealth::Recovering { .. } => verdict = Verdict::Recovering(text(&detail)),
            VitalHealth::Blocked(why) => {
                if verdict == Verdict::Healthy {
                    verdict = Verdict::Blocked(text(why));
                }
            }
        }
    }
    verdict
}

impl Verdict {
    /// Why not every vital workload is healthy; empty if they are.
    pub fn reason(&self) -> &str {
        match self {
            Verdict::Healthy => "",
            Verdict::Recovering(why)
            | Verdict::Blocked(why)
            | Verdict::Dead(why)
            | Verdict::Stuck(why) => why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_conf::{self, tests::*};
    use crate::workload::state_machine::STATES;

    fn workload() -> Workload {
        let text = with(&format!("[workload x]\n{PLAIN}"));
        system_conf::System::parse(text.as_bytes()).unwrap().workloads.remove(0)
    }

    fn verdict(state: State, need: Need, since: u64, now: u64) -> Verdict {
        let health = of(&workload(), state, need, Past { since, ..Past::default() });
        judge([("x", health, state.word().to_string())].into_iter(), now)
    }

    #[test]
    fn a_normal_restart_is_no_loss() {
        // stop 10 s + back-off 60 s + ready 30 s after it was last ready.
        for state in [State::Recycling, State::BackOff, State::Starting] {
            let verdict = verdict(state, Need::Nothing, 1_000, 101_000);
            assert!(matches!(verdict, Verdict::Recovering(_)), "{state:?}: {verdict:?}");
        }
    }

    #[test]
    fn a_process_that_outlives_being_killed_is_told_apart() {
        let past = Past { since: 1_000, stuck: true, ..Past::default() };
        let health = of(&workload(), State::Recycling, Need::Nothing, past);
        let all = || [("x", health.clone(), "unhealthy".to_string())].into_iter();
        assert_eq!(judge(all(), 101_000), Verdict::Recovering("x unhealthy".into()));
        assert_eq!(judge(all(), 111_000), Verdict::Stuck("x unhealthy".into()));
    }

    #[test]
    fn a_vital_workload_that_never_comes_back_is_lost() {
        let lost = |verdict| matches!(verdict, Verdict::Dead(_));
        for state in [State::Recycling, State::BackOff, State::Starting] {
            assert!(lost(verdict(state, Need::Nothing, 1_000, 111_000)), "{state:?}");
        }
        assert!(lost(verdict(State::Failed, Need::Nothing, 1_000, 1_000)));
        assert!(lost(verdict(State::Waiting, Need::NoData, 0, 200_000)));
    }

    #[test]
    fn a_missing_cable_or_a_persons_order_is_no_loss() {
        let held = verdict(State::Waiting, Need::Network, 0, u64::MAX);
        assert_eq!(held, Verdict::Blocked("x waits for an address".into()));
        let stopped = verdict(State::Stopped, Need::Nothing, 0, u64::MAX);
        assert_eq!(stopped, Verdict::Blocked("x stopped".into()));
    }

    #[test]
    fn every_state_other_than_ready_has_a_reason() {
        for state in STATES {
            let verdict = verdict(state, Need::Nothing, 0, 5);
            assert_eq!(verdict.reason().is_empty(), state == State::Ready, "{state:?}");
        }
    }

    #[test]
    fn the_worst_workload_decides() {
        let all = [
            ("a", VitalHealth::Blocked("waits"), String::new()),
            ("b", VitalHealth::Dead, "failed".to_string()),
            ("c", VitalHealth::Healthy, String::new()),
        ];
        assert_eq!(judge(all.into_iter(), 0), Verdict::Dead("b failed".into()));
    }
}
