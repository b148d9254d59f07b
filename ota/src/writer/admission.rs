//! What may be written into the idle slot at all: told from the signed header, what runs, and the
//! partitions' sizes. Both halves of `ota` ask; the one that writes believes its own answer only.

use formats::boot_state::BootState;
use formats::manifest::{Header, Manifest, TrustedKeys};
use formats::medium::Access;
use formats::{Slot, payload};

use crate::context::Running;
use crate::device::Device;
use crate::{Error, Result};

/// The manifest of a header that one of `keys` signed, for this device, above what runs and not
/// below `floor`. `label` names the update until its own manifest can.
pub fn admit(
    header: &[u8],
    label: &str,
    keys: &TrustedKeys,
    running: &Running,
    floor: u64,
) -> Result<Manifest> {
    let manifest = Header::new(header)
        .and_then(|h| h.verify(keys))
        .map_err(|e| Error::refused(label, e.to_string()))?;
    may_follow(&manifest, running, floor)?;
    Ok(manifest)
}

/// The rules for what may follow what runs.
fn may_follow(manifest: &Manifest, running: &Running, floor: u64) -> Result<()> {
    let no = |reason: String| Err(Error::refused(&manifest.version, reason));
    if manifest.board != running.board {
        return no(format!("it is for board {}, this is {}", manifest.board, running.board));
    }
    if manifest.name != running.name {
        return no(format!("it is an image named {}, this runs {}", manifest.name, running.name));
    }
    if manifest.sequence < floor {
        return no(format!("its sequence {} is below the floor {floor}", manifest.sequence));
    }
    if manifest.sequence <= running.sequence {
        return no(format!(
            "its sequence {} is not above {}, which runs",
            manifest.sequence, running.sequence
        ));
    }
    Ok(())
}

/// An install overwrites the slot to fall back to, so what runs has to be committed.
pub fn require_settled(running: &Running, boot: &BootState) -> Result<()> {
    if boot.active != running.slot {
        return Err(Error::failed(format!(
            "what runs in slot {} is not committed; `ota commit` or `ota rollback` first",
            running.slot
        )));
    }
    Ok(())
}

/// Refuses what is larger than the slot's partitions.
pub fn check_fits(device: &Device, slot: Slot, manifest: &Manifest) -> Result<()> {
    let size = |label: &str| {
        let partition = device.partitions().open(label, Access::Read);
        partition.map(|p| p.size()).map_err(|e| Error::at(&device.device(label), e))
    };
    let (boot, root) = (size(slot.boot_label())?, size(slot.root_label())?);
    payload::check_fits(manifest, boot, root)
        .map_err(|e| Error::refused(&manifest.version, e.to_string()))
}
