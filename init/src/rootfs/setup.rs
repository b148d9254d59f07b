//! From PID 1's first step to everything the loop works on.

use formats::layout;
use formats::run_slot::RunSlot;
use formats::{Error, Result};
use rustix::system::{RebootCommand, reboot};

use super::Init;
use crate::boot_state::assessment::BootAssessment;
use crate::boot_state::failure;
use crate::boot_state::requests::BootRequests;
use crate::clock::Clock;
use crate::console::say;
use crate::debug_programs::DebugPrograms;
use crate::helper::{Helpers, Task};
use crate::media::Media;
use crate::network::Network;
use crate::rootfs::{mounts, readahead};
use crate::system_conf::System;
use crate::watchdog::Watchdog;
use crate::wireless::Wireless;
use crate::workload::startup_gate::StartupGate;
use crate::workload::supervise::Supervisor;
use crate::{control, data, devices, sys, uptime};

/// Reads what the initrd found.
pub fn booted() -> Result<RunSlot> {
    std::fs::read(layout::RUN_SLOT)
        .map_err(|e| Error::new(e.to_string()))
        .and_then(|text| RunSlot::parse(&text))
        .map_err(|e| e.within(layout::RUN_SLOT))
}

/// From PID 1 to the first workload, step by step.
pub fn start(booted: &RunSlot) -> Result<Init> {
    let now = uptime::now();
    let text = std::fs::read(layout::SYSTEM_CONF)
        .map_err(|e| Error::new([layout::SYSTEM_CONF, ": ", &e.to_string()].concat()))?;
    let mut system = System::parse(&text).map_err(|e| e.within(layout::SYSTEM_CONF))?;
    drop(text);
    let watchdog = take_watchdog(&system);
    let mut supervisor = Supervisor::new(std::mem::take(&mut system.workloads), now);
    supervisor.conditions.first_only = true;
    let mut helpers = Helpers::default();
    helpers.start(Task::ReadAhead, now, || readahead::work(&system.read_ahead));
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
    Ok(Init {
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
        assessment: BootAssessment::new(booted.boot, now + system.trial_timeout),
        trial_waits: String::new(),
        startup_gate: StartupGate::begin(now),
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
    Watchdog::adopt(named.map_or(SECONDS, |named| named.seconds)).or_else(|| {
        let named = named?;
        Watchdog::arm(&named.device, named.seconds).map_err(|e| say(&[&e.to_string()])).ok()
    })
}
