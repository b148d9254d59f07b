//! Media that differ from a sound one in a few places: what a fuzzer would have to write out as
//! megabytes otherwise.

use std::sync::{Mutex, PoisonError};

/// A medium's bytes, and which of its sectors are not zeros: patches go there.
pub struct Medium {
    bytes: Mutex<Vec<u8>>,
    written: Vec<usize>,
}

const SECTOR: usize = 512;

impl Medium {
    /// This medium.
    pub fn new(bytes: Vec<u8>) -> Medium {
        let sectors = bytes.chunks(SECTOR).enumerate();
        let written = sectors.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
        let written = written.map(|(index, _)| index * SECTOR).collect();
        Medium { bytes: Mutex::new(bytes), written }
    }

    /// Runs `look` on the medium with these patches: for each, three bytes of place (counted over
    /// the sectors that are not zeros), one of length, and the new bytes. They are taken back then.
    pub fn patched(&self, mut input: &[u8], look: impl FnOnce(&[u8])) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = Vec::new();
        while let Some(([a, b, c, length], rest)) = input.split_first_chunk::<4>() {
            let place = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
            let new = &rest[..rest.len().min(usize::from(*length))];
            input = &rest[new.len()..];
            let sector = self.written[place / SECTOR % self.written.len()];
            let at = sector + place % SECTOR;
            let end = bytes.len().min(at + new.len());
            before.push((at, bytes[at..end].to_vec()));
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        look(&bytes);
        for (at, old) in before.into_iter().rev() {
            bytes[at..at + old.len()].copy_from_slice(&old);
        }
    }
}
