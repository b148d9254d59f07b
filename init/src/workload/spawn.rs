//! Starting a process of a workload: control group, own mounts, own user, no new privileges.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use formats::layout;
use formats::system_conf::MAX_PORTS;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::cgroup::Cgroup;
use super::ports::Ports;
use crate::beneath::Folder;
use crate::sys::{self, Forked};
use crate::system_conf::{Capability, NetworkAccess, Workload};
use crate::{data, media, quota};

/// Exit status of a child that could not become its program.
pub const CANNOT_START: i32 = 127;
/// The first descriptor behind the standard ones: listening sockets, then the one a workload says on
/// that it is ready (sd_listen_fds(3), `SD_LISTEN_FDS_START`).
const FIRST_FD: i32 = 3;
/// No descriptor from here on is given to a workload.
const FREE_FD: i32 = FIRST_FD + MAX_PORTS as i32 + 1;

/// A process that was started, and the pipes to it; all of them are non-blocking.
#[derive(Debug)]
pub struct Process {
    /// Its process id.
    pub pid: Pid,
    /// Its standard output and error, until the last holder closed them.
    pub output: Option<OwnedFd>,
    /// One newline: ready; each later one: a heartbeat.
    pub notify: Option<OwnedFd>,
    /// What went wrong before the program ran; closed without a byte when it runs.
    pub start: Option<OwnedFd>,
}

/// What to run in the place of a workload.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    /// Program and arguments.
    pub command: &'a [String],
    /// Gets the readiness descriptor.
    pub notifies: bool,
    /// Gets the sockets that listen on these.
    pub ports: Option<&'a Ports>,
}

/// Starts `program` as `workload`. Fails only when no process can be made now; what goes wrong in
/// the new process comes through [`Process::start`].
pub fn start(
    workload: &Workload,
    program: Program<'_>,
    cgroup: &Cgroup,
) -> std::io::Result<Process> {
    let (output, child_output) = pipe_with(PipeFlags::CLOEXEC)?;
    let (start, child_start) = pipe_with(PipeFlags::CLOEXEC)?;
    let (notify, child_notify) = if program.notifies {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        (Some(ours), Some(theirs))
    } else {
        (None, None)
    };
    for ours in [Some(&output), Some(&start), notify.as_ref()].into_iter().flatten() {
        rustix::fs::fcntl_setfl(ours, OFlags::NONBLOCK)?;
    }
    match sys::fork(cgroup.folder())? {
        Forked::Parent(pid) => {
            Ok(Process { pid, output: Some(output), notify, start: Some(start) })
        }
        Forked::Child => {
            // The pipe may have a number that the program's descriptors get.
            let report = fcntl_dupfd_cloexec(&child_start, FREE_FD).unwrap_or(child_start);
            let Err((step, error)) = become_program(
                workload,
                program,
                cgroup,
                child_output.as_fd(),
                child_notify.as_ref().map(|fd| fd.as_fd()),
            );
            let text = [step, ": ", &error.to_string()].concat();
            let _ = rustix::io::write(&report, text.as_bytes());
            sys::exit(CANNOT_START)
        }
    }
}

