//! PID 1 of the root: sets the system up, then turns over until the machine ends.
//!
//! The loop never waits for anything but events. What may block is done by a `helper`.

mod data_partition;
mod events;
mod mounts;
mod readahead;
mod requests;
mod setup;
pub mod shutdown;
mod status;

use std::os::fd::{AsFd, OwnedFd};

use formats::data_state::{DataState, Kind as DataKind};
use formats::run_slot::RunSlot;
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};

use self::events::Token;
use crate::boot_state::assessment::{self, Action, BootAssessment, Kind};
use crate::boot_state::requests::BootRequests;
use crate::boot_state::{failure, recovery};
use crate::clock::Clock;
use crate::console::{self, say};
use crate::control::Control;
use crate::data::Partition;
use crate::debug_programs::DebugPrograms;
use crate::helper::{Helpers, Late, Task};
use crate::initrd::boot_worker;
use crate::media::Media;
use crate::network::Network;
use crate::rootfs::shutdown::{End, Shutdown};
use crate::system_conf::{NetworkAccess, Provision, System};
use crate::watchdog::Watchdog;
use crate::wireless::Wireless;
use crate::workload::startup_gate::StartupGate;
use crate::workload::state_machine::State;
use crate::workload::supervise::{Supervisor, Unit};
use crate::workload::vital_health::Verdict;
use crate::{data, modules, rcu, reset, settings, sys, uptime};

/// Everything the loop works on.
struct Init {
    system: System,
    /// What was booted; no trial any more once it is committed.
    booted: RunSlot,
    signals: OwnedFd,
    watchdog: Option<Watchdog>,
    next_feed: u64,
    supervisor: Supervisor,
    control: Option<Control>,
    boot_requests: BootRequests,
    network: Network,
    wireless: Wireless,
    /// To be loaded, until they are.
    modules: Option<Vec<String>>,
    media: Media,
    clock: Clock,
    debug: DebugPrograms,
    /// What `/data` is, once it is there.
    data: DataState,
    /// Notices errors that the kernel finds in it.
    data_watch: Option<data::Watch>,
    /// They are to be looked at when the trial that runs is over.
    data_check_waits: bool,
    helpers: Helpers,
    assessment: BootAssessment,
    /// What `ota` says keeps the trial from being committed.
    trial_waits: String,
    startup_gate: StartupGate,
    shutdown: Option<Shutdown>,
    ending: Option<End>,
}

/// Runs the rootfs; never returns. A system that cannot even be set up is noted and reset.
pub fn run() -> ! {
    reset::reset_on_panic(None);
    console::open();
    say(&["rootfs: pid 1 after ", &uptime::now().to_string(), " ms"]);
    let booted = setup::booted();
    if let Ok(booted) = &booted {
        reset::reset_on_panic(Some((booted.chooser.clone(), booted.running())));
    }
    let init = match &booted {
        Ok(booted) => setup::start(booted),
        Err(e) => Err(e.clone()),
    };
    match init {
        Ok(mut init) => {
            init.begin(uptime::now());
            loop {
                init.run_once();
            }
        }
        Err(e) => {
            let slot = booted.as_ref().map_or("?", |booted| booted.slot.letter());
            say(&["cannot boot slot ", slot, ": ", &e.to_string(), "; resetting"]);
            if let Ok(booted) = &booted {
                reset::note_in_time(&booted.chooser, booted.running(), &e.to_string());
            }
            reset::reset()
        }
    }
}

/// In a helper: loads the modules in action.
fn load_modules(modules: &[String]) {
    for module in modules {
        if let Err(e) = modules::load(module) {
            say(&[&e.to_string()]);
        }
    }
}

impl Init {
    /// One turn: wait, take what happened, do what is due.
    fn run_once(&mut self) {
        let ready = self.wait();
        let now = uptime::now();
        for token in ready {
            self.take(token, now);
        }
        self.tick(uptime::now());
    }

