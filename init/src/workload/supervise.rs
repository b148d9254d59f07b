//! Ties a workload's parts together: turns what the kernel reports into events of the table and
//! carries its actions out. Never waits; a failed system call is survived and tried again later.

mod ending;
mod pipes;

use std::os::fd::{AsFd, BorrowedFd};

use formats::control::status::detail;
use rustix::process::{Pid, Signal, WaitStatus, kill_process};

use self::pipes::Flows;
pub use self::pipes::Pipe;
use super::cgroup::Cgroup;
use super::health::Monitor;
use super::log_ring::LogRing;
use super::ports::Ports;
use super::restart::History;
use super::spawn::{self, Process, Program};
use super::startup_gate;
use super::state_machine::{Action, Event, State, step};
use super::vital_health::{self, Need, Past, Verdict, VitalHealth};
use crate::console::say;
use crate::printable;
use crate::system_conf::{NetworkAccess, Provision, Workload};

/// Milliseconds after which a kill that did not work is repeated.
const KILL_AGAIN: u64 = 2_000;
/// After so many kills that changed nothing it is the kernel that does not let the process go.
const STUCK_KILLS: u32 = 5;

/// A workload and all that is known of it.
#[derive(Debug)]
pub struct Unit {
    /// Its configuration.
    pub conf: Workload,
    /// It does not wait until the vital workloads are at work.
    pub first: bool,
    /// Where it is in its life.
    pub state: State,
    /// Why it is there, for people.
    pub reason: String,
    /// The last line it printed before it failed, until it is ready again.
    pub last_line: String,
    /// When it came there.
    pub changed: u64,
    /// Its output.
    pub ring: LogRing,
    /// Starts after the first one.
    pub restarts: u32,
    /// When the program was last seen to run: its start pipe closed at the exec.
    pub started: Option<u64>,
    ports: Ports,
    process: Option<Process>,
    check: Option<(Process, u64)>,
    cgroup: Option<Cgroup>,
    /// The health command's group, within the workload's.
    check_group: Option<Cgroup>,
    deadline: Option<u64>,
    history: History,
    monitor: Monitor,
    ready_at: Option<u64>,
    unready_since: u64,
    ended_well: bool,
    /// Kills since the process was started.
    kills: u32,
    starts: u32,
    /// Where in the ring the output of the newest process begins.
    said_from: u64,
    start_error: Vec<u8>,
    console_line: Vec<u8>,
    flows: Flows,
}

/// What the workloads need of the rest of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    /// `/data`: `None` while it is being made ready.
    pub data: Option<bool>,
    /// There is an address.
    pub network: bool,
    /// There is a wireless network to join and a radio.
    pub wifi: bool,
    /// Only what goes [first](Unit::first) may start.
    pub first_only: bool,
}

/// All workloads.
#[derive(Debug)]
pub struct Supervisor {
    /// In the order of the configuration.
    pub units: Vec<Unit>,
    /// What is there already.
    pub conditions: Conditions,
    /// Nothing is started any more.
    pub closing: bool,
}

impl Supervisor {
    /// Workloads that wait to be started.
    pub fn new(workloads: Vec<Workload>, now: u64) -> Supervisor {
        let first = startup_gate::first(&workloads);
        let unit = |(conf, first): (Workload, bool)| Unit {
            first,
            ring: LogRing::new(conf.log_size),
            ports: Ports::new(&conf.listen),
            conf,
            state: State::Waiting,
            reason: String::new(),
            last_line: String::new(),
            said_from: 0,
            changed: now,
            restarts: 0,
            started: None,
            process: None,
            check: None,
            cgroup: None,
            check_group: None,
            deadline: None,
            history: History::default(),
            monitor: Monitor::default(),
            ready_at: None,
            unready_since: now,
            ended_well: false,
            kills: 0,
            starts: 0,
            start_error: Vec::new(),
            console_line: Vec::new(),
            flows: Flows::default(),
        };
        Supervisor {
            units: workloads.into_iter().zip(first).map(unit).collect(),
            conditions: Conditions::default(),
            closing: false,
        }
    }

