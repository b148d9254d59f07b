//! PID 1 of the root: sets the system up, then turns over until the machine ends.
//!
//! The loop never waits for anything but events. What may block is done by a `helper`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::process::{wait, WaitOptions};
use rustix::system::{reboot, RebootCommand};
use slot::chooser;
use slot::conf;
use slot::layout::{self, Slot};
use slot::{Error, Result};

use crate::clock::Clock;
use crate::console::{self, say};
use crate::console_shell::Shell;
use crate::control::{self, Answer, Control, Request};
use crate::helper::{Helpers, Task};
use crate::network::Network;
use crate::shutdown::{End, Shutdown};
use crate::system_conf::{self, System};
use crate::trial::{Kind, Order, Probation};
use crate::watchdog::Watchdog;
use crate::workload::supervise::{Pipe, Supervisor};
use crate::workload::table::Event;
use crate::{
    assistant, data, devices, failure, haste, modules, mounts, reset, status, sys, uptime,
};

/// The loop turns at least this often, so that a wrong deadline is a delay and not a stop.
const LONGEST_SLEEP: u64 = 10_000;

/// What was booted, from `/run/ferrite/slot`.
struct Booted {
    slot: Slot,
    kind: Kind,
    disk: String,
    facts: Vec<(String, String)>,
}

/// Everything the loop works on.
struct Life {
    system: System,
    booted: Booted,
    signals: OwnedFd,
    watchdog: Option<Watchdog>,
    next_feed: u64,
    supervisor: Supervisor,
    control: Option<Control>,
    network: Network,
    clock: Clock,
    shell: Option<Shell>,
    helpers: Helpers,
    probation: Probation,
    shutdown: Option<Shutdown>,
    ending: Option<End>,
}

/// What a ready descriptor belongs to.
#[derive(Clone, Copy)]
enum Token {
    Signals,
    Console,
    Workload(usize, Pipe),
    Listener,
    Client(usize),
    Link,
    Dhcp,
    Time,
}

/// Runs the second life; never returns. A system that cannot even be set up is noted and reset.
pub fn run() -> ! {
    reset::reset_on_panic();
    console::open();
    say(&["second life: pid 1 after ", &uptime::now().to_string(), " ms"]);
    let booted = booted();
    let life = match &booted {
        Ok(booted) => start(booted),
        Err(e) => Err(e.clone()),
    };
    match life {
        Ok(mut life) => {
            life.begin(uptime::now());
            loop {
                life.turn();
            }
        }
        Err(e) => {
            let slot = booted.as_ref().map_or("?", |booted| booted.slot.letter());
            say(&["cannot boot slot ", slot, ": ", &e.to_string(), "; resetting"]);
            if let Ok(booted) = &booted {
                // Without a configuration the chooser's name is unknown: the only one there is.
                if let Ok(chooser) = chooser::open("uboot", Path::new(layout::DEVICES)) {
                    reset::note(&*chooser, booted.slot, &e.to_string());
                }
            }
            reset::reset()
        }
    }
}

/// The road from PID 1 to the first workload.
fn start(booted: &Booted) -> Result<Life> {
    let now = uptime::now();
    let text = std::fs::read(layout::SYSTEM_CONF)
        .map_err(|e| Error::new([layout::SYSTEM_CONF, ": ", &e.to_string()].concat()))?;
    let mut system = system_conf::parse(&text).map_err(|e| e.within(layout::SYSTEM_CONF))?;
    drop(text);
    let watchdog = take_watchdog(&system);
    mounts::all()?;
    // Ctrl-Alt-Del becomes a signal to PID 1 instead of a reset.
    let _ = reboot(RebootCommand::CadOff);
    let signals = sys::signals().map_err(|e| Error::new(["signals: ", &e.to_string()].concat()))?;
    for (what, result) in [
        (
            "host name",
            rustix::system::sethostname(system.hostname.as_bytes()).map_err(|e| e.to_string()),
        ),
        ("devices", devices::open_idle_slot(booted.slot).map_err(|e| e.to_string())),
    ] {
        if let Err(e) = result {
            say(&[what, ": ", &e]);
        }
    }
    let mut supervisor = Supervisor::new(std::mem::take(&mut system.workloads), now);
    supervisor.tick(now);

    let control = control::open().map_err(|e| say(&[&e.to_string()])).ok();
    failure::publish_note(&*chooser::open(&system.chooser, Path::new(layout::DEVICES))?);
    Ok(Life {
        booted: Booted { facts: booted.facts.clone(), disk: booted.disk.clone(), ..*booted },
        signals,
        watchdog,
        next_feed: now,
        supervisor,
        control,
        network: Network::new(system.dhcp),
        clock: Clock::new(&system.ntp),
        shell: Shell::new(&system.console_shell, now),
        helpers: Helpers::default(),
        probation: Probation::new(booted.kind, now + system.trial_timeout),
        shutdown: None,
        ending: None,
        system,
    })
}

