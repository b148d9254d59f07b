//! A UEFI program as EDK2 loads it: UEFI 2.10, 2.1.1 "UEFI Images", which builds on Microsoft's "PE
//! Format", and MdePkg/Library/BasePeCoffLib/BasePeCoff.c of EDK2, which loads them.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

use super::Processor;
use crate::card::little;

/// `EFI_IMAGE_SUBSYSTEM_EFI_APPLICATION` (UEFI 2.10, 2.1.1).
const APPLICATION: u64 = 10;
/// `IMAGE_FILE_RELOCS_STRIPPED`: EDK2 loads such an image at its own address or not at all.
const RELOCS_STRIPPED: u64 = 1;
/// `IMAGE_SCN_MEM_EXECUTE`.
const EXECUTE: u64 = 0x2000_0000;

/// A program's sections, in the order of their headers.
pub struct Program<'a> {
    /// Names, and what is in memory from the section's start on.
    pub sections: Vec<(String, &'a [u8])>,
}

impl<'a> Program<'a> {
    /// Reads a program and fails where a firmware would not load it.
    pub fn read(bytes: &'a [u8], processor: Processor) -> Result<Program<'a>> {
        ensure!(bytes.starts_with(b"MZ"), "is no PE image");
        let at = little::<4>(bytes, 0x3C)? as usize;
        ensure!(bytes.get(at..).is_some_and(|rest| rest.starts_with(b"PE\0\0")), "is no PE image");
        let file = at + 4;
        let machine = little::<2>(bytes, file)?;
        ensure!(machine == processor.machine(), "is for the processor {machine:#x}");
        let count = little::<2>(bytes, file + 2)? as usize;
        let optional = file + 20;
        let optional_size = little::<2>(bytes, file + 16)? as usize;
        ensure!(little::<2>(bytes, file + 18)? & RELOCS_STRIPPED == 0, "cannot be relocated");
        ensure!(little::<2>(bytes, optional)? == 0x20B, "is no PE32+ image");
        let subsystem = little::<2>(bytes, optional + 68)?;
        ensure!(
            subsystem == APPLICATION,
            "has the subsystem {subsystem}, not that of a UEFI program"
        );
        let number = |offset: usize| little::<4>(bytes, optional + offset);
        let (entry, alignment, file_alignment) = (number(16)?, number(32)?, number(36)?);
        let (image_size, headers_size) = (number(56)?, number(60)?);
        ensure!(alignment.is_power_of_two() && file_alignment.is_power_of_two(), "is not aligned");
        let table = optional + optional_size;
        ensure!((table + count * 40) as u64 <= headers_size, "has headers longer than it says");
        let mut program = Program { sections: Vec::new() };
        let mut end = headers_size;
        let mut starts = false;
        for header in 0..count {
            let section = Section::read(bytes, table + header * 40)?;
            let named = || format!("section {}", section.name);
            let memory = section.memory.clone();
            // Microsoft, "Section Table": in ascending order, each aligned.
            ensure!(memory.start >= end, "{} lies over what is before it", named());
            ensure!(memory.start.is_multiple_of(alignment), "{} is not aligned", named());
            ensure!(memory.end <= image_size, "{} is behind the image's end", named());
            let raw = section.raw.clone();
            ensure!(
                raw.start.is_multiple_of(file_alignment),
                "{} is not aligned in the file",
                named()
            );
            let content = bytes.get(raw.start as usize..raw.end as usize);
            let content = content.with_context(|| format!("{} is cut off", named()))?;
            let length = content.len().min((memory.end - memory.start) as usize);
            end = memory.end;
            starts |= section.executable && memory.contains(&entry);
            program.sections.push((section.name, &content[..length]));
        }
        ensure!(starts, "does not start in a section that may be executed");
        Ok(program)
    }

    /// The only section of this name.
    pub fn one(&self, name: &str) -> Result<&'a [u8]> {
        let mut found = self.sections.iter().filter(|section| section.0 == name);
        match (found.next(), found.next()) {
            (Some((_, content)), None) => Ok(content),
            (None, _) => bail!("has no section {name}"),
            _ => bail!("has more than one section {name}"),
        }
    }
}

struct Section {
    name: String,
    memory: Range<u64>,
    raw: Range<u64>,
    executable: bool,
}

impl Section {
    fn read(bytes: &[u8], at: usize) -> Result<Section> {
        let name = bytes.get(at..at + 8).context("the section table is cut off")?;
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        let number = |offset: usize| little::<4>(bytes, at + offset);
        let (size, address, raw_size, raw) = (number(8)?, number(12)?, number(16)?, number(20)?);
        Ok(Section {
            name,
            memory: address..address + size,
            raw: raw..raw + raw_size,
            executable: number(36)? & EXECUTE != 0,
        })
    }
}
