//! From PID 1's first step to everything the loop works on.

use formats::layout::{self, Slot};
use formats::{Error, Result, boot_state_store, conf};
use rustix::system::{RebootCommand, reboot};

use super::Life;
use crate::boot_state_requests::BootRequests;
use crate::clock::Clock;
use crate::console::say;
use crate::debug_programs::DebugPrograms;
use crate::helper::{Helpers, Task};
use crate::media::Media;
use crate::network::Network;
use crate::system_conf::{self, System};
use crate::trial::{Kind, Probation};
use crate::watchdog::Watchdog;
use crate::wireless::Wireless;
use crate::workload::precedence::Precedence;
use crate::workload::supervise::Supervisor;
use crate::{ahead, control, data, devices, failure, mounts, sys, uptime};

/// What was booted, from `/run/ferrite/slot`.
#[derive(Clone)]
pub struct Booted {
    pub slot: Slot,
    pub kind: Kind,
    pub disk: String,
    /// Name of the chooser that keeps the boot state.
    pub chooser: String,
    pub facts: Vec<(String, String)>,
}

impl Booted {
    /// The slot, and as what it was booted.
    pub fn running(&self) -> boot_state_store::Running {
        (self.slot, self.kind)
    }
}

/// Reads what the initrd found.
pub fn booted() -> Result<Booted> {
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
        chooser: get("chooser")?.value.to_string(),
        facts: pairs.collect(),
    })
}

/// The road from PID 1 to the first workload.
pub fn start(booted: &Booted) -> Result<Life> {
    let now = uptime::now();
    let text = std::fs::read(layout::SYSTEM_CONF)
        .map_err(|e| Error::new([layout::SYSTEM_CONF, ": ", &e.to_string()].concat()))?;
    let mut system = system_conf::parse(&text).map_err(|e| e.within(layout::SYSTEM_CONF))?;
    drop(text);
    let watchdog = take_watchdog(&system);
    let mut supervisor = Supervisor::new(std::mem::take(&mut system.workloads), now);
    supervisor.surroundings.first_only = true;
    let mut helpers = Helpers::default();
    helpers.start(Task::Ahead, now, || ahead::work(&system.read_ahead));
    mounts::all(system.media)?;
    // Ctrl-Alt-Del becomes a signal to PID 1 instead of a reset.
    let _ = reboot(RebootCommand::CadOff);
    let signals = sys::signals().map_err(|e| Error::new(["signals: ", &e.to_string()].concat()))?;
    for (what, result) in [
        (
            "host name",
            rustix::system::sethostname(system.hostname.as_bytes()).map_err(|e| e.to_string()),
        ),
        ("devices", devices::open_slots(booted.slot).map_err(|e| e.to_string())),
        ("sockets", devices::socket_folders(&supervisor.units).map_err(|e| e.to_string())),
    ] {
        if let Err(e) = result {
            say(&[what, ": ", &e]);
        }
    }
    let debug = DebugPrograms::new(&system);
    supervisor.make_groups();
    supervisor.open_ports();
    supervisor.tick(now);

    let control = control::open().map_err(|e| say(&[&e.to_string()])).ok();
    let (name, running) = (booted.chooser.clone(), booted.running());
    helpers.start(Task::LastFailure, now, move || {
        failure::publish_note(&name, running).map_err(|e| e.within("last failure"))
    });
    Ok(Life {
        booted: booted.clone(),
        signals,
        watchdog,
        next_feed: now,
        supervisor,
        control,
        boot_requests: BootRequests::default(),
        network: Network::new(
            system.dhcp,
            system.radio.as_ref().map(|radio| radio.interface.clone()),
        ),
        wireless: Wireless::new(system.radio.take()),
        modules: Some(std::mem::take(&mut system.modules)),
        media: match system.media {
            true => Media::open(booted.disk.trim_start_matches("/dev/")),
            false => Media::default(),
        },
        clock: Clock::new(&system.ntp, system.build_date),
        debug,
        data: data::kept(),
        data_watch: None,
        data_check_waits: false,
        helpers,
        probation: Probation::new(booted.kind, now + system.trial_timeout),
        trial_waits: String::new(),
        precedence: Precedence::begin(now),
        shutdown: None,
        ending: None,
        system,
    })
}

/// The initrd's watchdog, or a newly armed one where that failed. One that was handed over is
/// taken even if the configuration names none: it runs, and somebody has to feed it.
fn take_watchdog(system: &System) -> Option<Watchdog> {
    const SECONDS: u32 = 30;
    let named = system.watchdog.as_ref();
    Watchdog::adopt(named.map_or(SECONDS, |(_, seconds)| *seconds)).or_else(|| {
        let (device, seconds) = named?;
        Watchdog::arm(device, *seconds).map_err(|e| say(&[&e.to_string()])).ok()
    })
}
