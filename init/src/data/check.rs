//! Checking and making the file system, by the programs of e2fsprogs.

use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

use formats::{Error, Result, layout};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, waitpid};

use super::error;
use crate::sys::{self, Forked};

const E2FSCK: &str = "/sbin/e2fsck";
const MKE2FS: &str = "/sbin/mke2fs";
/// How often what it could not repair at once is tried.
const CHECKS: u32 = 3;

/// e2fsck's exit status: 1 and 2 corrected, 4 errors left, 8 could not do its work (e2fsck(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i32);

impl Status {
    /// The file system is in order now.
    pub fn usable(self) -> bool {
        (0..=3).contains(&self.0)
    }

    /// There are errors in it that could not be repaired.
    pub fn left_errors(self) -> bool {
        self.0 & 4 != 0
    }

    /// It was killed, or cancelled: what it left is half repaired.
    pub fn did_not_end(self) -> bool {
        self.0 >= 16
    }
}

/// Whether a file system that did not become usable may be made afresh. `checked`: how the check
/// ended, if it ran; `is_whole`: its superblock has the right checksum.
///
/// Only what is damaged: one whose superblock is whole, and that the check has nothing against or
/// cannot read (made by a newer version, or on a medium that fails), may be somebody's data still.
pub fn may_be_made_afresh(checked: Option<Status>, is_whole: bool) -> bool {
    match checked {
        // Without the program nothing was found out.
        None => false,
        Some(status) if status.usable() => !is_whole,
        // It could not do its work, or did not come to its end.
        Some(Status(8)) => !is_whole,
        Some(Status(status)) => status < 8,
    }
}

/// Whether a mount fails so for what the kernel lacks (a feature, the quotas' module, the file system
/// itself), and not for what the medium does.
pub fn is_unsupported(errno: Errno) -> bool {
    [Errno::INVAL, Errno::SRCH, Errno::NODEV, Errno::NOSYS, Errno::OPNOTSUPP].contains(&errno)
}

/// Repairs what can be repaired without asking; then everything. Also where the kernel has noted
/// errors that the state does not tell of.
pub fn check(node: &str) -> Result<Status> {
    let preen = run(&[E2FSCK, "-f", "-p", node])?;
    if preen <= 1 {
        return Ok(Status(preen));
    }
    // After it has replayed the journal over a superblock from a backup it stops, and needs to be
    // run again.
    let mut status = 0;
    for _ in 0..CHECKS {
        status = run(&[E2FSCK, "-f", "-y", node])?;
        if status <= 3 {
            break;
        }
    }
    Ok(Status(status))
}

/// Makes a new file system; `quotas`: one that keeps account of what each user has.
pub fn make_afresh(node: &str, quotas: bool) -> Result<()> {
    // Blocks as `imager` makes them, whatever the size: with smaller ones a journal of the least
    // length holds no chown with quotas.
    let plain = [MKE2FS, "-F", "-q", "-t", "ext4", "-b", "4096", "-L", layout::DATA];
    let with: &[&str] = if quotas { &["-O", "quota", "-E", "quotatype=usrquota"] } else { &[] };
    match run(&[&plain, with, &[node]].concat())? {
        0 => Ok(()),
        status => Err(Error::new(["mke2fs ended with ", &status.to_string()].concat())),
    }
}

/// Runs a program to its end and returns its exit status. It does not outlive this helper, which
/// has a deadline.
fn run(command: &[&str]) -> Result<i32> {
    let program = command.first().copied().unwrap_or_default();
    if !Path::new(program).exists() {
        return Err(Error::new([program, " is not in the image"].concat()));
    }
    let arguments: Vec<CString> = command.iter().filter_map(|a| CString::new(*a).ok()).collect();
    match sys::fork(None).map_err(|e| error(program, e))? {
        Forked::Child => {
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            if let Some(path) = arguments.first() {
                sys::exec(path, &arguments, &[]);
            }
            sys::exit(127)
        }
        Forked::Parent(pid) => loop {
            match waitpid(Some(pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(status.exit_status().unwrap_or(128)),
                Ok(None) | Err(rustix::io::Errno::INTR) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(e) => return Err(error(program, e)),
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_damaged_is_made_afresh() {
        for (checked, is_whole, afresh) in [
            (None, false, false),
            // In order, and the kernel still does not take it: it lacks a feature.
            (Some(Status(0)), true, false),
            (Some(Status(1)), false, true),
            // Errors that cannot be repaired.
            (Some(Status(4)), true, true),
            (Some(Status(8)), false, true),
            // A feature that this e2fsck does not know, or a medium that does not answer.
            (Some(Status(8)), true, false),
            (Some(Status(12)), true, false),
        ] {
            assert_eq!(may_be_made_afresh(checked, is_whole), afresh, "{checked:?} {is_whole}");
        }
    }
}
