//! PE32+ images, as UEFI programs are (Microsoft's "PE Format"; UEFI 2.10, 2.1.1): read strictly,
//! sections appended. What does not look like a linker's plain output is refused.

use anyhow::{Context, Result, bail, ensure};

/// Bytes of a section header.
const SECTION: usize = 40;
/// In the optional header: where each number lies.
const INITIALIZED_DATA: usize = 8;
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const IMAGE_SIZE: usize = 56;
pub(crate) const HEADERS_SIZE: usize = 60;
pub(crate) const CHECKSUM: usize = 64;
pub(crate) const DIRECTORIES: usize = 112;
/// Index of the certificate table among the data directories.
pub(crate) const CERTIFICATES: usize = 4;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const READ_ONLY_DATA: u32 = 0x4000_0040;
/// More sections than a unified kernel image has.
const MOST_SECTIONS: usize = 96;

/// An image that holds together.
#[derive(Debug, Clone)]
pub struct Pe {
    pub(crate) bytes: Vec<u8>,
    /// Where the COFF header begins.
    coff: usize,
    pub(crate) sections: Vec<Section>,
}

/// A section as its header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, at most eight characters.
    pub name: String,
    /// Bytes in memory.
    pub virtual_size: usize,
    address: usize,
    pub(crate) raw_size: usize,
    pub(crate) raw_at: usize,
}

impl Pe {
    /// Reads an image. Fails on anything that reaches outside of it.
    pub fn read(bytes: Vec<u8>) -> Result<Pe> {
        ensure!(bytes.starts_with(b"MZ"), "it is no PE image: it does not begin with MZ");
        let signature = u32_at(&bytes, 0x3C)? as usize;
        let coff = signature.checked_add(4).context("the PE header lies outside")?;
        ensure!(bytes.get(signature..coff) == Some(b"PE\0\0"), "it is no PE image: no PE header");
        let mut pe = Pe { bytes, coff, sections: Vec::new() };
        let optional = usize::from(u16_at(&pe.bytes, coff + 16)?);
        ensure!(
            optional >= DIRECTORIES + 8 * (CERTIFICATES + 1) && pe.u16(0)? == 0x20B,
            "it is no PE32+ image"
        );
        let (section, file) = (pe.u32(SECTION_ALIGNMENT)?, pe.u32(FILE_ALIGNMENT)?);
        ensure!(
            section.is_power_of_two() && file.is_power_of_two() && file >= 16 && section >= file,
            "the alignments of the PE image make no sense"
        );
        let number = usize::from(u16_at(&pe.bytes, coff + 2)?);
        ensure!((1..=MOST_SECTIONS).contains(&number), "the PE image has {number} sections");
        for index in 0..number {
            let at = pe.table() + index * SECTION;
            let header = pe.bytes.get(at..at + SECTION).context("a section header lies outside")?;
            let name = header[..8].split(|byte| *byte == 0).next().unwrap_or_default();
            let field = |at| u32_at(header, at).map(|number| number as usize);
            let section = Section {
                name: String::from_utf8_lossy(name).into_owned(),
                virtual_size: field(8)?,
                address: field(12)?,
                raw_size: field(16)?,
                raw_at: field(20)?,
            };
            let end = section.raw_at.checked_add(section.raw_size);
            ensure!(
                end.is_some_and(|end| end <= pe.bytes.len()),
                "section {} lies outside of the PE image",
                section.name
            );
            pe.sections.push(section);
        }
        Ok(pe)
    }

    /// The processor it is for (`IMAGE_FILE_MACHINE_…`).
    pub fn machine(&self) -> Result<u16> {
        u16_at(&self.bytes, self.coff)
    }

    /// Its sections, in their order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// What a section holds, without the padding behind it.
    pub fn content(&self, section: &Section) -> &[u8] {
        let length = section.virtual_size.min(section.raw_size);
        &self.bytes[section.raw_at..section.raw_at + length]
    }

