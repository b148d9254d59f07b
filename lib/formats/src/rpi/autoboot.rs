//! `autoboot.txt`, the one file that tells a Raspberry Pi's firmware which partition to boot.
//!
//! Raspberry Pi documentation, "autoboot.txt": at most 512 bytes, the filters `[all]`, `[none]`
//! and `[tryboot]`, partitions counted from 1. The file is rewritten in place and never changes
//! its length, so that a change is one sector and no directory entry, no table is touched.

use crate::Slot;
use crate::layout::{LABELS, SECTOR};

/// The file's name, as people write it.
pub const NAME: &str = "autoboot.txt";
/// The most bytes the firmware reads of it.
pub const MAX_BYTES: usize = 512;

/// How a board makes its firmware boot a slot once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `autoboot.txt` points to the slot, whose initrd points it back before all else: for
    /// kernels that cannot ask the firmware for anything.
    Pointer,
    /// The firmware's own one-shot flag, set with the reset: for Raspberry Pi's own kernels.
    Tryboot,
}

/// The number by which the firmware knows a slot's boot partition: the place of its label in the
/// partition table, in the MBR's entries as in the GPT's.
pub fn partition_number(slot: Slot) -> u32 {
    let index = LABELS.iter().position(|label| *label == slot.boot_label());
    index.map_or(0, |index| index as u32 + 1)
}

/// The file for this slot as the one that boots without a flag; with [`Method::Tryboot`] the
/// other one boots with it. All texts of a method have the same length.
pub fn text(method: Method, slot: Slot) -> String {
    let number = |slot| partition_number(slot).to_string();
    match method {
        Method::Pointer => ["[all]\nboot_partition=", &number(slot), "\n"].concat(),
        Method::Tryboot => [
            "[all]\ntryboot_a_b=1\nboot_partition=",
            &number(slot),
            "\n[tryboot]\nboot_partition=",
            &number(slot.other()),
            "\n",
        ]
        .concat(),
    }
}

/// The sector that holds the file: its text, then zeros.
pub fn sector(method: Method, slot: Slot) -> [u8; SECTOR as usize] {
    let mut sector = [0; SECTOR as usize];
    let text = text(method, slot);
    sector[..text.len()].copy_from_slice(text.as_bytes());
    sector
}

/// The slot that this sector lets boot; `None` when it is not exactly one that [`sector`] makes:
/// what else the firmware would read into it is not guessed.
pub fn read(method: Method, bytes: &[u8]) -> Option<Slot> {
    [Slot::A, Slot::B].into_iter().find(|slot| sector(method, *slot) == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_what_the_firmware_documents() {
        assert_eq!(text(Method::Pointer, Slot::B), "[all]\nboot_partition=3\n");
        assert_eq!(
            text(Method::Tryboot, Slot::A),
            "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"
        );
    }

    #[test]
    fn a_change_of_slot_changes_no_length() {
        for method in [Method::Pointer, Method::Tryboot] {
            let (a, b) = (text(method, Slot::A), text(method, Slot::B));
            assert_eq!(a.len(), b.len());
            assert!(a.len() <= MAX_BYTES && a.lines().all(|line| line.len() < 80));
        }
    }

    #[test]
    fn only_what_was_written_is_read() {
        for slot in [Slot::A, Slot::B] {
            let whole = sector(Method::Pointer, slot);
            assert_eq!(read(Method::Pointer, &whole), Some(slot));
            assert_eq!(read(Method::Tryboot, &whole), None);
            for at in 0..whole.len() {
                let mut torn = whole;
                torn[at] ^= 0x80;
                assert_eq!(read(Method::Pointer, &torn), None, "byte {at}");
            }
        }
        assert_eq!(read(Method::Pointer, b""), None);
    }
}
