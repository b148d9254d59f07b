//! What the efi chooser and `imager` agree on: the names of files and the profiles of a unified
//! kernel image. docs/choosers/efi.md tells the whole of it.
//!
//! Both slots get the same bytes of a version, so the image has one profile for each way a slot can
//! be booted (UAPI.5 Unified Kernel Image, "Multi-Profile UKIs"). The chooser names one by its number;
//! what it stands for is inside the image, and signed with it.

use alloc::string::{String, ToString};

use crate::boot_state::{Boot, crc32};
use crate::{Error, Result, Slot};

/// The unified kernel image on a slot's boot partition.
pub const UKI: &str = "linux.efi";
/// Its length and CRC-32 beside it, so that decay is found before it runs: [`sum_text`].
pub const SUM: &str = "linux.sum";
/// The longest image that is loaded, in bytes.
pub const MAX_UKI: u64 = 512 << 20;
/// Seconds until the firmware's own watchdog resets a board on which nothing goes on.
pub const WATCHDOG_SECONDS: u32 = 60;

/// Every way a slot can be booted, in the order of the image's profiles.
pub const PROFILES: [(Slot, Boot); 6] = [
    (Slot::A, Boot::Active),
    (Slot::A, Boot::Trial),
    (Slot::A, Boot::Fallback),
    (Slot::B, Boot::Active),
    (Slot::B, Boot::Trial),
    (Slot::B, Boot::Fallback),
];

/// The load options that make systemd's stub take this profile: `@3` (systemd-stub(7), "Profiles").
pub fn load_options(slot: Slot, boot: Boot) -> String {
    let number = PROFILES.iter().position(|profile| *profile == (slot, boot)).unwrap_or(0);
    ["@", &number.to_string()].concat()
}

/// The kernel arguments that say how this slot is booted.
pub fn arguments(slot: Slot, boot: Boot) -> String {
    let kind = match boot {
        Boot::Active => "",
        Boot::Trial => " ferrite.trial=1",
        Boot::Fallback => " ferrite.fallback=1",
    };
    ["ferrite.slot=", slot.letter(), kind].concat()
}

/// The content of [`SUM`]: CRC-32 in hexadecimal and length in decimal.
pub fn sum_text(image: &[u8]) -> String {
    let sum = crate::hex::encode(&crc32(image).to_be_bytes());
    [&sum, " ", &image.len().to_string(), "\n"].concat()
}

/// Reads what [`sum_text`] made: CRC-32 and length.
pub fn read_sum(text: &[u8]) -> Result<(u32, u64)> {
    let wrong = || Error::new([SUM, ": is not a sum and a length"].concat());
    let text = core::str::from_utf8(text).map_err(|_| wrong())?;
    let (sum, length) =
        text.strip_suffix('\n').and_then(|t| t.split_once(' ')).ok_or_else(wrong)?;
    let sum = crate::hex::decode::<4>(sum).map(u32::from_be_bytes)?;
    let length = length.parse().ok().filter(|length| *length <= MAX_UKI).ok_or_else(wrong)?;
    Ok((sum, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_boot_has_a_profile_of_its_own() {
        for (number, (slot, boot)) in PROFILES.into_iter().enumerate() {
            assert_eq!(load_options(slot, boot), format!("@{number}"));
            assert_eq!(Slot::from_cmdline(&arguments(slot, boot)), Some(slot));
        }
        assert_eq!(arguments(Slot::B, Boot::Trial), "ferrite.slot=b ferrite.trial=1");
    }

    #[test]
    fn a_sum_is_read_as_it_was_written() {
        assert_eq!(sum_text(b"123456789"), "cbf43926 9\n");
        assert_eq!(read_sum(b"cbf43926 9\n").unwrap(), (0xCBF4_3926, 9));
        for wrong in
            [&b""[..], b"cbf43926 9", b"cbf43926\n", b"x 9\n", b"cbf43926 999999999999\n", &[255]]
        {
            assert!(read_sum(wrong).is_err());
        }
    }
}
