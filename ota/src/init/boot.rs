//! The boot state, which PID 1 alone writes: asked for over its control socket on a device, changed
//! by the same rules right here where a test stands in for one.

use std::time::Duration;

use formats::boot_request::{self, BootRequest, Facts};
use formats::boot_state::BootState;
use formats::boot_state_store;
use formats::control::Request;

use crate::context::{self, Context};
use crate::device::{BootControl, Device};
use crate::heart;
use crate::init::health;
use crate::{Error, Result};

/// `init` has a helper write a few sectors, which it ends after 20 s; twice that, and time to answer.
/// Nothing beats meanwhile: it is well below the heartbeat that `init` waits for, 60 s.
const TIMEOUT: Duration = Duration::from_secs(45);

/// The state that the loader would go by now.
pub fn state(device: &Device) -> Result<BootState> {
    ask(device, BootRequest::State)
}

/// Has the boot state changed, and gives what it is then.
///
/// Fails when the rules do not grant the request; the state is then as it was.
pub fn ask(device: &Device, request: BootRequest) -> Result<BootState> {
    match device.boot_control() {
        BootControl::Here => here(device, request),
        BootControl::Init => {
            heart::beat();
            let answer = health::request(device, &Request::Boot(request), TIMEOUT);
            heart::beat();
            boot_request::parse_answer(&answer?).map_err(|e| Error::at(&device.ctl_socket(), e))
        }
    }
}

fn here(device: &Device, request: BootRequest) -> Result<BootState> {
    let context = Context::load(device)?;
    let store = context::boot_state_store(&context)?;
    if request == BootRequest::State {
        return Ok(store.load()?);
    }
    let running = context.running.slot;
    let manifest = context.manifest()?;
    let idle = match request.needs_idle() {
        true => context.idle_content()?.map(|(manifest, _)| manifest),
        false => None,
    };
    let facts = Facts { running, manifest, idle: idle.as_ref(), healthy: true, person: true };
    let mut verdict = Ok(());
    let state = boot_state_store::update(&*store, &device.boot_state_lock(), |state| {
        verdict = request.apply(state, &facts);
    })?;
    verdict?;
    Ok(state)
}
