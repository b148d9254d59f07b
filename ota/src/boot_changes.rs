//! What `ota` changes in the boot state: a function for each verb, and no other place that does it.
//! What the verbs mean is `formats::boot_state`'s; here is when they may be applied.

use formats::Slot;
use formats::boot_request::BootRequest;
use formats::boot_state::BootState;

use crate::Result;
use crate::boot;
use crate::device::Running;
use crate::paths::Paths;

/// The state that the loader goes by now.
pub fn load(paths: &Paths) -> Result<BootState> {
    boot::state(paths)
}

/// Forgets the trial of `slot`, which failed, unless that slot is the active one.
pub fn give_up_trial(paths: &Paths, slot: Slot) -> Result<()> {
    if load(paths)?.active != slot {
        boot::ask(paths, BootRequest::ClearTrial)?;
    }
    Ok(())
}

/// Tries the other slot, which was committed once, again: it stays what can be fallen back to.
/// False when it is that no longer.
pub fn arm_again(paths: &Paths, running: &Running, tries: u8) -> Result<bool> {
    let waits = waits(running, &load(paths)?);
    if waits {
        let request = BootRequest::Arm { slot: running.slot.other(), tries: tries.max(1) };
        boot::ask(paths, request)?;
    }
    Ok(waits)
}

/// Nothing may fall back to the other slot any more: it is not what was signed.
pub fn drop_fallback(paths: &Paths, running: &Running) -> Result<()> {
    let boot = load(paths)?;
    if boot.active == running.slot && boot.fallback == Some(running.slot.other()) {
        boot::ask(paths, BootRequest::ForbidFallback)?;
    }
    Ok(())
}

/// Whether what runs is settled and the other slot, committed once, is what can be fallen back to.
pub fn waits(running: &Running, boot: &BootState) -> bool {
    boot.active == running.slot
        && boot.trial.is_none()
        && boot.fallback == Some(running.slot.other())
}
