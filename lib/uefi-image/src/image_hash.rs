//! What of a PE image a signature covers, and where the signature goes (Microsoft's "Windows
//! Authenticode Portable Executable Signature Format" 1.0, "Calculating the PE Image Hash"; UEFI
//! 2.10, 32.5.3.3).

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

use crate::pe::{CERTIFICATES, CHECKSUM, DIRECTORIES, HEADERS_SIZE, Pe};

/// `WIN_CERT_REVISION_2_0` and `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const REVISION: u16 = 0x0200;
const PKCS_SIGNED_DATA: u16 = 0x0002;
/// Bytes before the signature in a certificate table's entry.
const ENTRY: usize = 8;
/// Entries of the certificate table begin at multiples of this.
const ALIGNMENT: usize = 8;

impl Pe {
    /// SHA-256 over all of the image but its checksum, and where and what its signature is.
    ///
    /// Fails where there are gaps between its sections: the format leaves such bytes unsigned.
    pub fn authenticode_hash(&self) -> Result<[u8; 32]> {
        let (checksum, entry) = (self.optional() + CHECKSUM, self.certificates_entry());
        let headers = self.u32(HEADERS_SIZE)? as usize;
        ensure!(entry + 8 <= headers && headers <= self.bytes.len(), "the headers do not add up");
        let mut raw: Vec<_> = self.sections.iter().filter(|s| s.raw_size > 0).collect();
        raw.sort_by_key(|section| section.raw_at);
        let mut end = headers;
        for section in raw {
            ensure!(section.raw_at == end, "there is a gap before section {}", section.name);
            end += section.raw_size;
        }
        let (at, length) = self.certificates()?;
        let signed = if length == 0 { self.bytes.len() } else { at };
        ensure!(
            end <= signed && (length == 0 || at.checked_add(length) == Some(self.bytes.len())),
            "its certificate table is not its end"
        );
        Ok(Sha256::new()
            .chain_update(&self.bytes[..checksum])
            .chain_update(&self.bytes[checksum + 4..entry])
            .chain_update(&self.bytes[entry + 8..signed])
            .finalize()
            .into())
    }

    /// Whether something lies where signatures lie.
    pub fn is_signed(&self) -> Result<bool> {
        Ok(self.certificates()?.1 != 0)
    }

    /// Pads the image so that a signature can follow; before the hash is taken.
    pub(crate) fn pad_for_signature(&mut self) -> Result<()> {
        ensure!(self.certificates()?.1 == 0, "the PE image is signed already");
        let padded = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(padded, 0);
        Ok(())
    }

    /// Puts a signature (PKCS #7, DER) behind the image.
    pub(crate) fn attach_signature(&mut self, signature: &[u8]) -> Result<()> {
        self.pad_for_signature()?;
        let at = self.bytes.len();
        let length = ENTRY + signature.len();
        self.bytes.extend_from_slice(&(length as u32).to_le_bytes());
        self.bytes.extend_from_slice(&REVISION.to_le_bytes());
        self.bytes.extend_from_slice(&PKCS_SIGNED_DATA.to_le_bytes());
        self.bytes.extend_from_slice(signature);
        self.end_certificate_table(at)
    }

    /// Pads the table that begins at `at`, and says where it is.
    fn end_certificate_table(&mut self, at: usize) -> Result<()> {
        let padded = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(padded, 0);
        ensure!(padded <= i32::MAX as usize, "the PE image would be larger than 2 GiB");
        let directory = DIRECTORIES + 8 * CERTIFICATES;
        self.set_u32(directory, at as u32);
        self.set_u32(directory + 4, (padded - at) as u32);
        Ok(())
    }

    fn certificates_entry(&self) -> usize {
        self.optional() + DIRECTORIES + 8 * CERTIFICATES
    }
}
