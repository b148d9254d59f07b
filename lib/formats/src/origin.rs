//! Which of several disks with Ferrite on them is the device's own: the one that its kernel was
//! started from. Pure decisions; docs/architecture.md, "A second disk", tells the whole of it.
//!
//! A neighbour may be an old card, a stick, or the medium one flashes from. It must cost nothing,
//! whichever of them appears first: no reset, no strike and no try.

use crate::Slot;
use crate::boot_state::{Boot, BootState};
use crate::gpt::Guid;

/// Kernel argument with the GUID of the partition that the kernel was loaded from, put there by
/// `slot.scr` of the uboot chooser.
pub const DISK_ARGUMENT: &str = "ferrite.disk=";

/// What is known of a disk that carries all of Ferrite's partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Whether it is the disk that was named; `None` where nobody named one.
    pub named: Option<bool>,
    /// Whether what lies on it agrees with its having just been started from ([`is_counted`]).
    pub counted: bool,
    /// The generation of its boot state; 0 where that cannot be read.
    pub generation: u32,
}

/// The index of the disk to use; `None` as long as it is better to wait for another one. `waited`:
/// what is to come has had its time.
///
/// 1. Where a disk was named, no other one is ever used.
/// 2. Of those that are left (copies made byte by byte have the same names) it is one whose boot
///    state was counted for this very start; without one, any of them, once there was time for a
///    better one to appear.
/// 3. Of several, the one with the highest generation: a copy is a state of the past. Should it be
///    the wrong one all the same, it has no strikes left once it is healthy, so that rule 2 finds the
///    other one at the next start.
pub fn decide(candidates: &[Candidate], waited: bool) -> Option<usize> {
    let best = |counted: bool| {
        let fits = |candidate: &Candidate| {
            candidate.named != Some(false) && (candidate.counted || !counted)
        };
        let all = candidates.iter().enumerate().filter(|(_, candidate)| fits(candidate));
        // Of equals the first one: `max_by_key` would give the last.
        all.rev().max_by_key(|(_, candidate)| candidate.generation).map(|(index, _)| index)
    };
    best(true).or_else(|| best(false).filter(|_| waited))
}

/// Whether a loader that keeps this state has just started `slot` as `boot`: it counts before it
/// starts anything, and `init` takes the strikes back once the slot is healthy. The last boot of a
/// fallback's turn leaves no strike, for the round begins anew.
pub fn is_counted(state: &BootState, slot: Slot, boot: Boot) -> bool {
    match boot {
        Boot::Trial => state.trial == Some(slot),
        Boot::Active => state.active == slot && state.strikes > 0,
        Boot::Fallback => state.fallback == Some(slot),
    }
}

/// The partition that the kernel's arguments name, if they name one.
pub fn from_cmdline(arguments: &str) -> Option<Guid> {
    let mut words = arguments.split_ascii_whitespace();
    words.find_map(|word| word.strip_prefix(DISK_ARGUMENT)).and_then(Guid::parse)
}

/// The GUID in a variable of the boot loader interface (systemd, "The Boot Loader Interface"), as
/// efivarfs shows it: four bytes of attributes, then UTF-16 with a zero at its end. `None` for one
/// that outlives a reset: the stub that starts this kernel writes it for this start only.
pub fn from_efi_variable(bytes: &[u8]) -> Option<Guid> {
    const NON_VOLATILE: u8 = 1;
    let (attributes, text) = bytes.split_at_checked(4)?;
    if attributes[0] & NON_VOLATILE != 0 {
        return None;
    }
    let units = text.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let units = units.take_while(|unit| *unit != 0).take(GUID_DIGITS + 1);
    let text: Option<String> = char::decode_utf16(units).map(Result::ok).collect();
    Guid::parse(&text?)
}

/// Characters of a GUID's text.
const GUID_DIGITS: usize = 36;

