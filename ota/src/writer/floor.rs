//! The floor: the lowest sequence that this device still takes. It is written down in three places,
//! so that losing one of them, the data partition above all, does not lower it.

use formats::Slot;
use formats::boot_state::BootState;

use crate::Result;
use crate::context::Context;
use crate::state::State;

/// The lowest sequence that may follow what runs: the highest of the running
/// manifest's floor, the floor of what was committed in the other slot, and the one that `state`
/// remembers.
pub fn lowest(context: &Context, boot: &BootState, state: &State) -> Result<u64> {
    let running_floor = context.manifest()?.rollback_floor;
    let idle_floor = match was_committed(context.running.slot.other(), boot) {
        true => context.idle_content()?.map_or(0, |(manifest, _)| manifest.rollback_floor),
        false => 0,
    };
    Ok(running_floor.max(idle_floor).max(state.rollback_floor))
}

/// A floor counts once its version was good enough to be committed: a signed mistake that never
/// came up locks nobody out.
fn was_committed(slot: Slot, boot: &BootState) -> bool {
    boot.fallback == Some(slot) || boot.active == slot
}