    /// Listens on every port that belongs to a workload, before any of them could take another's.
    pub fn open_ports(&mut self) {
        for unit in &mut self.units {
            unit.ports.open(&unit.conf.name);
        }
    }

    /// Makes the control groups of the workloads that go first, while they wait for something else.
    pub fn make_groups(&mut self) {
        for unit in self.units.iter_mut().filter(|unit| unit.first && unit.cgroup.is_none()) {
            // What is wrong with it is said when the workload starts.
            unit.cgroup = Cgroup::open(&unit.conf).ok();
        }
    }

    /// The program of a workload that goes first runs.
    pub fn first_runs(&self) -> bool {
        self.units.iter().any(|unit| unit.first && unit.started.is_some())
    }

    /// Index of the workload with this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.units.iter().position(|unit| unit.conf.name == name)
    }

    /// The pipes to wait for: those that do not rest.
    pub fn pipes<'a>(&'a self, now: u64, mut add: impl FnMut(usize, Pipe, BorrowedFd<'a>)) {
        for (index, unit) in self.units.iter().enumerate() {
            for (pipe, fd) in unit.pipes() {
                if unit.flows.rests_until(pipe, now).is_none() {
                    add(index, pipe, fd);
                }
            }
        }
    }

    /// When something has to be done although no descriptor reports anything.
    pub fn deadline(&self, now: u64) -> Option<u64> {
        self.units.iter().filter_map(|unit| unit.next_look(now)).min()
    }

    /// Does everything that is due: starts what need not wait any longer, ends what is late.
    pub fn tick(&mut self, now: u64) {
        for index in 0..self.units.len() {
            if self.units[index].state == State::Waiting
                && !self.closing
                && self.need(index) == Need::Nothing
            {
                self.units[index].event(Event::NeedsMet, "", now);
            }
            self.units[index].tick(now);
        }
    }

    /// What a waiting workload waits for.
    fn need(&self, index: usize) -> Need {
        let conf = &self.units[index].conf;
        if self.conditions.first_only && !self.units[index].first {
            return Need::Turn;
        }
        if conf.data {
            match self.conditions.data {
                None => return Need::Data,
                Some(false) => return Need::NoData,
                Some(true) => {}
            }
        }
        match conf.needs {
            Some(Provision::Wifi) if !self.conditions.wifi => {
                return Need::Provision(Provision::Wifi);
            }
            _ => {}
        }
        let ready = |other: &usize| {
            let unit = &self.units[*other];
            unit.state == State::Ready || unit.state == State::Finished && unit.ended_well
        };
        if let Some(other) = conf.after.iter().find(|other| !ready(other)) {
            return Need::Workload(*other);
        }
        if conf.network == NetworkAccess::Awaited && !self.conditions.network {
            return Need::Network;
        }
        Need::Nothing
    }

    /// A person's request, or the shutdown's.
    pub fn ask(&mut self, index: usize, event: Event, now: u64) {
        self.units[index].event(event, "asked", now);
    }

    /// A pipe has something to read. What a workload says that others wait for (`needs`) is left in
    /// `said`, too.
    pub fn on_pipe(&mut self, index: usize, pipe: Pipe, said: &mut Vec<u8>, now: u64) {
        let Some(unit) = self.units.get_mut(index) else { return };
        match pipe {
            Pipe::Output => unit.on_output(said, now),
            Pipe::Notify => unit.on_notify(now),
            Pipe::Start => unit.on_start(now),
            Pipe::Check => unit.on_check_output(now),
        }
    }

    /// A child ended. False when it belongs to no workload.
    pub fn on_exit(&mut self, pid: Pid, status: WaitStatus, now: u64) -> bool {
        self.units.iter_mut().any(|unit| unit.on_exit(pid, status, now))
    }

    /// What the vital workloads together mean for the board.
    pub fn verdict(&self, now: u64) -> Verdict {
        let vital = (0..self.units.len()).filter(|i| self.units[*i].conf.vital).map(|index| {
            let unit = &self.units[index];
            (unit.conf.name.as_str(), self.vital_health(index), unit.detail())
        });
        vital_health::judge(vital, now)
    }

    fn vital_health(&self, index: usize) -> VitalHealth {
        let unit = &self.units[index];
        let need = match self.need(index) {
            // A workload that waits for a broken one is as badly off as that one.
            Need::Workload(other)
                if !matches!(self.units[other].state, State::Waiting | State::Stopped) =>
            {
                Need::Nothing
            }
            need => need,
        };
        let past = Past {
            since: unit.unready_since,
            ended_well: unit.ended_well,
            stuck: unit.kills >= STUCK_KILLS,
        };
        vital_health::of(&unit.conf, unit.state, need, past)
    }

    /// Kills every process of every workload.
    pub fn kill_all(&self) {
        for cgroup in self.units.iter().filter_map(|unit| unit.cgroup.as_ref()) {
            cgroup.kill();
        }
    }
}

