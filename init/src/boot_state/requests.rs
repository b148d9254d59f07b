//! The boot state, changed on request: only PID 1 writes it. A helper reads and verifies what the
//! rules of [`formats::boot_request`] go by, changes the state, and leaves its answer in a pipe; PID 1
//! hands that on when the helper has ended, so that it never waits for a medium.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use formats::boot_request::{self, BootRequest, Facts};
use formats::boot_state_store::Running;
use formats::control::{Request, Verb};
use formats::layout::{self, Slot};
use formats::manifest::{Header, TrustedKeys};
use formats::medium::DeviceFolder;
use formats::{Error, Result, boot_chooser, boot_state_store};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::boot_state::slot_header;
use crate::control::Answer;
use crate::helper::{Helpers, Task};
use crate::sys;
use crate::system_conf::Workload;

/// The longest answer, in bytes: much less than a pipe holds, so a helper never waits for PID 1.
const MAX_ANSWER: usize = 4096;
/// Files in the folder of keys that are looked at, as `ota` does.
const MAX_KEYS: usize = 64;
/// The longest file with a key, in bytes.
const MAX_KEY_FILE: u64 = 1024;

/// What somebody may ask over the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights<'a> {
    /// Everything.
    Root,
    /// These, and nothing else.
    Only(&'a [Verb]),
    /// All but the boot state: whoever else the socket's group lets in.
    Steering,
}

impl Rights<'_> {
    /// The rights of the user `peer`, as the kernel names the other end of its connection.
    pub fn of<'w>(peer: u32, workloads: impl IntoIterator<Item = &'w Workload>) -> Rights<'w> {
        if peer == 0 {
            return Rights::Root;
        }
        let mut workloads = workloads.into_iter();
        let asker = workloads.find(|workload| workload.uid == peer && !workload.asks.is_empty());
        asker.map_or(Rights::Steering, |asker| Rights::Only(&asker.asks))
    }

    /// Whether they include this. `armed`: the idle slot's trial is armed. Without that, a
    /// program that only updates has no reason to reboot the device.
    pub fn allow(self, request: &Request, armed: bool) -> bool {
        match self {
            Rights::Root => true,
            Rights::Only(_) if matches!(request, Request::Reboot) && !armed => false,
            Rights::Only(asks) => asks.contains(&request.verb()),
            Rights::Steering => !matches!(request, Request::Boot(_)),
        }
    }
}

/// What PID 1 knows of the moment at which it was asked.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Name of the boot chooser.
    pub chooser: String,
    /// The slot that runs, and as what it was booted.
    pub running: Running,
    /// Every vital workload is ready and healthy.
    pub healthy: bool,
    /// Root asks.
    pub person: bool,
}

#[derive(Debug)]
struct Pending {
    ticket: u32,
    client: u64,
    running: Slot,
    answer: OwnedFd,
}

/// The requests that helpers work on; at most one for each connection.
#[derive(Debug, Default)]
pub struct BootRequests {
    pending: Vec<Pending>,
    last_ticket: u32,
    armed: bool,
    committed: bool,
}

/// So many requests are worked on at a time.
const MOST_HELPERS: usize = 8;

impl BootRequests {
    /// Has a helper work on what the client of this number asked. Gives the answer to send at once
    /// when that cannot be done.
    pub fn start(
        &mut self,
        helpers: &mut Helpers,
        client: u64,
        request: BootRequest,
        moment: Moment,
        now: u64,
    ) -> std::result::Result<(), Answer> {
        // A client that leaves does not end its helper.
        if self.pending.len() >= MOST_HELPERS {
            return Err(Answer::error("too many ask for the boot state; try again"));
        }
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let (answer, write) = pipe.map_err(|e| Answer::error(&e.to_string()))?;
        self.last_ticket = self.last_ticket.wrapping_add(1);
        let ticket = self.last_ticket;
        let running = moment.running.0;
        let work = || {
            let result = carry_out(request, &moment);
            let text = match &result {
                Ok(body) => Answer::ok(body).text,
                Err(e) => Answer::error(&e.to_string()).text,
            };
            // PID 1 holds the other end; what it does not find there it calls a failure.
            let _ = File::from(write).write_all(&text);
            result.map(drop).map_err(|e| e.within(request.verb().word()))
        };
        if !helpers.start(Task::BootState(ticket), now, work) {
            return Err(Answer::error("no process can be made now"));
        }
        self.pending.push(Pending { ticket, client, running, answer });
        Ok(())
    }

    /// A helper ended: which client gets what.
    pub fn ended(&mut self, ticket: u32, success: bool) -> Option<(u64, Answer)> {
        let at = self.pending.iter().position(|pending| pending.ticket == ticket)?;
        let Pending { client, running, answer, .. } = self.pending.swap_remove(at);
        let mut text = vec![0; MAX_ANSWER];
        let length = sys::read_ready(&answer, &mut text).unwrap_or(0);
        text.truncate(length);
        if text.is_empty() {
            return Some((client, Answer::error("the boot state could not be changed in time")));
        }
        if let (true, Ok(state)) = (success, boot_request::parse_answer(&text)) {
            self.armed = state.trial == Some(running.other()) && state.tries > 0;
            self.committed = state.active == running;
        }
        Some((client, Answer { text, log: None }))
    }

    /// A trial is armed, as far as the last request has shown: there is something to reboot into.
    pub fn have_armed(&self) -> bool {
        self.armed
    }

