//! What `ota` changes in the boot state: a function for each verb, and no other place that does it.
//! What the verbs mean is `slot::boot_state`'s; here is when they may be applied.

use slot::boot_state::BootState;
use slot::{chooser, Slot};

use crate::device::{self, Running};
use crate::paths::Paths;
use crate::Result;

/// The state that the loader goes by now.
pub fn load(paths: &Paths) -> Result<BootState> {
    Ok(device::chooser(paths)?.load()?)
}

/// Changes it, as one step for `init` and other processes.
fn change(paths: &Paths, change: impl FnOnce(&mut BootState)) -> Result<()> {
    chooser::update(&*device::chooser(paths)?, &paths.boot_state_lock(), change)?;
    Ok(())
}

/// Forgets the trial of `slot`, which failed, unless that slot is the active one.
pub fn give_up_trial(paths: &Paths, slot: Slot) -> Result<()> {
    change(paths, |boot| {
        if boot.active != slot {
            boot.clear_trial();
        }
    })
}

/// Tries the other slot, which was committed once, again: it stays what can be fallen back to.
/// False when it is that no longer.
pub fn arm_again(paths: &Paths, running: &Running, tries: u8) -> Result<bool> {
    let mut armed = false;
    change(paths, |boot| {
        armed = waits(running, boot);
        if armed {
            boot.arm(running.slot.other(), tries);
        }
    })?;
    Ok(armed)
}

/// Nothing may fall back to the other slot any more: it is not what was signed.
pub fn drop_fallback(paths: &Paths, running: &Running) -> Result<()> {
    change(paths, |boot| {
        if boot.active == running.slot && boot.fallback == Some(running.slot.other()) {
            boot.forbid_fallback();
        }
    })
}

/// Whether what runs is settled and the other slot, committed once, is what can be fallen back to.
pub fn waits(running: &Running, boot: &BootState) -> bool {
    boot.active == running.slot
        && boot.trial.is_none()
        && boot.fallback == Some(running.slot.other())
}