/// Reads what the first life found.
fn booted() -> Result<Booted> {
    let error = |e: Error| e.within(layout::RUN_SLOT);
    let text = std::fs::read(layout::RUN_SLOT).map_err(|e| error(Error::new(e.to_string())))?;
    let conf = conf::parse(&text, "ferrite-slot 1").map_err(error)?;
    let get = |key| conf::one(&conf.head, key).map_err(error);
    let kind =
        match (get("trial")?.yes_no().map_err(error)?, get("fallback")?.yes_no().map_err(error)?) {
            (true, _) => Kind::Trial,
            (false, true) => Kind::Fallback,
            (false, false) => Kind::Active,
        };
    let pairs = conf.head.iter().map(|line| (line.key.to_string(), line.value.to_string()));
    Ok(Booted {
        slot: Slot::parse(get("slot")?.value).map_err(error)?,
        kind,
        disk: get("disk")?.value.to_string(),
        facts: pairs.collect(),
    })
}

/// The first life's watchdog, or a newly armed one where that failed. One that was handed over is
/// taken even if the configuration names none: it runs, and somebody has to feed it.
fn take_watchdog(system: &System) -> Option<Watchdog> {
    const SECONDS: u32 = 30;
    let named = system.watchdog.as_ref();
    Watchdog::adopt(named.map_or(SECONDS, |(_, seconds)| *seconds)).or_else(|| {
        let (device, seconds) = named?;
        Watchdog::arm(device, *seconds).map_err(|e| say(&[&e.to_string()])).ok()
    })
}

/// In a helper: loads the modules in order.
fn load_modules(modules: &[String]) {
    for module in modules {
        if let Err(e) = modules::load(module) {
            say(&[&e.to_string()]);
        }
    }
}

impl Life {
    /// One turn: wait, take what happened, do what is due.
    fn turn(&mut self) {
        let ready = self.wait();
        let now = uptime::now();
        for token in ready {
            self.take(token, now);
        }
        self.tick(uptime::now());
    }

    /// Waits for a descriptor or the next deadline.
    fn wait(&self) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(32);
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(32);
        let mut add = |token, fd, flags| {
            tokens.push(token);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        add(Token::Signals, self.signals.as_fd(), PollFlags::IN);
        self.supervisor
            .pipes(|index, pipe, fd| add(Token::Workload(index, pipe), fd, PollFlags::IN));
        if let Some(control) = &self.control {
            let rings = |index: usize| self.supervisor.units.get(index).map(|unit| &unit.ring);
            control.descriptors(rings, |client, fd, write| {
                let token = client.map_or(Token::Listener, Token::Client);
                add(token, fd, if write { PollFlags::OUT } else { PollFlags::IN });
            });
        }
        let net = [
            (Token::Link, self.network.link_socket()),
            (Token::Dhcp, self.network.packet_socket()),
            (Token::Time, self.clock.socket()),
        ];
        for (token, fd) in net {
            if let Some(fd) = fd {
                add(token, fd, PollFlags::IN);
            }
        }
        let console = console::duplicate_if_pending();
        if let Some(fd) = &console {
            add(Token::Console, fd.as_fd(), PollFlags::OUT);
        }
        let milliseconds = self.next_look().saturating_sub(uptime::now()).min(LONGEST_SLEEP);
        let timeout = Timespec {
            tv_sec: (milliseconds / 1000) as i64,
            tv_nsec: (milliseconds % 1000 * 1_000_000) as _,
        };
        if poll(&mut fds, Some(&timeout)).is_err() {
            // Interrupted, or short of memory: the deadlines are looked at in any case.
            return Vec::new();
        }
        let ready = fds.iter().map(|fd| !fd.revents().is_empty());
        tokens.iter().zip(ready).filter(|(_, ready)| *ready).map(|(token, _)| *token).collect()
    }

