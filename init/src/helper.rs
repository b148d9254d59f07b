//! Work that may block (disks, modules, locks) is done by a forked copy of PID 1, so that PID 1
//! keeps turning over. What came of it is the helper's exit status.
//!
//! Not even a helper that the kernel does not let go (a medium that never answers) is waited for: it is
//! killed at its deadline, and when it does not end of that, PID 1 goes on without it.

use formats::Result;
use rustix::process::{Pid, Signal, kill_process};

use crate::console::{self, say};
use crate::data::Partition;
use crate::sys::{self, Forked};

/// What a helper is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Mounts the data partition if that is all it needs: the initrd's boot worker.
    BootWorker,
    /// Reads what the first workloads will need, and switches the loopback on.
    ReadAhead,
    /// Loads the kernel modules of `system.conf`.
    Modules,
    /// Mounts the data partition if that is all it needs.
    Data,
    /// Makes `/data` ready, whatever that takes.
    Repair,
    /// Mounts memory in the place of `/data`.
    Volatile(Partition),
    /// Lets `/data` grow.
    Growth,
    /// Reads why the last boot failed.
    LastFailure,
    /// Reads whether the trial that runs is committed.
    TrialCheck,
    /// Writes the boot state or a file on `/data`.
    Write,
    /// Reads or changes the boot state for the request of this number.
    BootState(u32),
    /// Mounts or unmounts the removable medium of this number.
    Media(u32),
    /// Flushes and unmounts before a reset.
    Unmount,
}

impl Task {
    /// Whether workloads that start at the same time go first.
    fn yields(self) -> bool {
        matches!(self, Task::Modules | Task::Growth | Task::Media(_))
    }

    /// Milliseconds after which it is killed.
    fn timeout(self) -> u64 {
        match self {
            // A driver that hangs in its probe must not hold the rest up for ever, and a mount is at
            // most a journal's replay.
            Task::BootWorker | Task::ReadAhead | Task::Modules | Task::Data => 120_000,
            // A check of a large card takes minutes.
            Task::Repair | Task::Growth => 15 * 60_000,
            // A stick that does not answer is asked again by the kernel for a while.
            Task::Media(_) | Task::Volatile(_) => 60_000,
            Task::LastFailure
            | Task::TrialCheck
            | Task::Write
            | Task::BootState(_)
            | Task::Unmount => WRITE_TIMEOUT,
        }
    }

    /// What it does, for people.
    pub fn what(self) -> &'static str {
        match self {
            Task::BootWorker => "loading kernel modules and mounting the data partition",
            Task::ReadAhead => "reading ahead",
            Task::Modules => "loading kernel modules",
            Task::Data => "mounting the data partition",
            Task::Repair => "checking the data partition",
            Task::Volatile(_) => "mounting memory as /data",
            Task::Growth => "growing the data partition",
            Task::LastFailure | Task::TrialCheck => "reading the boot state",
            Task::Write => "writing the boot state or /data",
            Task::BootState(_) => "changing the boot state",
            Task::Media(_) => "mounting or unmounting a removable medium",
            Task::Unmount => "unmounting",
        }
    }
}

/// The nice value of helpers that are not waited for.
const YIELDING: i32 = 10;
/// Writing a few sectors, and dying, may take so many milliseconds.
const WRITE_TIMEOUT: u64 = 20_000;
/// Milliseconds within which a killed process ends, unless the kernel holds it.
const KILL_TIMEOUT: u64 = 10_000;

#[derive(Debug)]
struct Helper {
    task: Task,
    pid: Pid,
    deadline: u64,
    killed: bool,
}

/// A helper that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It was killed; its end is reported as any other.
    Killed(Task),
    /// Killing did not end it: the kernel holds it, and nothing more is expected of it.
    Stuck(Task),
}

/// The running helpers.
#[derive(Debug, Default)]
pub struct Helpers {
    running: Vec<Helper>,
    stuck: Vec<Helper>,
}

impl Helpers {
    /// Forks and runs `work`; what went wrong is said on the console. False when no process can be
    /// made.
    pub fn start(&mut self, task: Task, now: u64, work: impl FnOnce() -> Result<()>) -> bool {
        self.ask(task, now, || work().map_err(|e| say(&[&e.to_string()])).is_ok())
    }

