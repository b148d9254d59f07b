//! The floor: the lowest sequence that this device still takes. It is written down in three places,
//! so that losing one of them, the data partition above all, does not lower it.

use formats::Slot;
use formats::boot_state::BootState;
use formats::manifest::TrustedKeys;

use crate::Result;
use crate::device;
use crate::paths::Paths;
use crate::state::State;

/// The lowest sequence that may follow what runs in `running`: the highest of the running
/// manifest's floor, the floor of what was committed in the other slot, and the one that `state`
/// remembers.
pub fn lowest(
    paths: &Paths,
    keys: &TrustedKeys,
    running: Slot,
    boot: &BootState,
    state: &State,
) -> Result<u64> {
    let running_floor = device::running_manifest(paths, keys)?.rollback_floor;
    let idle = running.other();
    let idle_floor = was_committed(idle, boot)
        .then(|| device::content(paths, keys, idle))
        .flatten()
        .map_or(0, |(manifest, _)| manifest.rollback_floor);
    Ok(running_floor.max(idle_floor).max(state.rollback_floor))
}

/// A floor counts once its version was good enough to be committed: a signed mistake that never
/// came up locks nobody out.
fn was_committed(slot: Slot, boot: &BootState) -> bool {
    boot.fallback == Some(slot) || boot.active == slot
}

/// Whether what lies in `slot` must not come back once a version with this floor is committed.
pub fn shuts_out(paths: &Paths, keys: &TrustedKeys, slot: Slot, floor: u64) -> bool {
    device::content(paths, keys, slot).is_some_and(|(manifest, _)| manifest.sequence < floor)
}
