//! The initrd's second process. It halves the time that modules take, and makes the data
//! partition ready while the slot is being verified; the rootfs waits for its end.
//!
//! Modules that need one another form a *chain*, in load order. Chains need nothing of each other.

use std::os::fd::OwnedFd;

use formats::Result;
use formats::boot_conf::ModuleChain;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::console::say;
use crate::modules::{Module, load_chain};
use crate::sys::{self, Forked};
use crate::{data, modules};

/// Environment variable that tells the rootfs which process this is.
const HANDED: &str = "FERRITE_BOOT_WORKER";
/// PID 1's word that the slot is verified.
const VERIFIED: u8 = b'v';

/// PID 1's side of the boot worker.
#[derive(Debug)]
pub struct BootWorker {
    pid: Pid,
    go: OwnedFd,
}

impl BootWorker {
    /// Lets it mount the data partition, which nothing touches before the slot is verified.
    pub fn slot_is_verified(&self) {
        let _ = rustix::io::write(&self.go, &[VERIFIED]);
    }

    /// What goes into the rootfs's environment.
    pub fn hand_over(&self) -> String {
        [HANDED, "=", &self.pid.as_raw_nonzero().to_string()].concat()
    }
}

/// The boot worker that the initrd left behind.
pub fn adopt() -> Option<Pid> {
    std::env::var(HANDED).ok()?.parse().ok().and_then(Pid::from_raw)
}

/// Loads all `chains`, two at a time with the help of the boot worker, which then goes on with the
/// modules of `later`.
///
/// Disk drivers, which boards name first, wait for their disk, and checking a module's signature
/// keeps a processor busy. Where the two of them fail, everything is loaded one after the other
/// again, and the error is that of the first module that fails so.
pub fn load_modules(chains: &[ModuleChain], later: &[&str]) -> Result<Option<BootWorker>> {
    if let Some(boot_worker) = load_by_two(chains, later) {
        return Ok(Some(boot_worker));
    }
    chains.iter().try_for_each(|chain| load_chain(chain))?;
    for path in later {
        let _ = modules::load(path).map_err(|e| say(&[&e.to_string()]));
    }
    Ok(None)
}

/// `None` when no process could be made or a chain did not load.
fn load_by_two(chains: &[ModuleChain], later: &[&str]) -> Option<BootWorker> {
    let queue = queue(chains.len()).ok()?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).ok();
    let ((reports, report), (verified, go)) = (pipe()?, pipe()?);
    let pid = match sys::fork(None).ok()? {
        Forked::Child => {
            drop((reports, go));
            assist(&queue, report, &verified, chains, later)
        }
        Forked::Parent(pid) => pid,
    };
    drop(report);
    let mut missing = chains.len();
    while let Some(index) = next_byte(&queue) {
        load_chain(chains.get(usize::from(index))?).ok()?;
        missing -= 1;
    }
    (0..missing).try_for_each(|_| next_byte(&reports).map(drop))?;
    Some(BootWorker { pid, go })
}

/// A pipe with the index of each chain, which both processes take from until it is empty.
fn queue(chains: usize) -> rustix::io::Result<OwnedFd> {
    let (queue, fill) = pipe_with(PipeFlags::CLOEXEC)?;
    // The smallest pipe holds 4096 bytes: this does not block.
    for index in 0..u8::try_from(chains).map_err(|_| Errno::TOOBIG)? {
        rustix::io::write(&fill, &[index])?;
    }
    Ok(queue)
}

/// The next byte of a pipe; `None` at its end.
fn next_byte(pipe: &OwnedFd) -> Option<u8> {
    let mut byte = [0];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut byte));
    (read == Ok(1)).then_some(byte[0])
}

/// In the boot worker: takes chains from the queue as PID 1 does, and reports each that is loaded.
/// Its exit status is 0 when the data partition is mounted.
fn assist(
    queue: &OwnedFd,
    report: OwnedFd,
    verified: &OwnedFd,
    chains: &[ModuleChain],
    later: &[&str],
) -> ! {
    // PID 1 takes /dev along to the root and empties the initramfs while this goes on.
    let later: Vec<_> = later.iter().map(|path| Module::open(path)).collect();
    let _ = rustix::process::chdir("/dev");
    while let Some(index) = next_byte(queue) {
        let chain = chains.get(usize::from(index)).map_or(&[][..], Vec::as_slice);
        if load_chain(chain).is_err() {
            sys::exit(1);
        }
        let _ = rustix::io::write(&report, &[index]);
    }
    drop(report);
    if let Err(e) = later.into_iter().try_for_each(|module| module?.load()) {
        say(&[&e.to_string()]);
        sys::exit(1);
    }
    // The rootfs tries again, and says what is wrong with it.
    let mounted = next_byte(verified).is_some() && data::mount_early().is_ok();
    sys::exit(i32::from(!mounted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_gives_each_chain_once_and_then_ends() {
        let queue = queue(255).unwrap();
        assert!((0..255).all(|index| next_byte(&queue) == Some(index)));
        assert_eq!(next_byte(&queue), None);
        assert_eq!(super::queue(256).unwrap_err(), Errno::TOOBIG);
    }
}
