//! The life of a workload as a table: state × event → next state and what to do about it.
//!
//! Nothing here touches a process or reads a clock: `supervise` feeds events in and carries the
//! actions out, so every path through a workload's life can be walked in a test.

/// Where a workload is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Something it needs (data, network, another workload) is not there yet.
    Waiting,
    /// Its process runs and has not said that it is ready.
    Starting,
    /// Its process runs and is ready.
    Ready,
    /// Being ended because it failed its health check or was not ready in time.
    Recycling,
    /// Being ended because somebody asked for a restart.
    Restarting,
    /// Being ended because somebody asked for a stop, or the device shuts down.
    Stopping,
    /// Ended by itself; starts again when its delay is over.
    BackOff,
    /// Spent its crash budget; tried again only after a long delay.
    Failed,
    /// Ended by itself and is not to be started again.
    Finished,
    /// Stopped on request.
    Stopped,
}

/// What can happen to a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All it waits for is there.
    NeedsMet,
    /// It said that it is ready.
    Notified,
    /// The deadline that was armed last has passed.
    Timer,
    /// It failed its health check often enough.
    HealthLost,
    /// Its main process is gone.
    Ended(Ending),
    /// `ctl start`.
    AskStart,
    /// `ctl stop`, or the device shuts down.
    AskStop,
    /// `ctl restart`.
    AskRestart,
}

/// What the restart policy makes of a process that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It need not run again.
    Finished,
    /// It is started again after a delay.
    Again,
    /// It has crashed too often.
    Spent,
}

/// What `supervise` has to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the process.
    Spawn,
    /// Send SIGTERM to the main process.
    Term,
    /// Kill every process of its control group.
    Kill,
    /// Kill what the main process left behind, close its pipes.
    Sweep,
    /// Arm the deadline: it must be ready by then.
    ArmReady,
    /// Arm the deadline: it must have ended by then, or is killed.
    ArmStop,
    /// Arm the deadline: look again soon whether the kill worked.
    ArmKill,
    /// Arm the deadline: start again after the back-off delay.
    ArmBackOff,
    /// Arm the deadline: try a failed workload again.
    ArmFailed,
    /// No deadline.
    Disarm,
    /// A person wants it to run: its crashes no longer count.
    Forgive,
}

/// All states, for tests and for listing.
#[cfg(test)]
pub const STATES: [State; 10] = [
    State::Waiting,
    State::Starting,
    State::Ready,
    State::Recycling,
    State::Restarting,
    State::Stopping,
    State::BackOff,
    State::Failed,
    State::Finished,
    State::Stopped,
];

impl State {
    /// The word people read on the console and in `ctl status`.
    pub fn word(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Recycling => "unhealthy",
            State::Restarting => "restarting",
            State::Stopping => "stopping",
            State::BackOff => "back-off",
            State::Failed => "failed",
            State::Finished => "finished",
            State::Stopped => "stopped",
        }
    }

    /// Whether a main process exists in this state.
    pub fn has_process(self) -> bool {
        matches!(
            self,
            State::Starting | State::Ready | State::Recycling | State::Restarting | State::Stopping
        )
    }
}

