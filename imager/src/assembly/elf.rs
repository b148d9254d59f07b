//! Sections of ELF objects (System V gABI, chapter 4): 64-bit, little endian.

/// The number by which ELF names the processor that an object is for, `e_machine`; `None` when it is
/// no ELF object.
pub fn machine(elf: &[u8]) -> Option<u16> {
    if !elf.starts_with(b"\x7FELF") {
        return None;
    }
    Some(u16::from_le_bytes(elf.get(18..20)?.try_into().ok()?))
}

/// The bytes of the section named `wanted`; `None` when there is none or the object is damaged.
pub fn section<'a>(elf: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    const CLASS64_LITTLE: &[u8] = b"\x7FELF\x02\x01";
    let u16_at =
        |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?) as usize);
    let u32_at =
        |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?) as usize);
    let u64_at = |at: usize| {
        usize::try_from(u64::from_le_bytes(elf.get(at..at.checked_add(8)?)?.try_into().ok()?)).ok()
    };
    if !elf.starts_with(CLASS64_LITTLE) {
        return None;
    }
    let (table, entry_size, count, names_index) =
        (u64_at(40)?, u16_at(58)?, u16_at(60)?, u16_at(62)?);
    let header = |index: usize| table.checked_add(index.checked_mul(entry_size)?);
    let body = |header: usize| {
        let start = u64_at(header.checked_add(24)?)?;
        elf.get(start..start.checked_add(u64_at(header.checked_add(32)?)?)?)
    };
    let names = body(header(names_index)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let name = names.get(u32_at(header)?..)?.split(|byte| *byte == 0).next()?;
        (name == wanted).then(|| body(header))?
    })
}
