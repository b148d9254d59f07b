//! What a move of code does to arm64 instructions: branches and page addresses are relative.

use crate::segments::Shifts;

/// How much the word at `old` will have changed at `new` (to be added, wrapping) if its target
/// moved as `shifts` says; 0 for a word that holds no relative address.
#[inline]
pub fn expected(word: u32, old: u32, new: u32, shifts: &Shifts) -> u32 {
    if word & 0x7c00_0000 == 0x1400_0000 {
        branch(word, old, new, shifts)
    } else if word & 0x9f00_0000 == 0x9000_0000 {
        page(word, old, new, shifts)
    } else {
        0
    }
}

/// `adrp`: the page of the target, relative to the page of the instruction. Modules keep 0 there
/// and a relocation elsewhere.
fn page(word: u32, old: u32, new: u32, shifts: &Shifts) -> u32 {
    let immediate = (word >> 3 & 0x1f_fffc) | (word >> 29 & 3);
    let pages = (immediate << 11) as i32 >> 11;
    if pages == 0 {
        return 0;
    }
    let target = i64::from(old >> 12) + i64::from(pages);
    let Ok(target) = u32::try_from(target << 12) else { return 0 };
    let moved = target.wrapping_add(shifts.at(target) as u32);
    let pages = (moved >> 12).wrapping_sub(new >> 12) & 0x1f_ffff;
    let made = word & 0x9f00_001f | (pages >> 2) << 5 | (pages & 3) << 29;
    made.wrapping_sub(word)
}

/// `b` and `bl`: words from the instruction to the target.
fn branch(word: u32, old: u32, new: u32, shifts: &Shifts) -> u32 {
    let words = (word << 6) as i32 >> 6;
    if words == 0 {
        return 0;
    }
    let target = i64::from(old) + i64::from(words) * 4;
    let Ok(target) = u32::try_from(target) else { return 0 };
    let moved = target.wrapping_add(shifts.at(target) as u32);
    let words = (moved.wrapping_sub(new) as i32 >> 2) as u32 & 0x03ff_ffff;
    (word & 0xfc00_0000 | words).wrapping_sub(word)
}
