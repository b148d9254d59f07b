//! Names on FAT: the 11 bytes every entry has, and the entries before it that hold a long name
//! (Microsoft's "FAT: General Overview of On-Disk Format" 1.03, "Long Directory Entries").

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use zerocopy::{FromZeros, IntoBytes};

use super::fat_fs::{ATTR_EXT, DirectoryEntry, DirectorySlot, LAST_SLOT};

/// Bytes of a directory entry.
pub(super) const ENTRY: usize = size_of::<DirectoryEntry>();

/// UTF-16 units of a name that one slot holds.
const UNITS: usize = 13;

/// The 8 + 3 bytes of an entry, padded with spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShortName(pub [u8; 11]);

impl ShortName {
    /// Stands for the root, which has no name.
    pub const ROOT: ShortName = ShortName([b' '; 11]);

    /// The short form of `name`: its capitals if they fit, else six characters, `~` and a number,
    /// the first that is not `taken`. `None` if a million of them are.
    pub fn of(name: &str, taken: &BTreeSet<ShortName>) -> Option<ShortName> {
        let (base, extension) = match name.rsplit_once('.') {
            Some((base, extension)) if !base.is_empty() => (base, extension),
            _ => (name, ""),
        };
        let strip = |text: &str, limit: usize| -> Vec<u8> {
            let bytes = text.bytes().map(|byte| byte.to_ascii_uppercase());
            bytes.filter(|byte| is_short(*byte)).take(limit).collect()
        };
        let fits = !base.is_empty()
            && base.len() <= 8
            && extension.len() <= 3
            && !(extension.is_empty() && name.contains('.'))
            && base.bytes().chain(extension.bytes()).all(|b| is_short(b.to_ascii_uppercase()));
        let (stem, extension) = (strip(base, 8), strip(extension, 3));
        let whole = ShortName::join(&stem, &extension);
        if fits && !taken.contains(&whole) {
            return Some(whole);
        }
        (1..1_000_000).find_map(|number| {
            let tail = format!("~{number}");
            let mut numbered = stem[..stem.len().min(8 - tail.len())].to_vec();
            numbered.extend(tail.bytes());
            let short = ShortName::join(&numbered, &extension);
            (!taken.contains(&short)).then_some(short)
        })
    }

    fn join(base: &[u8], extension: &[u8]) -> ShortName {
        let mut name = [b' '; 11];
        name[..base.len()].copy_from_slice(base);
        name[8..8 + extension.len()].copy_from_slice(extension);
        ShortName(name)
    }

    /// With its dot and without its padding.
    pub fn text(&self) -> String {
        let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
        let (base, extension) = (part(&self.0[..8]), part(&self.0[8..]));
        if extension.is_empty() { base } else { format!("{base}.{extension}") }
    }

    /// What ties long entries to this name.
    pub(super) fn checksum(&self) -> u8 {
        self.0.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
    }
}

fn is_short(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"$%'-_@~`!(){}^#&".contains(&byte)
}

/// Refuses what cannot be a long name, and what is outside ASCII: boot loaders compare names in
/// code pages of their own.
pub(super) fn check(name: &str) -> Result<()> {
    let odd = |byte: u8| !(0x20..0x7F).contains(&byte) || b"\"*/:<>?\\|".contains(&byte);
    if let Some(byte) = name.bytes().find(|byte| odd(*byte)) {
        anyhow::bail!("a name on FAT cannot have the byte {byte:#04x}");
    }
    ensure!(!name.ends_with(['.', ' ']), "a name on FAT cannot end in a dot or a space");
    Ok(())
}

/// Long entries in front of the short one: none if the short name says it all.
pub(super) fn long_entries(name: &str, short: ShortName) -> usize {
    if short.text() == name { 0 } else { name.len().div_ceil(UNITS) }
}

/// The long entries themselves, the name's last piece first.
pub(super) fn long_name(name: &str, short: ShortName) -> Vec<u8> {
    let pieces = long_entries(name, short);
    let mut bytes = Vec::with_capacity(pieces * ENTRY);
    for piece in (0..pieces).rev() {
        let mut slot = DirectorySlot::new_zeroed();
        slot.id = (piece + 1) as u8 | if piece + 1 == pieces { LAST_SLOT } else { 0 };
        slot.attr = ATTR_EXT;
        slot.alias_checksum = short.checksum();
        for (unit, value) in slot.units_mut().enumerate() {
            // One zero ends a name that does not fill its last slot; all ones follow.
            let at = piece * UNITS + unit;
            let byte = name.as_bytes().get(at).map(|byte| u16::from(*byte));
            *value = byte.unwrap_or(if at == name.len() { 0 } else { 0xFFFF }).into();
        }
        bytes.extend(slot.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(name: &str, taken: &[&str]) -> String {
        let taken = taken.iter().map(|name| ShortName::of(name, &BTreeSet::new()).unwrap());
        ShortName::of(name, &taken.collect()).unwrap().text()
    }

    #[test]
    fn short_names_are_capitals_or_numbered() {
        assert_eq!(short("kernel", &[]), "KERNEL");
        assert_eq!(short("boot.scr", &[]), "BOOT.SCR");
        assert_eq!(short("qemu-arm64.dtb", &[]), "QEMU-A~1.DTB");
        assert_eq!(short("qemu-arm65.dtb", &["qemu-arm64.dtb"]), "QEMU-A~2.DTB");
        assert_eq!(short(".hidden", &[]), "HIDDEN~1");
        assert_eq!(short("a.b.c", &[]), "AB~1.C");
        assert_eq!(short("x y", &[]), "XY~1");
        assert_eq!(short("+", &[]), "~1");
        assert_eq!(short("x.text", &[]), "X~1.TEX");
    }

    #[test]
    fn names_that_fat_cannot_hold_are_refused() {
        for name in ["a:b", "a\\b", "a?", "ä", "a.", "a ", "a\u{1}"] {
            assert!(check(name).is_err(), "{name:?}");
        }
        check("bcm2710-rpi-3-b.dtb").unwrap();
    }

    #[test]
    fn a_name_of_13_units_has_no_end_mark() {
        let name = "0123456789abc";
        let short = ShortName::of(name, &BTreeSet::new()).unwrap();
        let bytes = long_name(name, short);
        assert_eq!(bytes.len(), ENTRY);
        assert_eq!((bytes[0], bytes[30], bytes[31]), (0x41, b'c', 0));
        assert_eq!(long_name("0123456789abcd", short).len(), 2 * ENTRY);
    }
}