/// One step: from `state`, on `event`, to the returned state, after which the actions are done in
/// order. An event that means nothing in a state leaves it as it is, with nothing to do.
pub fn step(state: State, event: Event) -> (State, &'static [Action]) {
    use Action::*;
    use Ending as E;
    use Event as Ev;
    use State as S;
    match (state, event) {
        (S::Waiting, Ev::NeedsMet) => (S::Starting, &[ArmReady, Spawn]),
        (S::Waiting, Ev::AskStop) => (S::Stopped, &[Disarm]),

        (S::Starting, Ev::Notified) => (S::Ready, &[Disarm]),
        (S::Starting, Ev::Timer) => (S::Recycling, &[Term, ArmStop]),
        (S::Ready, Ev::HealthLost) => (S::Recycling, &[Term, ArmStop]),
        (S::Starting | S::Ready, Ev::AskStop) => (S::Stopping, &[Term, ArmStop]),
        (S::Starting | S::Ready, Ev::AskRestart) => (S::Restarting, &[Term, ArmStop]),
        (S::Starting | S::Ready | S::Recycling, Ev::Ended(ending)) => match ending {
            E::Finished => (S::Finished, &[Sweep, Disarm]),
            E::Again => (S::BackOff, &[Sweep, ArmBackOff]),
            E::Spent => (S::Failed, &[Sweep, ArmFailed]),
        },

        (S::Recycling | S::Restarting | S::Stopping, Ev::Timer) => (state, &[Kill, ArmKill]),
        (S::Recycling, Ev::AskRestart) => (S::Restarting, &[]),
        (S::Recycling | S::Restarting, Ev::AskStop) => (S::Stopping, &[]),
        (S::Stopping, Ev::AskStart | Ev::AskRestart) => (S::Restarting, &[]),
        (S::Restarting, Ev::Ended(_)) => (S::Waiting, &[Sweep, Disarm, Forgive]),
        (S::Stopping, Ev::Ended(_)) => (S::Stopped, &[Sweep, Disarm]),

        (S::BackOff | S::Failed, Ev::Timer) => (S::Waiting, &[Disarm]),
        (S::BackOff | S::Failed | S::Finished | S::Stopped, Ev::AskStart | Ev::AskRestart) => {
            (S::Waiting, &[Disarm, Forgive])
        }
        (S::BackOff | S::Failed | S::Finished, Ev::AskStop) => (S::Stopped, &[Disarm]),

        _ => (state, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENTS: [Event; 10] = [
        Event::NeedsMet,
        Event::Notified,
        Event::Timer,
        Event::HealthLost,
        Event::Ended(Ending::Finished),
        Event::Ended(Ending::Again),
        Event::Ended(Ending::Spent),
        Event::AskStart,
        Event::AskStop,
        Event::AskRestart,
    ];

    #[test]
    fn a_crash_leads_back_to_ready_through_back_off() {
        let path = [
            (Event::NeedsMet, State::Starting),
            (Event::Notified, State::Ready),
            (Event::Ended(Ending::Again), State::BackOff),
            (Event::Timer, State::Waiting),
            (Event::NeedsMet, State::Starting),
            (Event::Notified, State::Ready),
        ];
        let mut state = State::Waiting;
        for (event, wanted) in path {
            state = step(state, event).0;
            assert_eq!(state, wanted, "after {event:?}");
        }
    }

    #[test]
    fn a_workload_that_is_not_ready_in_time_is_termed_then_killed_then_retried() {
        let (state, actions) = step(State::Starting, Event::Timer);
        assert_eq!((state, actions), (State::Recycling, &[Action::Term, Action::ArmStop][..]));
        let (state, actions) = step(state, Event::Timer);
        assert_eq!((state, actions), (State::Recycling, &[Action::Kill, Action::ArmKill][..]));
        let (state, _) = step(state, Event::Ended(Ending::Again));
        assert_eq!(state, State::BackOff);
    }

    #[test]
    fn a_stop_that_comes_during_a_recycle_wins() {
        let (state, _) = step(State::Recycling, Event::AskStop);
        assert_eq!(state, State::Stopping);
        assert_eq!(step(state, Event::Ended(Ending::Again)).0, State::Stopped);
    }

    #[test]
    fn a_start_that_comes_during_a_stop_is_not_lost() {
        let (state, _) = step(State::Stopping, Event::AskStart);
        assert_eq!(step(state, Event::Ended(Ending::Finished)).0, State::Waiting);
    }

    #[test]
    fn every_state_has_a_way_out_and_a_way_to_ready() {
        for start in STATES {
            assert!(
                EVENTS.iter().any(|event| step(start, *event).0 != start),
                "{start:?} has no exit"
            );
            let mut reached = vec![start];
            let mut next = 0;
            while next < reached.len() {
                for event in EVENTS {
                    let to = step(reached[next], event).0;
                    if !reached.contains(&to) {
                        reached.push(to);
                    }
                }
                next += 1;
            }
            assert!(reached.contains(&State::Ready), "{start:?} never gets ready");
            assert!(reached.contains(&State::Stopped), "{start:?} cannot be stopped");
        }
    }

    proptest! {
        /// Walks the table at random beside a model of the process: it is spawned only when there
        /// is none, ends are swept, and a state that waits for a process to go has a deadline.
        #[test]
        fn a_process_exists_exactly_in_the_states_that_say_so(
            walk in proptest::collection::vec(0..EVENTS.len(), 1..200),
        ) {
            let (mut state, mut process, mut deadline) = (State::Waiting, false, false);
            for choice in walk {
                let event = EVENTS[choice];
                let possible = match event {
                    Event::Ended(_) | Event::Notified | Event::HealthLost => process,
                    Event::Timer => deadline,
                    _ => true,
                };
                if !possible {
                    continue;
                }
                if matches!(event, Event::Ended(_)) {
                    process = false;
                }
                let (next, actions) = step(state, event);
                for action in actions {
                    match action {
                        Action::Spawn => {
                            prop_assert!(!process, "second process in {state:?}");
                            process = true;
                        }
                        Action::Term | Action::Kill => prop_assert!(process),
                        Action::Sweep => prop_assert!(!process),
                        Action::Disarm => deadline = false,
                        Action::Forgive => {}
                        _ => deadline = true,
                    }
                }
                state = next;
                prop_assert_eq!(process, state.has_process(), "in {:?}", state);
                let timed = !matches!(
                    state,
                    State::Waiting | State::Ready | State::Finished | State::Stopped
                );
                prop_assert_eq!(deadline, timed, "deadline in {:?}", state);
            }
        }
    }
}
