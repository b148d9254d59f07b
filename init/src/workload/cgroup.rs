//! A workload's control group: limits, and an end for everything in it.

use std::cell::Cell;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use formats::{Error, Result};
use rustix::fs::{Mode, OFlags};

use crate::system_conf::Workload;

/// Where cgroup2 is mounted.
pub const MOUNT: &str = "/sys/fs/cgroup";

fn error(path: &str, e: &dyn std::fmt::Display) -> Error {
    Error::new([path, ": ", &e.to_string()].concat())
}

/// An open control group.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    folder: OwnedFd,
    killed: Cell<bool>,
}

impl Cgroup {
    /// Makes (or finds) the group of a workload and writes its limits.
    pub fn open(workload: &Workload) -> Result<Cgroup> {
        // No control file of the kernel starts with this, whatever a workload is called.
        let group = Cgroup::make([MOUNT, "/workload-", &workload.name].concat())?;
        let limit = |value: Option<u64>| value.map_or("max".to_string(), |v| v.to_string());
        for (file, value) in [
            ("/memory.max", limit(workload.memory_max)),
            ("/memory.oom.group", "1".to_string()),
            ("/pids.max", limit(workload.pids_max)),
        ] {
            fs::write([&group.path, file].concat(), value)
                .map_err(|e| error(&[&group.path, file].concat(), &e))?;
        }
        Ok(group)
    }

    /// Makes (or finds) the group of the workload's health command within this one. This one's
    /// limits hold for both together, and its end is the end of both.
    pub fn open_check(&self) -> Result<Cgroup> {
        Cgroup::make([&self.path, "/check"].concat())
    }

    fn make(path: String) -> Result<Cgroup> {
        let existed = match fs::create_dir(&path) {
            Ok(()) => false,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => true,
            Err(e) => return Err(error(&path, &e)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder =
            rustix::fs::open(path.as_str(), flags, Mode::empty()).map_err(|e| error(&path, &e))?;
        // Whether it was ever killed before is not known then.
        Ok(Cgroup { path, folder, killed: Cell::new(existed) })
    }

    /// The folder, for starting a process in it; `None` when a process has to [`Cgroup::join`].
    ///
    /// Linux (7.2) takes a process that is cloned into a group for one that escaped from the kill
    /// if that group was ever killed, and kills it: it compares the kill count of the group with
    /// that of the parent's group.
    pub fn folder(&self) -> Option<BorrowedFd<'_>> {
        (!self.killed.get()).then(|| self.folder.as_fd())
    }

    /// In a child that was not started in the group: moves it there.
    pub fn join(&self) -> std::io::Result<()> {
        if self.killed.get() {
            fs::write([&self.path, "/cgroup.procs"].concat(), "0")?;
        }
        Ok(())
    }

    /// Whether a process is in it, one that ended and waits to be reaped aside.
    pub fn is_populated(&self) -> bool {
        let events = fs::read_to_string([&self.path, "/cgroup.events"].concat());
        // Where the kernel does not say: a kill too many does no harm.
        !events.is_ok_and(|events| events.lines().any(|line| line == "populated 0"))
    }

    /// Kills every process in the group and in those within it.
    pub fn kill(&self) {
        self.killed.set(true);
        // Fails only when the group is gone, and its processes with it.
        let _ = fs::write([&self.path, "/cgroup.kill"].concat(), "1");
    }

    /// Bytes of memory in use and the most that were, where the kernel counts them.
    pub fn memory(&self) -> (Option<u64>, Option<u64>) {
        let read =
            |file: &str| fs::read_to_string([&self.path, file].concat()).ok()?.trim().parse().ok();
        (read("/memory.current"), read("/memory.peak"))
    }
}
