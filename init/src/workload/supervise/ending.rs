//! How a workload's processes end, and what is kept of that.

use rustix::process::{Pid, WaitStatus};

use super::Unit;
use crate::printable;
use crate::workload::state_machine::{Ending, Event, State};

impl Unit {
    pub(super) fn on_exit(&mut self, pid: Pid, status: WaitStatus, now: u64) -> bool {
        if self.pid() == Some(pid) {
            let (success, mut reason) = explain(status);
            // Whoever kills it does not ask it: what it said last is not why.
            if matches!(status.terminating_signal(), Some(libc::SIGKILL | libc::SIGTERM)) {
                self.said_from = u64::MAX;
            }
            self.on_start(now);
            if !self.start_error.is_empty() {
                reason = String::from_utf8_lossy(&self.start_error).into_owned();
            }
            self.ended(success, &reason, now);
            return true;
        }
        if self.check.as_ref().is_some_and(|(check, _)| check.pid == pid) {
            self.on_check_output(now);
            self.check = None;
            self.end_check();
            let (success, reason) = explain(status);
            self.check_ended(success, &["health command: ", &reason].concat(), now);
            return true;
        }
        false
    }

    /// It fails now: what it said last may be why. A line that begins with a brace is one of its
    /// results, which tells nothing of that and is nobody else's business.
    pub(super) fn keep_last_line(&mut self) {
        self.last_line = printable::plain(&self.ring.last_line(self.said_from));
        if self.last_line.starts_with('{') {
            self.last_line.clear();
        }
    }

    /// The main process ended (or could not be started).
    pub(super) fn ended(&mut self, success: bool, reason: &str, now: u64) {
        let ready_for = self.ready_at.map_or(0, |at| now - at);
        let recycled = self.state == State::Recycling;
        let clean = success && !recycled;
        let why = if recycled { std::mem::take(&mut self.reason) } else { reason.to_string() };
        self.ended_well = clean;
        let ending =
            self.history.ended(self.conf.restart, &self.conf.limits, clean, ready_for, now);
        match self.state {
            // What it said before it was asked to end is what counts.
            State::Recycling => {}
            State::Starting | State::Ready if !clean || ending != Ending::Finished => {
                self.take_last_output(now);
                self.keep_last_line();
            }
            _ => self.last_line.clear(),
        }
        self.event(Event::Ended(ending), &why, now);
    }
}

/// Whether a process ended well, and how, in words.
fn explain(status: WaitStatus) -> (bool, String) {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code == 0, ["exit status ", &code.to_string()].concat()),
        (None, Some(signal)) => (false, ["killed by signal ", &signal.to_string()].concat()),
        (None, None) => (false, "ended".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_conf::{self, tests::*};
    use crate::workload::supervise::Supervisor;
    use crate::workload::vital_health::Verdict;

    fn supervisor() -> Supervisor {
        let vital = PLAIN.replace("vital no", "vital yes");
        let text = with(&format!("[workload face]\n{vital}"));
        let workloads = system_conf::System::parse(text.as_bytes()).unwrap().workloads;
        Supervisor::new(workloads, 0)
    }

    /// A process of it that says this and ends.
    fn ends(unit: &mut Unit, says: &str, success: bool, reason: &str) {
        unit.state = State::Starting;
        unit.said_from = unit.ring.end();
        unit.ring.push(says.as_bytes());
        unit.ended(success, reason, 1_000);
    }

    #[test]
    fn what_a_workload_said_last_stands_beside_how_it_ended() {
        let mut all = supervisor();
        let unit = &mut all.units[0];
        let says = "starts\n\x1b[31mrunner: model.toml: no key `widht`\x1b[0m\n";
        ends(unit, says, false, "exit status 2");
        let wanted = "back-off (exit status 2): runner: model.toml: no key `widht`";
        assert_eq!(unit.detail(), wanted);
        // It is told on the way to the next start, and forgotten once that went well.
        unit.event(Event::Timer, "", 2_000);
        assert_eq!(unit.detail(), "waiting; last time: runner: model.toml: no key `widht`");
        let verdict = all.verdict(2_000);
        assert!(
            matches!(&verdict, Verdict::Recovering(why) if why.contains("widht")),
            "{verdict:?}"
        );
        let unit = &mut all.units[0];
        unit.state = State::Starting;
        unit.event(Event::Notified, "", 3_000);
        assert_eq!(unit.detail(), "ready");
    }

    #[test]
    fn the_reason_of_a_reset_has_what_the_workload_said() {
        let mut all = supervisor();
        for _ in 0..5 {
            ends(&mut all.units[0], "face: no camera\n", false, "exit status 1");
        }
        let reason = "face failed (exit status 1): face: no camera";
        assert_eq!(all.verdict(1_000), Verdict::Dead(reason.into()));
    }

    #[test]
    fn a_process_that_says_nothing_has_nothing_of_the_one_before() {
        let mut all = supervisor();
        ends(&mut all.units[0], "face: no camera\n", false, "exit status 1");
        ends(&mut all.units[0], "", false, "killed by signal 9");
        assert_eq!(all.units[0].detail(), "back-off (killed by signal 9)");
    }

    #[test]
    fn a_result_is_no_reason() {
        let mut all = supervisor();
        ends(&mut all.units[0], "{\"source\":\"/in/anna.jpg\"}\n", false, "exit status 1");
        assert_eq!(all.units[0].detail(), "back-off (exit status 1)");
    }

    #[test]
    fn what_is_said_while_it_is_ended_hides_nothing() {
        let mut all = supervisor();
        let unit = &mut all.units[0];
        unit.state = State::Ready;
        unit.ring.push(b"no frame for 10 s\n");
        unit.keep_last_line();
        unit.event(Event::HealthLost, "no heartbeat", 1_000);
        unit.ring.push(b"bye\n");
        unit.ended(true, "exit status 0", 2_000);
        assert_eq!(unit.detail(), "back-off (no heartbeat): no frame for 10 s");
        unit.event(Event::AskStop, "asked", 3_000);
        assert_eq!(unit.detail(), "stopped (asked)");
    }
}
