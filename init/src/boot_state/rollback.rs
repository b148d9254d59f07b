//! The rollback floor where nobody knows any more which slot was committed.
//!
//! As long as the boot state is whole, no loader comes to a slot below the floor: `init` forbids it when
//! the version above is committed. With both copies lost, a loader begins with whatever slot it knows.
//! So the initrd compares: each slot's signed header says which sequence it has, and which is the
//! lowest that its version lets come back.

use std::path::Path;
use std::sync::Arc;

use formats::boot_state::{Boot, BootState};
use formats::layout;
use formats::manifest::{Manifest, TrustedKeys};
use formats::medium::Partitions;
use formats::{Error, Result};
use formats::{boot_chooser, boot_state_store};

use crate::boot_state::slot_header;
use crate::console::say;
use crate::initrd::slot_selection::Choice;

/// Fails, so that the board is reset, when the boot state was lost and `running` is below the floor of
/// the version in the other slot: that one has a trial first. Where that cannot be written down, what
/// runs goes on: a reset would only come back here.
pub fn yield_to_what_forbids(
    running: &Manifest,
    choice: Choice,
    chooser: &str,
    partitions: Arc<dyn Partitions>,
    keys: &TrustedKeys,
) -> Result<()> {
    if choice.kind != Boot::Active {
        return Ok(());
    }
    let store = boot_chooser::open_on(chooser, partitions.clone(), choice.running())?;
    // Not to be read is lost, too: what is found then says so.
    let state = store.load().unwrap_or(BootState::lost(choice.slot, choice.kind));
    if !state.yields_to_what_forbids_it(choice.running()) {
        return Ok(());
    }
    let other = slot_header::manifest(&*partitions, choice.slot.other(), keys);
    let Some(other) = other.filter(|other| forbids(other, running)) else { return Ok(()) };
    let lock = Path::new(layout::RUN_BOOT_STATE_LOCK);
    let change = |state: &mut BootState| state.yield_to_other(choice.slot);
    if let Err(e) = boot_state_store::update(&*store, lock, change) {
        say(&["boot state: ", &e.to_string()]);
        return Ok(());
    }
    Err(Error::new(
        [
            "the boot state was lost, and its sequence ",
            &running.sequence.to_string(),
            " is below the rollback floor ",
            &other.rollback_floor.to_string(),
            " of slot ",
            choice.slot.other().letter(),
            ", which is tried first",
        ]
        .concat(),
    ))
}

/// Whether `other` is a version for this board that does not let `running` come back.
fn forbids(other: &Manifest, running: &Manifest) -> bool {
    other.board == running.board && running.sequence < other.rollback_floor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(board: &str, sequence: u64, rollback_floor: u64) -> Manifest {
        Manifest {
            board: board.into(),
            name: "n".into(),
            version: "1".into(),
            sequence,
            rollback_floor,
            root_size: 4096,
            root_hash_size: 4096,
            root_verity_hash: [0; 32],
            root_verity_salt: [0; 32],
            boot_size: 4096,
            chunk_size: 65536,
            chunk_table_sha256: [0; 32],
            boot_files: vec![],
            models: vec![],
        }
    }

    #[test]
    fn only_a_version_for_this_board_with_a_higher_floor_goes_first() {
        let running = version("board", 4, 2);
        assert!(forbids(&version("board", 6, 5), &running));
        assert!(!forbids(&version("board", 6, 4), &running), "it may come back");
        assert!(!forbids(&version("other", 6, 5), &running));
    }
}