type Step = (&'static str, std::io::Error);

/// In the child: everything between fork and exec; names the step that fails.
fn become_program(
    workload: &Workload,
    program: Program<'_>,
    cgroup: &Cgroup,
    output: BorrowedFd<'_>,
    notify: Option<BorrowedFd<'_>>,
) -> Result<Infallible, Step> {
    let step = |name: &'static str| move |e: Errno| (name, std::io::Error::from(e));
    sys::default_signals();
    cgroup.join().map_err(|e| ("join the control group", e))?;
    rustix::process::setsid().map_err(step("new session"))?;
    // Opening /dev/stderr or /proc/self/fd/3 asks for rights on the pipe itself.
    for pipe in [Some(output), notify].into_iter().flatten() {
        let (uid, gid) = (Uid::from_raw(workload.uid), Gid::from_raw(workload.uid));
        rustix::fs::fchown(pipe, Some(uid), Some(gid)).map_err(step("hand over the pipes"))?;
    }
    let sockets: Vec<(u16, BorrowedFd<'_>)> = program
        .ports
        .iter()
        .flat_map(|ports| ports.sockets())
        .map(|(n, s)| (n, s.as_fd()))
        .collect();
    let handed = sockets.iter().map(|(_, socket)| *socket).chain(notify).collect::<Vec<_>>();
    if workload.network == NetworkAccess::Isolated {
        own_network(output)?;
    }
    own_mounts(workload)?;
    credentials(workload).map_err(step("set user and groups"))?;
    set_no_new_privs(true).map_err(step("no_new_privs"))?;
    // Behind all that says something: the console's descriptor may be among those replaced here, and
    // a line on the one for readiness would say that the workload is ready.
    descriptors(output, &handed).map_err(|e| ("descriptors", e))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let text = |strings: &[String]| -> Result<Vec<CString>, Step> {
        strings
            .iter()
            .map(|s| CString::new(s.as_str()).map_err(|e| ("arguments", e.into())))
            .collect()
    };
    let arguments = text(program.command)?;
    let numbers: Vec<u16> = sockets.iter().map(|(number, _)| *number).collect();
    let environment = text(&environment(workload, &numbers, notify.is_some()))?;
    sys::close_on_exec_from(FIRST_FD as u32 + handed.len() as u32)
        .map_err(|e| ("close descriptors", e))?;
    let path = arguments.first().ok_or(("no command", std::io::ErrorKind::InvalidInput.into()))?;
    Err(("cannot run the command", sys::exec(path, &arguments, &environment)))
}

/// The standard descriptors, then `handed` from [`FIRST_FD`] on.
fn descriptors(output: BorrowedFd<'_>, handed: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // None of them may be overwritten before its turn.
    let aside = |fd: &BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, FREE_FD);
    let (null, output) = (aside(&null.as_fd())?, aside(&output)?);
    let handed = handed.iter().map(aside).collect::<Vec<_>>();
    sys::duplicate_to(null.as_fd(), 0)?;
    sys::duplicate_to(output.as_fd(), 1)?;
    sys::duplicate_to(output.as_fd(), 2)?;
    for (number, fd) in (FIRST_FD..).zip(handed) {
        sys::duplicate_to(fd?.as_fd(), number)?;
    }
    Ok(())
}

/// A network of its own with nothing in it but a loopback that is down. A kernel that was built
/// without network name spaces has none to give: that must not end all updates.
fn own_network(output: BorrowedFd<'_>) -> Result<(), Step> {
    match sys::own_network() {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => {
            let said = b"this kernel has no network name spaces: not cut off from the network\n";
            let _ = rustix::io::write(output, said);
            Ok(())
        }
        result => result.map_err(|e| ("own network", e)),
    }
}

/// A private `/tmp`, as `/data` the workload's own folder or an empty one, and sticks only for those
/// that want them.
fn own_mounts(workload: &Workload) -> Result<(), Step> {
    let step = |name: &'static str| move |e: Errno| (name, std::io::Error::from(e));
    sys::own_mounts().map_err(|e| ("own mounts", e))?;
    if workload.media {
        // What is shared, the sticks' folder alone, keeps its news from PID 1; the rest is private.
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", slave).map_err(step("mounts that follow the sticks"))?;
    } else {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(step("private mounts"))?;
        match unmount(media::FOLDER, UnmountFlags::DETACH) {
            // Not a mount point, or not there: an image without sticks.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(e) => return Err(step("hide the sticks")(e)),
        }
    }
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    if workload.data {
        let folder = own_folder(workload)
            .map_err(|e| ("make its data folder", std::io::Error::other(e.to_string())))?;
        show(&folder).map_err(step("mount its data folder"))?;
    } else {
        let options = c"mode=0755,size=4k,nr_inodes=2";
        mount("tmpfs", "/data", "tmpfs", safe | MountFlags::RDONLY, options)
            .map_err(step("mount an empty /data"))?;
    }
    mount("tmpfs", "/tmp", "tmpfs", safe, c"mode=1777,size=25%").map_err(step("mount its /tmp"))
}

/// The workload's own folder on `/data`: made if it is missing, its user's, and with the limits that
/// were there before a step that could exceed them.
fn own_folder(workload: &Workload) -> formats::Result<Folder> {
    let (_, name) = layout::WORKLOADS.rsplit_once('/').unwrap_or_default();
    let folder = Folder::open(data::MOUNT)?.make(name, 0o711)?.make(&workload.name, 0o700)?;
    if let Some(limits) = quota::Limits::of(workload) {
        // Not every file system keeps account; that is said where `/data` grows.
        let _ = quota::limit(folder.as_fd(), &[limits]);
    }
    folder.give(workload.uid)?;
    Ok(folder)
}

/// Mounts the folder, and nothing that a path could lead to instead, as `/data`. Its own links are
/// the workload's to follow.
fn show(folder: &Folder) -> Result<(), Errno> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(folder, "", clone)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", rustix::fs::CWD, data::MOUNT, flags)?;
    let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    mount_remount(data::MOUNT, flags, "")
}