    fn take(&mut self, token: Token, now: u64) {
        match token {
            Token::Signals => self.on_signals(now),
            Token::Console => console::flush(),
            Token::Workload(index, pipe) => {
                let mut said = Vec::new();
                self.supervisor.on_pipe(index, pipe, &mut said, now);
                self.wireless.on_output(&said);
            }
            Token::Listener => {
                if let Some(control) = &mut self.control {
                    control.accept(now);
                }
            }
            Token::Client(index) => self.on_client(index, now),
            Token::Media => self.media.on_events(now),
            Token::Link => self.network.on_link(now),
            Token::Dhcp(number) => self.network.on_packet(number, now),
            Token::Time => self.clock.on_answer(now),
        }
    }

    fn on_signals(&mut self, now: u64) {
        while let Some(signal) = sys::next_signal(self.signals.as_fd()) {
            match signal {
                libc::SIGTERM | libc::SIGINT => self.end(End::Reboot, now),
                libc::SIGPWR => self.end(End::PowerOff, now),
                _ => {}
            }
        }
        self.reap(now);
    }

    /// Takes every child that ended: one signal may stand for many.
    fn reap(&mut self, now: u64) {
        while let Ok(Some((pid, exit))) = wait(WaitOptions::NOHANG) {
            if self.supervisor.on_exit(pid, exit, now) {
                continue;
            }
            if self.debug.on_exit(pid, now) {
                continue;
            }
            if let Some(task) = self.helpers.ended(pid) {
                self.helper_ended(task, exit.exit_status() == Some(0), now);
            }
            // Anything else is an orphan of a workload; taking it is all it needs.
        }
    }

    fn helper_ended(&mut self, task: Task, success: bool, now: u64) {
        match task {
            Task::BootWorker => {
                let mounted =
                    success && data::take_over().map_err(|e| say(&[&e.to_string()])).is_ok();
                if mounted {
                    self.data_is_there(now);
                }
                self.supervisor.tick(now);
                if !mounted {
                    self.start_data(now);
                }
            }
            Task::Data | Task::Repair if success => self.take_over_data(now),
            Task::Data => self.start_repair(now),
            Task::Repair if data::state().is_some_and(|s| s.kind == DataKind::Unsupported) => {
                self.volatile_is_there(false, now);
            }
            Task::Repair => {
                self.data_is_lost("it could not be made ready", Partition::Answers, now);
            }
            // Perhaps it was what is left of the partition that could not be had.
            Task::Volatile(Partition::Answers) if !success => self.data_hangs(now),
            Task::Volatile(_) => self.volatile_is_there(success, now),
            Task::Media(number) => self.media.helper_ended(number, success, now),
            Task::Modules => self.media.drivers_are_there(now),
            Task::BootState(ticket) => {
                let answer = self.boot_requests.ended(ticket, success);
                if self.boot_requests.is_committed() && self.booted.boot == Kind::Trial {
                    self.booted.boot = Kind::Active;
                }
                if let (Some(control), Some((client, answer))) = (&mut self.control, answer) {
                    control.answer_held(client, answer, now);
                }
            }
            Task::TrialCheck => {
                self.trial_was_checked(success, now);
            }
            Task::LastFailure => failure::publish_details(),
            Task::ReadAhead | Task::Growth | Task::Write => {}
            Task::Unmount => self.reset_now(),
        }
    }

    /// A helper took longer than its work can take.
    fn helper_is_late(&mut self, late: Late, now: u64) {
        match late {
            Late::Killed(Task::Unmount) => self.reset_now(),
            Late::Killed(_) => {}
            Late::Stuck(task) => {
                say(&["stuck in the kernel: ", task.what(), "; going on without it"]);
                match task {
                    Task::Data | Task::Repair => self.data_hangs(now),
                    task => self.helper_ended(task, false, now),
                }
            }
        }
    }

    /// Starts what goes first, and without a vital workload everything.
    fn begin(&mut self, now: u64) {
        match boot_worker::adopt() {
            Some(pid) => {
                self.helpers.adopt(Task::BootWorker, pid, now);
            }
            None => self.helper_ended(Task::BootWorker, false, now),
        }
        // Children may have ended before their end was listened for.
        self.reap(now);
        self.supervisor.tick(now);
        let mut first = self.supervisor.units.iter().filter(|unit| unit.first).peekable();
        if first.peek().is_none() {
            self.release_deferred(now);
        } else if first.any(|unit| unit.conf.network == NetworkAccess::Awaited) {
            self.network.open();
            self.start_modules(now);
        }
    }