    /// What runs is the active slot, as far as the last request has shown.
    pub fn is_committed(&self) -> bool {
        self.committed
    }
}

/// In a helper: does what is asked, if the rules grant it. Gives the body of the answer.
fn carry_out(request: BootRequest, moment: &Moment) -> Result<String> {
    let partitions = DeviceFolder::shared(Path::new(layout::DEVICES));
    let header = std::fs::read(layout::RUN_SLOT_HEADER)
        .map_err(|e| Error::new([layout::RUN_SLOT_HEADER, ": ", &e.to_string()].concat()))?;
    // The initrd has verified it, and nobody else writes there.
    let manifest = Header::new(&header).and_then(|header| header.verified_before())?;
    let idle = if request.needs_idle() {
        let keys = trusted_keys(Path::new(layout::MANIFEST_KEYS))?;
        slot_header::manifest(&*partitions, moment.running.0.other(), &keys)
    } else {
        None
    };
    let facts = Facts {
        running: moment.running.0,
        manifest: &manifest,
        idle: idle.as_ref(),
        healthy: moment.healthy,
        person: moment.person,
    };
    let chooser = boot_chooser::open_on(&moment.chooser, partitions, moment.running)?;
    let state = match request {
        BootRequest::State => chooser.load()?,
        _ => {
            let mut verdict = Ok(());
            let lock = Path::new(layout::RUN_BOOT_STATE_LOCK);
            let state = boot_state_store::update(&*chooser, lock, |state| {
                verdict = request.apply(state, &facts);
            })?;
            verdict?;
            state
        }
    };
    Ok(boot_request::answer(&state))
}

/// The keys that the verified root carries. None at all is an image without updates, on which
/// nothing verifies.
fn trusted_keys(folder: &Path) -> Result<TrustedKeys> {
    let error =
        |e: std::io::Error| Error::new([layout::MANIFEST_KEYS, ": ", &e.to_string()].concat());
    let mut keys = TrustedKeys::default();
    for entry in std::fs::read_dir(folder).map_err(error)?.take(MAX_KEYS) {
        let mut text = String::new();
        let file = File::open(entry.map_err(error)?.path()).map_err(error)?;
        file.take(MAX_KEY_FILE).read_to_string(&mut text).map_err(error)?;
        keys.add_hex(text.trim()).map_err(|e| e.within(layout::MANIFEST_KEYS))?;
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_conf::{self, tests::*};
    use formats::boot_state::BootState;

    fn workloads() -> Vec<Workload> {
        let text = with(&format!(
            "[workload ota]\n{PLAIN}ask health\nask reboot\nask boot-commit\n\
             [workload camera]\n{}group 900\n",
            PLAIN.replace("10001", "10002")
        ));
        system_conf::System::parse(text.as_bytes()).unwrap().workloads
    }

    fn asked(line: &str) -> Request {
        Request::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn who_may_ask_follows_from_the_user_that_the_kernel_names() {
        let workloads = workloads();
        let may = |user, line: &str| Rights::of(user, &workloads).allow(&asked(line), true);
        let boot = ["boot-state", "boot-begin-install", "boot-arm b 3", "boot-commit"];
        for line in boot.into_iter().chain(["status", "logs ota", "reboot", "boot-clear-trial"]) {
            assert!(may(0, line), "root, {line}");
        }
        for (line, allowed) in [
            ("health", true),
            ("reboot", true),
            ("boot-commit", true),
            ("boot-arm b 3", false),
            ("status", false),
            ("stop camera", false),
            ("poweroff", false),
        ] {
            assert_eq!(may(10001, line), allowed, "ota, {line}");
        }
        // In the group of the socket, or nobody that is known.
        for user in [10002, 4711, u32::MAX] {
            assert!(boot.iter().all(|line| !may(user, line)), "{user}");
            assert!(may(user, "status") && may(user, "restart camera") && may(user, "reboot"));
        }
    }

    #[test]
    fn who_only_updates_reboots_into_what_was_armed_and_not_at_will() {
        let workloads = workloads();
        let may = |user, armed| Rights::of(user, &workloads).allow(&Request::Reboot, armed);
        assert!(may(10001, true) && !may(10001, false));
        assert!(may(0, false) && may(10002, false));
    }

    #[test]
    fn a_commit_that_was_granted_ends_the_trial() {
        let mut on_trial = BootState::fresh();
        on_trial.arm(Slot::B, 3);
        let mut committed = on_trial.clone();
        committed.commit(Slot::B);
        for (state, ended) in [(on_trial, false), (committed, true)] {
            let (answer, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let text = Answer::ok(&boot_request::answer(&state)).text;
            File::from(write).write_all(&text).unwrap();
            let mut requests = BootRequests::default();
            requests.pending.push(Pending { ticket: 1, client: 7, running: Slot::B, answer });
            assert_eq!(requests.ended(1, true).map(|(client, _)| client), Some(7));
            assert_eq!(requests.is_committed(), ended);
        }
    }

    #[test]
    fn a_key_that_is_none_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(trusted_keys(dir.path()).unwrap().is_empty());
        std::fs::write(dir.path().join("0"), "not a key\n").unwrap();
        assert!(trusted_keys(dir.path()).is_err());
        assert!(trusted_keys(&dir.path().join("none")).is_err());
    }
}