/// The kernel's set of these capabilities.
fn capabilities(all: &[Capability]) -> CapabilitySet {
    let each = all.iter().map(|capability| match capability {
        Capability::NetAdmin => CapabilitySet::NET_ADMIN,
        Capability::NetRaw => CapabilitySet::NET_RAW,
    });
    each.fold(CapabilitySet::empty(), CapabilitySet::union)
}

/// The workload's user and groups. Capabilities that it has are kept over the change of the user and,
/// as ambient ones, over the exec; `no_new_privs` does not touch those (capabilities(7)).
fn credentials(workload: &Workload) -> Result<(), Errno> {
    let kept = capabilities(&workload.capabilities);
    let groups: Vec<Gid> = workload.groups.iter().map(|id| Gid::from_raw(*id)).collect();
    let (uid, gid) = (Uid::from_raw(workload.uid), Gid::from_raw(workload.uid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    if kept.is_empty() {
        return set_thread_res_uid(uid, uid, uid);
    }
    set_keep_capabilities(true)?;
    set_thread_res_uid(uid, uid, uid)?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    set_capabilities(None, sets)?;
    for capability in kept {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// The environment of a workload that is handed sockets of these ports; what its own configuration
/// says comes last and wins. For the child alone: it says the child's process id.
fn environment(workload: &Workload, ports: &[u16], notifies: bool) -> Vec<String> {
    let mut all = vec![
        "PATH=/usr/bin:/bin:/usr/sbin:/sbin".to_string(),
        "HOME=/data".to_string(),
        "TMPDIR=/tmp".to_string(),
        ["FERRITE_WORKLOAD=", &workload.name].concat(),
    ];
    if !ports.is_empty() {
        let names: Vec<String> = ports.iter().map(u16::to_string).collect();
        all.push(["LISTEN_FDS=", &ports.len().to_string()].concat());
        all.push(["LISTEN_PID=", &std::process::id().to_string()].concat());
        all.push(["LISTEN_FDNAMES=", &names.join(":")].concat());
    }
    if notifies {
        let number = FIRST_FD as usize + ports.len();
        all.push([readiness::VARIABLE, "=", &number.to_string()].concat());
    }
    for own in &workload.environment {
        let key = own.split('=').next().unwrap_or_default();
        all.retain(|other| other.split('=').next() != Some(key));
        all.push(own.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_conf::{self, tests::*};

    #[test]
    fn a_workload_may_replace_a_default_variable() {
        let text = with(&format!("[workload x]\n{PLAIN}env PATH=/opt\nenv A=1\n"));
        let workload = system_conf::System::parse(text.as_bytes()).unwrap().workloads.remove(0);
        let all = environment(&workload, &[], true);
        assert_eq!(
            all.iter().filter(|v| v.starts_with("PATH=")).collect::<Vec<_>>(),
            ["PATH=/opt"]
        );
        assert!(all.contains(&"A=1".to_string()));
        assert!(all.contains(&"FERRITE_WORKLOAD=x".to_string()));
        assert!(all.contains(&"FERRITE_NOTIFY_FD=3".to_string()));
        assert!(!all.iter().any(|v| v.starts_with("LISTEN_")));
    }

    #[test]
    fn sockets_come_first_and_the_readiness_descriptor_behind_them() {
        let text = with(&format!("[workload x]\n{PLAIN}listen [::]:8080\nlisten [::]:9\n"));
        let workload = system_conf::System::parse(text.as_bytes()).unwrap().workloads.remove(0);
        let all = environment(&workload, &[8080, 9], true);
        for wanted in ["LISTEN_FDS=2", "LISTEN_FDNAMES=8080:9", "FERRITE_NOTIFY_FD=5"] {
            assert!(all.contains(&wanted.to_string()), "{wanted}: {all:?}");
        }
        assert!(all.contains(&format!("LISTEN_PID={}", std::process::id())));
    }
}
