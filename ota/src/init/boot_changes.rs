//! What `ota` changes in the boot state: a function for each verb, and no other place that does it.
//! What the verbs mean is `formats::boot_state`'s; here is when they may be applied.

use formats::Slot;
use formats::boot_request::BootRequest;
use formats::boot_state::BootState;

use crate::Result;
use crate::context::Running;
use crate::device::Device;
use crate::init::boot;

/// The state that the loader goes by now.
pub fn load(device: &Device) -> Result<BootState> {
    boot::state(device)
}

/// Forgets the trial of `slot`, which failed, unless that slot is the active one.
pub fn give_up_trial(device: &Device, slot: Slot) -> Result<()> {
    if load(device)?.active != slot {
        boot::ask(device, BootRequest::ClearTrial)?;
    }
    Ok(())
}

/// Tries the other slot, which was committed once, again: it stays what can be fallen back to.
/// False when it is that no longer.
pub fn arm_again(device: &Device, running: &Running, tries: u8) -> Result<bool> {
    let waits = waits(running, &load(device)?);
    if waits {
        let request = BootRequest::Arm { slot: running.slot.other(), tries: tries.max(1) };
        boot::ask(device, request)?;
    }
    Ok(waits)
}

/// Nothing may fall back to the other slot any more: it is not what was signed.
pub fn drop_fallback(device: &Device, running: &Running) -> Result<()> {
    let boot = load(device)?;
    if boot.active == running.slot && boot.fallback == Some(running.slot.other()) {
        boot::ask(device, BootRequest::ForbidFallback)?;
    }
    Ok(())
}

/// Whether what runs is settled and the other slot, committed once, is what can be fallen back to.
pub fn waits(running: &Running, boot: &BootState) -> bool {
    boot.active == running.slot
        && boot.trial.is_none()
        && boot.fallback == Some(running.slot.other())
}