    /// The next moment at which something is due.
    fn next_look(&self) -> u64 {
        let now = uptime::now();
        [
            self.supervisor.deadline(),
            self.control.as_ref().and_then(Control::deadline),
            self.network.deadline(),
            self.clock.deadline(),
            self.shell.as_ref().and_then(Shell::deadline),
            self.probation.next_look(),
            self.helpers.deadline(),
            self.shutdown.as_ref().map(|shutdown| shutdown.next_look(now)),
            self.watchdog.is_some().then_some(self.next_feed),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u64::MAX)
    }

    fn take(&mut self, token: Token, now: u64) {
        match token {
            Token::Signals => self.on_signals(now),
            Token::Console => console::flush(),
            Token::Workload(index, pipe) => self.supervisor.on_pipe(index, pipe, now),
            Token::Listener => {
                if let Some(control) = &mut self.control {
                    control.accept(now);
                }
            }
            Token::Client(index) => self.on_client(index, now),
            Token::Link => self.network.on_link(now),
            Token::Dhcp => self.network.on_packet(now),
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
            if self.shell.as_mut().is_some_and(|shell| shell.on_exit(pid, now)) {
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
            Task::Assistant => {
                let mounted =
                    success && data::take_over().map_err(|e| say(&[&e.to_string()])).is_ok();
                if mounted {
                    self.data_is_there();
                }
                self.supervisor.tick(now);
                self.start_data(mounted, now);
                self.start_modules(now);
            }
            Task::Data => match self.supervisor.surroundings.data {
                Some(_) => {}
                None if success => self.data_is_there(),
                None => {
                    self.supervisor.surroundings.data = Some(false);
                    say(&["data: not available"]);
                }
            },
            Task::Modules | Task::Write => {}
            Task::Unmount => self.reset_now(),
        }
    }

    /// Starts everything, the workloads first: all else would slow their start down.
    fn begin(&mut self, now: u64) {
        match assistant::adopt() {
            Some(pid) => {
                self.helpers.adopt(Task::Assistant, pid, now);
                // It may have ended before its end was listened for.
                self.reap(now);
            }
            None => self.helper_ended(Task::Assistant, false, now),
        }
        self.supervisor.tick(now);
        self.network.open();
    }

    /// Mounts `/data` if that has not been done, and lets it grow.
    fn start_data(&mut self, mounted: bool, now: u64) {
        let disk = self.booted.disk.clone();
        let work = || {
            if !mounted {
                data::prepare().map_err(|e| e.within("data"))?;
            }
            data::grow(&disk);
            Ok(())
        };
        if !self.helpers.start(Task::Data, now, work) {
            self.helper_ended(Task::Data, mounted, now);
        }
    }

    fn data_is_there(&mut self) {
        self.supervisor.surroundings.data = Some(true);
        self.clock.data_ready();
        failure::publish_details(self.booted.slot);
    }

    fn start_modules(&mut self, now: u64) {
        let modules = std::mem::take(&mut self.system.modules);
        self.helpers.start(Task::Modules, now, || {
            load_modules(&modules);
            Ok(())
        });
    }

    fn on_client(&mut self, index: usize, now: u64) {
        let request = self.control.as_mut().and_then(|control| control.on_readable(index));
        let answer = match request {
            None => return,
            Some(Err(answer)) => answer,
            Some(Ok(request)) => self.answer(request, now),
        };
        if let Some(control) = &mut self.control {
            control.answer(index, answer);
        }
    }

    fn answer(&mut self, request: Request, now: u64) -> Answer {
        let facts =
            status::Facts { slot: &self.booted.facts, address: self.network.address(), now };
        match request {
            Request::Status { json: true } => Answer::ok(&status::json(&self.supervisor, &facts)),
            Request::Status { json: false } => Answer::ok(&status::text(&self.supervisor, &facts)),
            Request::Health => {
                let healthy_for = self.probation.healthy_for(now);
                Answer::ok(&status::health(&self.supervisor.verdict(now), healthy_for))
            }
            Request::Logs { name, follow } => match self.supervisor.find(&name) {
                Some(index) => Answer { log: Some((index, follow)), ..Answer::ok("") },
                None => unknown(&name),
            },
            Request::Start(name) => self.ask(&name, Event::AskStart, now),
            Request::Stop(name) => self.ask(&name, Event::AskStop, now),
            Request::Restart(name) => self.ask(&name, Event::AskRestart, now),
            Request::Reboot => {
                self.end(End::Reboot, now);
                Answer::ok("")
            }
            Request::PowerOff => {
                self.end(End::PowerOff, now);
                Answer::ok("")
            }
        }
    }

    fn ask(&mut self, name: &str, event: Event, now: u64) -> Answer {
        let Some(index) = self.supervisor.find(name) else { return unknown(name) };
        if self.shutdown.is_some() {
            return Answer::error("the device is shutting down");
        }
        self.supervisor.ask(index, event, now);
        Answer::ok("")
    }

    /// Does everything that is due.
    fn tick(&mut self, now: u64) {
        #[cfg(feature = "hang-test")]
        hang_after(20_000);
        self.network.tick(now);
        self.supervisor.surroundings.network = self.network.is_up();
        self.clock.tick(self.network.time_servers(), self.network.is_up(), now);
        if let Some(time) = self.clock.take_due_save() {
            self.helpers.start(Task::Write, now, move || crate::clock::save(time));
        }
        self.supervisor.tick(now);
        if let Some(shell) = &mut self.shell {
            shell.tick(now);
        }
        if let Some(control) = &mut self.control {
            let units = &self.supervisor.units;
            control.serve(|index: usize| units.get(index).map(|unit| &unit.ring), now);
        }
        if self.helpers.kill_late(now).contains(&Task::Unmount) {
            self.reset_now();
        }
        let verdict = self.supervisor.verdict(now);
        if self.shutdown.is_none() {
            while let Some(order) = self.probation.step(&verdict, now) {
                self.obey(order, verdict.reason(), now);
            }
        }
        let may_feed = match &self.shutdown {
            Some(shutdown) => shutdown.may_feed(now),
            None => verdict.may_feed(),
        };
        if now >= self.next_feed && may_feed {
            if let Some(watchdog) = &self.watchdog {
                watchdog.feed();
                self.next_feed = now + watchdog.interval;
            }
        }
        self.go_down(now);
    }

    fn obey(&mut self, order: Order, reason: &str, now: u64) {
        let slot = self.booted.slot;
        match order {
            Order::SayHealthy => {
                haste::end();
                say(&["all vital workloads healthy"]);
            }
            Order::Settle => {
                let (name, kind) = (self.system.chooser.clone(), self.booted.kind);
                self.helpers.start(Task::Write, now, move || failure::settle(&name, slot, kind));
            }
            Order::CheckCommitted => {
                if failure::still_on_trial(&self.system.chooser, slot) {
                    let seconds = (self.system.trial_timeout / 1000).to_string();
                    let reason = if reason.is_empty() { "nobody committed it" } else { reason };
                    say(&["trial not committed within ", &seconds, " s: ", reason, "; resetting"]);
                    self.give_up(["trial not committed: ", reason].concat(), false, now);
                } else {
                    self.booted.kind = Kind::Active;
                    self.probation = Probation::new(Kind::Active, 0);
                }
            }
            Order::GiveUp(reason) => {
                say(&["vital workload ", &reason, "; resetting"]);
                self.give_up(["vital workload ", &reason].concat(), true, now);
            }
        }
    }

    /// Writes down why, then resets in an orderly way. `final_verdict`: trying the trial again
    /// would only show the same once more.
    fn give_up(&mut self, reason: String, final_verdict: bool, now: u64) {
        let (name, slot) = (self.system.chooser.clone(), self.booted.slot);
        self.helpers
            .start(Task::Write, now, move || failure::record(&name, slot, &reason, final_verdict));
        self.end(End::Reboot, now);
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
        self.shutdown = Some(Shutdown::new(end, now));
    }

    /// One step on the way down, once it has begun.
    fn go_down(&mut self, now: u64) {
        let Some(shutdown) = &mut self.shutdown else { return };
        if self.ending.is_some() || !shutdown.step(&mut self.supervisor, now) {
            return;
        }
        if self.helpers.are_writing() {
            return;
        }
        self.ending = Some(shutdown.end);
        if let Some(shell) = &mut self.shell {
            shell.close();
        }
        let time = self.clock.now_if_known();
        let started = self.helpers.start(Task::Unmount, now, || {
            if let Some(time) = time {
                let _ = crate::clock::save(time);
            }
            rustix::fs::sync();
            let _ = rustix::mount::unmount(data::MOUNT, rustix::mount::UnmountFlags::empty());
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

fn unknown(name: &str) -> Answer {
    Answer::error(&["no workload is named ", name, "; see `ctl status`"].concat())
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
