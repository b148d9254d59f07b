//! What a workload's state means for the board: is it well, on its way, held up, or lost?

use super::table::State;
use crate::system_conf::{Provision, Workload};

/// How one workload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Ready and healthy, or has done what it was to do.
    Healthy,
    /// Not running for a reason that a reset would not change: no cable, a person's order, a long
    /// file system check.
    Held(&'static str),
    /// On its way (back) to ready; that may last until `lost_at`.
    Coming {
        /// When patience ends.
        lost_at: u64,
        /// Its old process outlives being killed.
        stuck: bool,
    },
    /// Has used up its chances.
    Lost,
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
pub fn of(workload: &Workload, state: State, need: Need, past: Past) -> Standing {
    let Past { since, ended_well, stuck } = past;
    match (state, need) {
        (State::Ready, _) => Standing::Healthy,
        (State::Finished, _) if ended_well => Standing::Healthy,
        (State::Finished | State::Failed, _) => Standing::Lost,
        (State::Stopped, _) => Standing::Held("stopped"),
        (State::Waiting, Need::Data) => Standing::Held("waits for the data partition"),
        (State::Waiting, Need::Network) => Standing::Held("waits for an address"),
        (State::Waiting, Need::Provision(_)) => Standing::Held("waits for the device's settings"),
        (State::Waiting, Need::Workload(_)) => Standing::Held("waits for another workload"),
        (State::Waiting, Need::Turn) => Standing::Held("waits for its turn"),
        _ => Standing::Coming { lost_at: since.saturating_add(patience(workload)), stuck },
    }
}

/// The longest time between leaving `ready` and being ready again that is nobody's fault: the old
/// process may take its time to stop, the back-off delay passes, the new one gets ready.
fn patience(workload: &Workload) -> u64 {
    const MARGIN: u64 = 10_000;
    workload.stop_timeout + workload.limits.longest + workload.ready_timeout + MARGIN
}

/// What all vital workloads together mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every one is ready and healthy.
    Healthy,
    /// None is broken, but this one is not healthy now; the reason why.
    Waiting(String),
    /// Like `Waiting`, but only on things that are no fault of the version that runs.
    Held(String),
    /// This one has used up its chances. What follows is [`crate::trial`]'s to say.
    Lost(String),
    /// Like `Lost`, of a process that nothing can kill: the kernel or a driver holds it.
    Stuck(String),
}

/// Judges the vital workloads: `(name, its standing, its state's word and reason)`.
pub fn judge<'a>(vital: impl Iterator<Item = (&'a str, Standing, String)>, now: u64) -> Verdict {
    let mut verdict = Verdict::Healthy;
    for (name, standing, detail) in vital {
        let text = |why: &str| [name, " ", why].concat();
        match standing {
            Standing::Healthy => {}
            Standing::Lost => return Verdict::Lost(text(&detail)),
            Standing::Coming { lost_at, stuck } if now >= lost_at => {
                return if stuck {
                    Verdict::Stuck(text(&detail))
                } else {
                    Verdict::Lost(text(&detail))
                };
            }
            Standing::Coming { .. } => verdict = Verdict::Waiting(text(&detail)),
            Standing::Held(why) => {
                if verdict == Verdict::Healthy {
                    verdict = Verdict::Held(text(why));
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
            Verdict::Waiting(why)
            | Verdict::Held(why)
            | Verdict::Lost(why)
            | Verdict::Stuck(why) => why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_conf::{self, tests::*};
    use crate::workload::table::STATES;

    fn workload() -> Workload {
        let text = with(&format!("[workload x]\n{PLAIN}"));
        system_conf::System::parse(text.as_bytes()).unwrap().workloads.remove(0)
    }

    fn verdict(state: State, need: Need, since: u64, now: u64) -> Verdict {
        let standing = of(&workload(), state, need, Past { since, ..Past::default() });
        judge([("x", standing, state.word().to_string())].into_iter(), now)
    }

    #[test]
    fn a_normal_restart_is_no_loss() {
        // stop 10 s + back-off 60 s + ready 30 s after it was last ready.
        for state in [State::Recycling, State::BackOff, State::Starting] {
            let verdict = verdict(state, Need::Nothing, 1_000, 101_000);
            assert!(matches!(verdict, Verdict::Waiting(_)), "{state:?}: {verdict:?}");
        }
    }

    #[test]
    fn a_process_that_outlives_being_killed_is_told_apart() {
        let past = Past { since: 1_000, stuck: true, ..Past::default() };
        let standing = of(&workload(), State::Recycling, Need::Nothing, past);
        let all = || [("x", standing.clone(), "unhealthy".to_string())].into_iter();
        assert_eq!(judge(all(), 101_000), Verdict::Waiting("x unhealthy".into()));
        assert_eq!(judge(all(), 111_000), Verdict::Stuck("x unhealthy".into()));
    }

    #[test]
    fn a_vital_workload_that_never_comes_back_is_lost() {
        let lost = |verdict| matches!(verdict, Verdict::Lost(_));
        for state in [State::Recycling, State::BackOff, State::Starting] {
            assert!(lost(verdict(state, Need::Nothing, 1_000, 111_000)), "{state:?}");
        }
        assert!(lost(verdict(State::Failed, Need::Nothing, 1_000, 1_000)));
        assert!(lost(verdict(State::Waiting, Need::NoData, 0, 200_000)));
    }

    #[test]
    fn a_missing_cable_or_a_persons_order_is_no_loss() {
        let held = verdict(State::Waiting, Need::Network, 0, u64::MAX);
        assert_eq!(held, Verdict::Held("x waits for an address".into()));
        let stopped = verdict(State::Stopped, Need::Nothing, 0, u64::MAX);
        assert_eq!(stopped, Verdict::Held("x stopped".into()));
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
            ("a", Standing::Held("waits"), String::new()),
            ("b", Standing::Lost, "failed".to_string()),
            ("c", Standing::Healthy, String::new()),
        ];
        assert_eq!(judge(all.into_iter(), 0), Verdict::Lost("b failed".into()));
    }
}