impl Unit {
    /// The state's word, its reason, and what the workload said last before it failed.
    pub fn detail(&self) -> String {
        detail(self.state.word(), &self.reason, &self.last_line)
    }

    /// The main process, if there is one.
    pub fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(|process| process.pid)
    }

    /// Bytes of memory in use and the most that were.
    pub fn memory(&self) -> (Option<u64>, Option<u64>) {
        self.cgroup.as_ref().map_or((None, None), Cgroup::memory)
    }

    /// Crashes in a row.
    pub fn crashes(&self) -> u32 {
        self.history.in_a_row()
    }

    /// The pipes that are open.
    fn pipes(&self) -> impl Iterator<Item = (Pipe, BorrowedFd<'_>)> {
        let main = self.process.as_ref();
        let check = self.check.as_ref().map(|(check, _)| check);
        let pipes = [
            (Pipe::Output, main.and_then(|p| p.output.as_ref())),
            (Pipe::Start, main.and_then(|p| p.start.as_ref())),
            (Pipe::Notify, main.and_then(|p| p.notify.as_ref())),
            (Pipe::Check, check.and_then(|p| p.output.as_ref())),
        ];
        pipes.into_iter().filter_map(|(pipe, fd)| Some((pipe, fd?.as_fd())))
    }

    fn next_look(&self, now: u64) -> Option<u64> {
        let health = match (self.state, &self.check) {
            (State::Ready, None) => self.monitor.deadline(&self.conf),
            (State::Ready, Some((_, late))) => Some(*late),
            _ => None,
        };
        let rested = self.pipes().filter_map(|(pipe, _)| self.flows.rests_until(pipe, now)).min();
        [self.deadline, health, rested, self.flows.deadline()].into_iter().flatten().min()
    }

    /// One step of the table, and what it asks for.
    fn event(&mut self, event: Event, reason: &str, now: u64) {
        let (state, actions) = step(self.state, event);
        if state != self.state {
            if self.state == State::Ready {
                self.unready_since = now;
            }
            self.ready_at = (state == State::Ready).then_some(now);
            if state == State::Ready {
                self.monitor = Monitor::ready(&self.conf, now);
            }
            self.state = state;
            self.changed = now;
            self.reason.clear();
            // Why it left a failure behind is no reason for being well again.
            if !matches!(state, State::Waiting | State::Starting | State::Ready) {
                self.reason = printable::line(reason);
            }
            if matches!(state, State::Ready | State::Stopped) {
                self.last_line.clear();
            }
            let detail = match state {
                // What it said was told when it failed.
                State::Waiting | State::Starting => state.word().to_string(),
                _ => self.detail(),
            };
            say(&["workload ", &self.conf.name, ": ", &detail]);
        }
        for action in actions {
            self.act(*action, now);
        }
    }

    fn act(&mut self, action: Action, now: u64) {
        match action {
            Action::Spawn => self.spawn(now),
            Action::Term => {
                if let Some(process) = &self.process {
                    // It may be gone already; then its end is reported soon.
                    let _ = kill_process(process.pid, Signal::TERM);
                }
            }
            Action::Kill => {
                self.kills = self.kills.saturating_add(1);
                if let Some(cgroup) = &self.cgroup {
                    cgroup.kill();
                }
            }
            Action::Sweep => self.sweep(now),
            Action::ArmReady => self.deadline = Some(now + self.conf.ready_timeout),
            Action::ArmStop => self.deadline = Some(now + self.conf.stop_timeout),
            Action::ArmKill => self.deadline = Some(now + KILL_AGAIN),
            Action::ArmBackOff => self.deadline = Some(now + self.history.delay(&self.conf.limits)),
            Action::ArmFailed => {
                self.deadline = Some(now + History::failed_delay(&self.conf.limits));
            }
            Action::Disarm => self.deadline = None,
            Action::Forgive => {
                self.history.forgive();
                self.unready_since = now;
            }
        }
    }

    fn spawn(&mut self, now: u64) {
        self.ports.open(&self.conf.name);
        self.said_from = self.ring.end();
        let program = Program {
            command: &self.conf.command,
            notifies: self.conf.notifies,
            ports: Some(&self.ports),
        };
        match start(&self.conf, program, &mut self.cgroup) {
            Ok(process) => {
                self.process = Some(process);
                self.restarts = self.starts;
                self.starts = self.starts.saturating_add(1);
                self.start_error.clear();
            }
            Err(e) => self.ended(false, &["cannot start: ", &e].concat(), now),
        }
    }

    /// The main process is gone: what it left behind goes too.
    fn sweep(&mut self, now: u64) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        // What those have said is kept; nobody else waits for it any more.
        self.take_last_output(now);
        self.process = None;
        self.check = None;
        // It was killed with the workload's; the next one is found again and knows that.
        self.check_group = None;
        self.kills = 0;
        self.end_console_line(now);
    }

    fn tick(&mut self, now: u64) {
        self.say_dropped(now);
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            let reason = match self.state {
                State::Starting => {
                    self.keep_last_line();
                    "not ready in time"
                }
                _ => "",
            };
            self.event(Event::Timer, reason, now);
        }
        if self.state != State::Ready {
            return;
        }
        if self.monitor.is_silent(&self.conf, now) {
            self.keep_last_line();
            self.event(Event::HealthLost, "no heartbeat", now);
        } else if self.check.as_ref().is_some_and(|(_, late)| now >= *late) {
            self.check = None;
            self.end_check();
            self.check_ended(false, "health command took too long", now);
        } else if self.check.is_none() && self.monitor.check_is_due(now) {
            self.start_check(now);
        }
    }

    fn start_check(&mut self, now: u64) {
        let (Some(health), Some(cgroup)) = (&self.conf.health, &self.cgroup) else { return };
        let program = Program { command: &health.command, notifies: false, ports: None };
        let started = match self.check_group.take().map_or_else(|| cgroup.open_check(), Ok) {
            Ok(group) => spawn::start(&self.conf, program, self.check_group.insert(group)).ok(),
            Err(_) => None,
        };
        match started {
            Some(process) => {
                self.check = Some((process, now + health.timeout));
                self.monitor.check_started();
            }
            None => self.check_ended(false, "health command cannot start", now),
        }
    }

    /// The health command ended or is late: what it started does not outlive it.
    fn end_check(&mut self) {
        if let Some(group) = self.check_group.as_ref().filter(|group| group.is_populated()) {
            group.kill();
        }
    }

    fn check_ended(&mut self, success: bool, reason: &str, now: u64) {
        if self.monitor.check_ended(&self.conf, success, now) {
            self.keep_last_line();
            self.event(Event::HealthLost, reason, now);
        }
    }
}

/// Starts the program in the workload's control group, which is made when it is first needed.
fn start(
    conf: &Workload,
    program: Program<'_>,
    cgroup: &mut Option<Cgroup>,
) -> Result<Process, String> {
    let cgroup = match cgroup {
        Some(cgroup) => cgroup,
        None => cgroup.insert(Cgroup::open(conf).map_err(|e| e.to_string())?),
    };
    spawn::start(conf, program, cgroup).map_err(|e| e.to_string())
}