    /// Starts what was held back for the workloads that go first.
    fn release_deferred(&mut self, now: u64) {
        self.startup_gate = StartupGate::Over;
        self.supervisor.conditions.first_only = false;
        self.supervisor.tick(now);
        self.start_modules(now);
        if self.supervisor.conditions.data == Some(true) {
            self.start_growth(now);
        }
        self.debug.open_console(&self.system.console_shell);
    }

    fn data_is_there(&mut self, now: u64) {
        self.data = data::state().unwrap_or_else(data::kept);
        self.watch_data();
        settings::apply(&mut self.supervisor.units, &mut self.wireless, &mut self.debug);
        self.supervisor.conditions.data = Some(true);
        // In memory nothing is kept: their number stays unknown, and resets rare.
        if self.data.kind != DataKind::Volatile {
            self.assessment.set_resets(recovery::load());
        }
        if self.startup_gate == StartupGate::Over {
            self.start_growth(now);
        }
        self.clock.data_ready();
        failure::publish_details();
    }

    /// Loads the rootfs's modules, once: what they drive is found when it appears.
    fn start_modules(&mut self, now: u64) {
        let Some(modules) = self.modules.take() else { return };
        let started = !modules.is_empty()
            && self.helpers.start(Task::Modules, now, || {
                load_modules(&modules);
                Ok(())
            });
        if !started {
            self.helper_ended(Task::Modules, false, now);
        }
    }

    /// Does everything that is due.
    fn tick(&mut self, now: u64) {
        #[cfg(feature = "hang-test")]
        hang_after(20_000);
        if self.network.is_to_open()
            && (self.startup_gate == StartupGate::Over || self.supervisor.first_runs())
        {
            self.network.open();
        }
        self.network.tick(now);
        let joins =
            |unit: &Unit| unit.conf.needs == Some(Provision::Wifi) && unit.state == State::Ready;
        self.wireless.tick(self.supervisor.units.iter().any(joins), now);
        if self.shutdown.is_none() {
            self.media.tick(&mut self.helpers, now);
        }
        self.supervisor.conditions.network = self.network.is_up();
        self.supervisor.conditions.wifi = self.network.has_radio() && self.wireless.is_settled();
        self.look_for_data_errors(now);
        if self.data_check_waits && self.booted.boot != Kind::Trial {
            self.check_data(now);
        }
        self.clock.tick(self.network.time_servers(), self.network.is_up(), now);
        if let Some(time) = self.clock.take_due_save() {
            self.helpers.start(Task::Write, now, move || crate::clock::save(time));
        }
        self.supervisor.tick(now);
        self.debug.tick(now);
        if let Some(control) = &mut self.control {
            let units = &self.supervisor.units;
            control.serve(|index: usize| units.get(index).map(|unit| &unit.ring), now);
        }
        for late in self.helpers.kill_late(now) {
            self.helper_is_late(late, now);
        }
        let verdict = self.supervisor.verdict(now);
        if self.shutdown.is_none() {
            if self.startup_gate.step(verdict == Verdict::Healthy, now) {
                self.release_deferred(now);
            }
            while let Some(action) = self.assessment.step(&verdict, now) {
                self.apply(action, &verdict, now);
            }
        }
        let may_feed = match &self.shutdown {
            Some(shutdown) => shutdown.may_feed(now),
            None => self.assessment.may_feed(),
        };
        if now >= self.next_feed
            && may_feed
            && let Some(watchdog) = &self.watchdog
        {
            watchdog.feed();
            self.next_feed = now + watchdog.interval;
        }
        self.advance_shutdown(now);
    }

