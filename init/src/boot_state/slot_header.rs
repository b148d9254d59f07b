//! What the header in a slot says of the version there.

use formats::layout::Slot;
use formats::manifest::{HEADER_SIZE, Header, Manifest, TrustedKeys};
use formats::medium::{Access, Partitions};
use formats::payload;
use formats::{Error, Result};

/// The manifest of what lies in a slot, if its header verifies.
pub fn manifest(partitions: &dyn Partitions, slot: Slot, keys: &TrustedKeys) -> Option<Manifest> {
    Header::new(&read(partitions, slot).ok()?).ok()?.verify(keys).ok()
}

/// The slot header: the last 64 KiB of the root partition.
pub fn read(partitions: &dyn Partitions, slot: Slot) -> Result<Vec<u8>> {
    let error = |e: std::io::Error| Error::new([slot.root_label(), ": ", &e.to_string()].concat());
    let root = partitions.open(slot.root_label(), Access::Read).map_err(error)?;
    // What was written past the page cache must not be answered from it.
    root.forget_cached().map_err(error)?;
    let mut header = vec![0; HEADER_SIZE];
    root.read_at(payload::header_offset(root.size())?, &mut header).map_err(error)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::medium::DeviceFolder;

    #[test]
    fn only_what_is_signed_counts() {
        let dir = tempfile::tempdir().unwrap();
        let keys = TrustedKeys::default();
        let partitions = DeviceFolder::shared(dir.path());
        assert!(manifest(&*partitions, Slot::B, &keys).is_none(), "no partition");
        std::fs::write(dir.path().join("root-b"), vec![0; HEADER_SIZE / 2]).unwrap();
        assert!(manifest(&*partitions, Slot::B, &keys).is_none(), "too small");
        std::fs::write(dir.path().join("root-b"), vec![0; 2 * HEADER_SIZE]).unwrap();
        assert!(manifest(&*partitions, Slot::B, &keys).is_none(), "zeros");
    }
}