    /// The whole image.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole image, given up.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Puts a section of read-only data behind all others. Two may have the same name.
    ///
    /// Fails when there is no room for its header, on a signed image, and beyond 2 GiB.
    pub fn append(&mut self, name: &str, content: &[u8]) -> Result<()> {
        ensure!(name.len() <= 8 && !content.is_empty(), "section {name} is empty or misnamed");
        ensure!(self.certificates()?.1 == 0, "the PE image is signed already");
        let at = self.table() + self.sections.len() * SECTION;
        let headers = self.u32(HEADERS_SIZE)? as usize;
        let first_raw =
            self.sections.iter().filter(|s| s.raw_size > 0).map(|s| s.raw_at).min().unwrap_or(0);
        ensure!(
            at + SECTION <= headers.min(first_raw) && self.sections.len() < MOST_SECTIONS,
            "the PE image has no room for the header of section {name}"
        );
        let (section_step, file_step) =
            (self.u32(SECTION_ALIGNMENT)? as usize, self.u32(FILE_ALIGNMENT)? as usize);
        let end = self.sections.iter().map(|s| s.address + s.virtual_size.max(s.raw_size)).max();
        let address = end.unwrap_or(headers).next_multiple_of(section_step);
        let raw_at = self.bytes.len().next_multiple_of(file_step);
        let raw_size = content.len().next_multiple_of(file_step);
        if address.max(raw_at) + raw_size > i32::MAX as usize {
            bail!("the PE image would be larger than 2 GiB");
        }
        self.bytes.resize(raw_at, 0);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(raw_at + raw_size, 0);
        let mut header = [0; SECTION];
        header[..name.len()].copy_from_slice(name.as_bytes());
        for (at, number) in [
            (8, content.len() as u32),
            (12, address as u32),
            (16, raw_size as u32),
            (20, raw_at as u32),
            (36, READ_ONLY_DATA),
        ] {
            header[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        self.bytes[at..at + SECTION].copy_from_slice(&header);
        self.sections.push(Section {
            name: name.to_owned(),
            virtual_size: content.len(),
            address,
            raw_size,
            raw_at,
        });
        let number = self.sections.len() as u16;
        self.bytes[self.coff + 2..self.coff + 4].copy_from_slice(&number.to_le_bytes());
        let data = self.u32(INITIALIZED_DATA)?.wrapping_add(raw_size as u32);
        self.set_u32(INITIALIZED_DATA, data);
        self.set_u32(IMAGE_SIZE, (address + content.len()).next_multiple_of(section_step) as u32);
        // Nobody checks it, and it would have to change with every section.
        self.set_u32(CHECKSUM, 0);
        Ok(())
    }

    /// Where the certificate table begins in the file, and its bytes' number.
    pub(crate) fn certificates(&self) -> Result<(usize, usize)> {
        let at = DIRECTORIES + 8 * CERTIFICATES;
        Ok((self.u32(at)? as usize, self.u32(at + 4)? as usize))
    }

    /// Where the optional header begins in the file.
    pub(crate) fn optional(&self) -> usize {
        self.coff + 20
    }

    /// Where the section headers begin in the file.
    fn table(&self) -> usize {
        let size = u16_at(&self.bytes, self.coff + 16).unwrap_or_default();
        self.optional() + usize::from(size)
    }

    /// A number of the optional header.
    pub(crate) fn u32(&self, at: usize) -> Result<u32> {
        u32_at(&self.bytes, self.optional() + at)
    }

    fn u16(&self, at: usize) -> Result<u16> {
        u16_at(&self.bytes, self.optional() + at)
    }

    pub(crate) fn set_u32(&mut self, at: usize, number: u32) {
        let at = self.optional() + at;
        self.bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let field =
        bytes.get(at..).and_then(|rest| rest.first_chunk()).context("the file ends early")?;
    Ok(u32::from_le_bytes(*field))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let field =
        bytes.get(at..).and_then(|rest| rest.first_chunk()).context("the file ends early")?;
    Ok(u16::from_le_bytes(*field))
}

#[cfg(test)]
mod tests;