/// Whether a disk of this kernel name is one that a Raspberry Pi booting in this mode can have
/// started from (Raspberry Pi documentation, `BOOT_ORDER`: 1 card, 4 and 5 USB, 6 NVMe; any disk in
/// modes that are not known).
pub fn fits_boot_mode(mode: Option<u32>, disk: &str) -> bool {
    match mode {
        Some(1) => disk.starts_with("mmcblk"),
        Some(4 | 5) => disk.starts_with("sd"),
        Some(6) => disk.starts_with("nvme"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        (proptest::option::of(any::<bool>()), any::<bool>(), 0u32..4)
            .prop_map(|(named, counted, generation)| Candidate { named, counted, generation })
    }

    /// Named, counted, not counted, and somebody else's.
    const OURS: Candidate = Candidate { named: Some(true), counted: true, generation: 7 };
    const TWIN: Candidate = Candidate { named: Some(true), counted: false, generation: 9 };
    const STRANGER: Candidate = Candidate { named: Some(false), counted: true, generation: 99 };

    #[test]
    fn a_disk_that_was_not_named_is_never_used_and_never_waited_with() {
        for waited in [false, true] {
            assert_eq!(decide(&[], waited), None);
            assert_eq!(decide(&[STRANGER], waited), None);
            assert_eq!(decide(&[STRANGER, OURS], waited), Some(1));
            assert_eq!(decide(&[OURS, STRANGER], waited), Some(0));
        }
    }

    #[test]
    fn of_twins_the_one_that_was_just_counted_is_used_whichever_comes_first() {
        assert_eq!(decide(&[TWIN, OURS], false), Some(1));
        assert_eq!(decide(&[OURS, TWIN], false), Some(0));
        // The twin is there first: the other one gets its time.
        assert_eq!(decide(&[TWIN], false), None);
        // A medium that takes no writes any more is used all the same.
        assert_eq!(decide(&[TWIN], true), Some(0));
        let copy = Candidate { generation: 6, ..OURS };
        assert_eq!(decide(&[copy, OURS], false), Some(1));
        assert_eq!(decide(&[OURS, OURS], false), Some(0));
    }

    #[test]
    fn without_a_name_the_count_decides() {
        let unsaid = |candidate: Candidate| Candidate { named: None, ..candidate };
        assert_eq!(decide(&[unsaid(OURS)], false), Some(0));
        assert_eq!(decide(&[unsaid(TWIN), unsaid(OURS)], false), Some(1));
        assert_eq!(decide(&[unsaid(TWIN)], false), None);
        assert_eq!(decide(&[unsaid(TWIN)], true), Some(0));
    }

    proptest! {
        /// Whatever neighbours there are and in whichever order: with our own disk there, counted
        /// and of the newest state, it is used at once; and nothing that was not named ever is.
        #[test]
        fn neighbours_change_nothing(mut others in proptest::collection::vec(any_candidate(), 0..4), at in 0usize..4, waited: bool) {
            if let Some(index) = decide(&others, waited) {
                prop_assert_ne!(others[index].named, Some(false));
            }
            let ours = Candidate { named: Some(true), counted: true, generation: 5 };
            let at = at.min(others.len());
            others.insert(at, ours);
            prop_assert_eq!(decide(&others, waited), Some(at));
        }
    }

    #[test]
    fn a_neighbour_that_was_taken_for_ours_is_not_taken_again() {
        // Both counted, the wrong one newer: it is used once, becomes healthy, and has no strikes.
        let mut wrong = BootState { generation: 50, strikes: 1, ..BootState::fresh() };
        let mut ours = BootState { generation: 4, strikes: 1, ..BootState::fresh() };
        let decided = |wrong: &BootState, ours: &BootState| {
            let candidate = |state: &BootState| Candidate {
                named: None,
                counted: is_counted(state, Slot::A, Boot::Active),
                generation: state.generation,
            };
            decide(&[candidate(wrong), candidate(ours)], false)
        };
        assert_eq!(decided(&wrong, &ours), Some(0));
        wrong.strikes = 0;
        ours.strikes += 1;
        assert_eq!(decided(&wrong, &ours), Some(1));
    }

    #[test]
    fn a_count_belongs_to_a_slot_and_a_kind_of_boot() {
        let settled = BootState { fallback: Some(Slot::B), ..BootState::fresh() };
        let counted = BootState { strikes: 1, ..settled.clone() };
        let mut armed = settled.clone();
        armed.arm(Slot::B, 1);
        armed.tries = 0;
        for (state, slot, boot, expected) in [
            (&settled, Slot::A, Boot::Active, false),
            (&counted, Slot::A, Boot::Active, true),
            (&counted, Slot::B, Boot::Active, false),
            (&counted, Slot::B, Boot::Trial, false),
            (&counted, Slot::B, Boot::Fallback, true),
            (&settled, Slot::B, Boot::Fallback, true),
            (&settled, Slot::A, Boot::Fallback, false),
            (&counted, Slot::A, Boot::Fallback, false),
            (&armed, Slot::B, Boot::Trial, true),
            (&armed, Slot::A, Boot::Trial, false),
        ] {
            assert_eq!(is_counted(state, slot, boot), expected, "{state:?} {slot} {boot:?}");
        }
    }

    #[test]
    fn a_partition_is_named_by_arguments_and_by_a_variable() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let guid = Guid::parse(text);
        assert!(guid.is_some());
        assert_eq!(from_cmdline(&format!("ferrite.slot=a ferrite.disk={text} x\n")), guid);
        for none in ["", "ferrite.disk=", "ferrite.disk=00000000-01", "xferrite.disk=1"] {
            assert_eq!(from_cmdline(none), None);
        }
        let variable = |attributes: u8, text: &str| {
            let units = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
            [attributes, 0, 0, 0].into_iter().chain(units).collect::<Vec<u8>>()
        };
        assert_eq!(from_efi_variable(&variable(6, &text.to_uppercase())), guid);
        // Somebody's before this start.
        assert_eq!(from_efi_variable(&variable(7, text)), None);
        for bad in [&b""[..], &[6, 0, 0], &variable(6, ""), &variable(6, "c12a7328"), &[6; 9]] {
            assert_eq!(from_efi_variable(bad), None);
        }
    }

    #[test]
    fn a_raspberry_pi_says_which_kind_of_disk_it_booted() {
        for (mode, disk, expected) in [
            (Some(1), "mmcblk0", true),
            (Some(1), "sda", false),
            (Some(4), "sda", true),
            (Some(4), "mmcblk0", false),
            (Some(6), "nvme0n1", true),
            (Some(6), "sda", false),
            (Some(3), "sda", true),
            (None, "mmcblk0", true),
        ] {
            assert_eq!(fits_boot_mode(mode, disk), expected, "{mode:?} {disk}");
        }
    }
}