    /// As [`Helpers::start`], for a question: whether the helper succeeds is the answer.
    pub fn ask(&mut self, task: Task, now: u64, work: impl FnOnce() -> bool) -> bool {
        match sys::fork(None) {
            Ok(Forked::Parent(pid)) => {
                self.adopt(task, pid, now);
                true
            }
            Ok(Forked::Child) => {
                sys::default_signals();
                if task.yields() {
                    let _ = rustix::process::nice(YIELDING);
                }
                let success = work();
                console::flush();
                sys::exit(i32::from(!success))
            }
            Err(e) => {
                say(&["cannot fork: ", &e.to_string()]);
                false
            }
        }
    }

    /// Takes over a process that works already.
    pub fn adopt(&mut self, task: Task, pid: Pid, now: u64) {
        self.running.push(Helper { task, pid, deadline: now + task.timeout(), killed: false });
    }

    /// What the process that ended was for, if it was a helper that is waited for.
    pub fn ended(&mut self, pid: Pid) -> Option<Task> {
        self.stuck.retain(|helper| helper.pid != pid);
        let at = self.running.iter().position(|helper| helper.pid == pid)?;
        Some(self.running.swap_remove(at).task)
    }

    /// When the next one has had enough time.
    pub fn deadline(&self) -> Option<u64> {
        self.running.iter().map(|helper| helper.deadline).min()
    }

    /// Kills those that took too long, and gives up those that do not end of it.
    pub fn kill_late(&mut self, now: u64) -> Vec<Late> {
        let mut late = Vec::new();
        while let Some(at) = self.running.iter().position(|helper| now >= helper.deadline) {
            let mut helper = self.running.swap_remove(at);
            if helper.killed {
                late.push(Late::Stuck(helper.task));
                self.stuck.push(helper);
            } else {
                let _ = kill_process(helper.pid, Signal::KILL);
                late.push(Late::Killed(helper.task));
                helper.killed = true;
                helper.deadline = now.saturating_add(KILL_TIMEOUT);
                self.running.push(helper);
            }
        }
        late
    }

    /// What those do that the kernel does not let go.
    pub fn stuck(&self) -> Vec<&'static str> {
        self.stuck.iter().map(|helper| helper.task.what()).collect()
    }

    /// Lets a task that may be broken off take no longer than a write does from now on.
    pub fn hurry(&mut self, task: Task, now: u64) {
        for helper in self.running.iter_mut().filter(|helper| helper.task == task) {
            helper.deadline = helper.deadline.min(now + WRITE_TIMEOUT);
        }
    }

    /// Whether something is being written to the disk.
    pub fn are_writing(&self) -> bool {
        self.running.iter().any(|helper| {
            matches!(
                helper.task,
                Task::Write | Task::BootState(_) | Task::Data | Task::Repair | Task::Growth
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process to be killed, which nobody takes: as one that the kernel holds, its end is never
    /// reported.
    fn process() -> (std::process::Child, Pid) {
        let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    #[test]
    fn what_the_kernel_does_not_let_go_is_not_waited_for() {
        let (mut child, pid) = process();
        let mut helpers = Helpers::default();
        helpers.adopt(Task::Data, pid, 1_000);
        let deadline = helpers.deadline().unwrap();
        assert_eq!(helpers.kill_late(deadline - 1), []);
        assert_eq!(helpers.kill_late(deadline), [Late::Killed(Task::Data)]);
        assert!(helpers.are_writing() && helpers.stuck().is_empty());
        let given_up = helpers.deadline().unwrap();
        assert_eq!(given_up, deadline + KILL_TIMEOUT);
        assert_eq!(helpers.kill_late(given_up - 1), []);
        assert_eq!(helpers.kill_late(given_up), [Late::Stuck(Task::Data)]);
        assert_eq!(helpers.deadline(), None);
        assert!(!helpers.are_writing(), "a shutdown goes on");
        assert_eq!(helpers.stuck(), ["mounting the data partition"]);
        assert_eq!(helpers.kill_late(u64::MAX), []);
        child.wait().unwrap();
        assert_eq!(helpers.ended(pid), None, "nobody asks any more");
        assert!(helpers.stuck().is_empty());
    }

    #[test]
    fn what_ends_when_it_is_killed_is_reported_as_any_other() {
        let (mut child, pid) = process();
        let mut helpers = Helpers::default();
        helpers.adopt(Task::Write, pid, 0);
        assert_eq!(helpers.kill_late(WRITE_TIMEOUT), [Late::Killed(Task::Write)]);
        child.wait().unwrap();
        assert_eq!(helpers.ended(pid), Some(Task::Write));
        assert_eq!(helpers.kill_late(u64::MAX), []);
    }
}