    fn apply(&mut self, action: Action, verdict: &Verdict, now: u64) {
        match action {
            Action::ReportHealthy => {
                rcu::end();
                say(&["all vital workloads healthy"]);
            }
            Action::Settle => {
                let (name, running) = (self.booted.chooser.clone(), self.booted.running());
                self.helpers.start(Task::Write, now, move || failure::settle(&name, running));
            }
            Action::Forgive => {
                let (name, running) = (self.booted.chooser.clone(), self.booted.running());
                self.helpers
                    .start(Task::Write, now, move || failure::forgive_this_boot(&name, running));
            }
            Action::CheckCommitted => {
                let (name, running) = (self.booted.chooser.clone(), self.booted.running());
                let check = move || failure::is_committed(&name, running);
                if !self.helpers.ask(Task::TrialCheck, now, check) {
                    self.helper_ended(Task::TrialCheck, false, now);
                }
            }
            Action::EndTrial => {
                let seconds = (self.system.trial_timeout / 1000).to_string();
                let (why, reason) = assessment::uncommitted(verdict, &self.trial_waits);
                say(&["trial not committed within ", &seconds, " s: ", reason, "; resetting"]);
                self.give_up([why, reason].concat(), false, now);
            }
            Action::ReportDead { reason, reset_at } => {
                let minutes = reset_at.saturating_sub(now).div_ceil(60_000).to_string();
                say(&[
                    "vital workload ",
                    &reason,
                    "; kept trying, a reset follows in ",
                    &minutes,
                    " min unless it gets well",
                ]);
            }
            Action::ForgetResets => {
                self.helpers.start(Task::Write, now, recovery::forget);
            }
            Action::GiveUp(reason) => {
                say(&["vital workload ", &reason, "; resetting"]);
                self.give_up(["vital workload ", &reason].concat(), true, now);
            }
        }
    }

    /// Writes down why, then resets in an orderly way. `final_verdict`: trying the trial again
    /// would only show the same once more.
    fn give_up(&mut self, reason: String, final_verdict: bool, now: u64) {
        let (name, running) = (self.booted.chooser.clone(), self.booted.running());
        let resets = self.assessment.resets_after_this();
        self.helpers.start(Task::Write, now, move || {
            let saved = resets.map_or(Ok(()), recovery::save);
            failure::record(&name, running, &reason, final_verdict).and(saved)
        });
        self.end(End::Reboot, now);
    }

    /// The boot state says whether the version on trial is committed: a committed one goes on.
    fn trial_was_checked(&mut self, is_committed: bool, now: u64) {
        if is_committed {
            self.booted.boot = Kind::Active;
            self.trial_waits.clear();
        }
        let action = self.assessment.checked(is_committed).filter(|_| self.shutdown.is_none());
        if let Some(action) = action {
            let verdict = self.supervisor.verdict(now);
            self.apply(action, &verdict, now);
        }
    }

    /// Begins to shut down.
    fn end(&mut self, end: End, now: u64) {
        if self.shutdown.is_some() {
            return;
        }
        say(&["shutdown: ", if end == End::Reboot { "reboot" } else { "poweroff" }]);
        self.supervisor.closing = true;
        // A long check of the data partition is safe to break off; the next boot does it again.
        self.helpers.hurry(Task::Data, now);
        self.helpers.hurry(Task::Repair, now);
        self.shutdown = Some(Shutdown::new(end, now));
    }

    /// One step on the way down, once it has begun.
    fn advance_shutdown(&mut self, now: u64) {
        let Some(shutdown) = &mut self.shutdown else { return };
        if self.ending.is_some() || !shutdown.step(&mut self.supervisor, now) {
            return;
        }
        if self.helpers.are_writing() {
            return;
        }
        self.ending = Some(shutdown.end);
        self.debug.close();
        let time = self.clock.now_if_known();
        let started = self.helpers.start(Task::Unmount, now, || {
            if let Some(time) = time {
                let _ = crate::clock::save(time);
            }
            rustix::fs::sync();
            data::unmount_all();
            Ok(())
        });
        if !started {
            self.reset_now();
        }
    }

    fn reset_now(&self) {
        if self.ending == Some(End::PowerOff) {
            let _ = reboot(RebootCommand::PowerOff);
        }
        reset::reset();
    }
}

/// The test build's fault: PID 1 stops turning over.
#[cfg(feature = "hang-test")]
fn hang_after(milliseconds: u64) {
    if uptime::now() > milliseconds {
        say(&["hang-test: PID 1 hangs now"]);
        loop {
            std::hint::spin_loop();
        }
    }
}
