//! Work that may block (disks, modules, locks) is done by a forked copy of PID 1, so that PID 1
//! keeps turning over. What came of it is the helper's exit status.

use formats::Result;
use rustix::process::{Pid, Signal, kill_process};

use crate::console::{self, say};
use crate::sys::{self, Forked};

/// What a helper is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Mounts the data partition if that is all it needs: the initrd's assistant.
    Assistant,
    /// Reads what the first workloads will need, and switches the loopback on.
    Ahead,
    /// Loads the kernel modules of `system.conf`.
    Modules,
    /// Makes `/data` ready.
    Data,
    /// Mounts memory in the place of `/data`.
    Volatile,
    /// Lets `/data` grow.
    Growth,
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
    fn patience(self) -> u64 {
        match self {
            // A driver that hangs in its probe must not hold the rest up for ever.
            Task::Assistant | Task::Ahead | Task::Modules => 120_000,
            // A check of a large card takes minutes.
            Task::Data | Task::Growth => 15 * 60_000,
            // A stick that does not answer is asked again by the kernel for a while.
            Task::Media(_) | Task::Volatile => 60_000,
            Task::Write | Task::BootState(_) | Task::Unmount => WRITE_PATIENCE,
        }
    }
}

/// The nice value of helpers that are not waited for.
const YIELDING: i32 = 10;
/// Writing a few sectors, and dying, may take so many milliseconds.
const WRITE_PATIENCE: u64 = 20_000;

#[derive(Debug)]
struct Helper {
    task: Task,
    pid: Pid,
    deadline: u64,
}

/// The running helpers.
#[derive(Debug, Default)]
pub struct Helpers(Vec<Helper>);

impl Helpers {
    /// Forks and runs `work`, which says on the console what went wrong. False when no process can
    /// be made.
    pub fn start(&mut self, task: Task, now: u64, work: impl FnOnce() -> Result<()>) -> bool {
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
                let result = work();
                if let Err(e) = &result {
                    say(&[&e.to_string()]);
                }
                console::flush();
                sys::exit(i32::from(result.is_err()))
            }
            Err(e) => {
                say(&["cannot fork: ", &e.to_string()]);
                false
            }
        }
    }

    /// Takes over a process that works already.
    pub fn adopt(&mut self, task: Task, pid: Pid, now: u64) {
        self.0.push(Helper { task, pid, deadline: now + task.patience() });
    }

    /// What the process that ended was for, if it was a helper.
    pub fn ended(&mut self, pid: Pid) -> Option<Task> {
        let at = self.0.iter().position(|helper| helper.pid == pid)?;
        Some(self.0.swap_remove(at).task)
    }

    /// When the next one has had enough time.
    pub fn deadline(&self) -> Option<u64> {
        self.0.iter().map(|helper| helper.deadline).min()
    }

    /// Kills those that took too long; their end is reported as any other. Returns their tasks.
    pub fn kill_late(&mut self, now: u64) -> Vec<Task> {
        let late = self.0.iter_mut().filter(|helper| now >= helper.deadline);
        late.map(|helper| {
            let _ = kill_process(helper.pid, Signal::KILL);
            helper.deadline = now + WRITE_PATIENCE;
            helper.task
        })
        .collect()
    }

    /// Lets a task that may be broken off take no longer than a write does from now on.
    pub fn hurry(&mut self, task: Task, now: u64) {
        for helper in self.0.iter_mut().filter(|helper| helper.task == task) {
            helper.deadline = helper.deadline.min(now + WRITE_PATIENCE);
        }
    }

    /// Whether something is being written to the disk.
    pub fn are_writing(&self) -> bool {
        self.0.iter().any(|helper| {
            matches!(helper.task, Task::Write | Task::BootState(_) | Task::Data | Task::Growth)
        })
    }
}
