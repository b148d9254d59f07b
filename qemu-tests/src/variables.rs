//! The store of variables of a UEFI firmware, with keys for Secure Boot enrolled: what a person does
//! in the firmware's setup.
//!
//! Its format is EDK2's (MdeModulePkg/Include/Guid/VariableFormat.h): a firmware volume's header, the
//! store's, then variables one behind the other, each aligned to 4 bytes, 0xFF up to the end.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// `EFI_GLOBAL_VARIABLE` (UEFI 2.10, 3.3).
const GLOBAL: Guid = guid(0x8BE4_DF61, 0x93CA, 0x11D2, 0xAA0D_00E0_9803_2B8C);
/// `EFI_IMAGE_SECURITY_DATABASE_GUID` (32.6.1).
const DATABASE: Guid = guid(0xD719_B2CB, 0x3D3A, 0x4596, 0xA3BC_DAD0_0E67_656F);
/// `EFI_CERT_X509_GUID` (32.4.1).
const X509: Guid = guid(0xA5C0_59A1, 0x94E4, 0x4AA7, 0x87B5_AB15_5C2B_F072);
/// Who enrolled a certificate: nobody asks.
const OWNER: Guid = guid(0x4645_5252, 0x4954, 0x4500, 0x8000_0000_0000_0001);
/// Non-volatile, for boot services and run time, and written by who signs what he writes (8.2).
const ATTRIBUTES: u32 = 0x27;
/// `FvLength` and `HeaderLength` of a firmware volume, whose signature is between them.
const SIGNATURE_AT: usize = 40;
const HEADER_LENGTH_AT: usize = 48;
/// `sizeof (VARIABLE_STORE_HEADER)`.
const STORE_HEADER: usize = 28;
/// The beginning of a variable, and the state of one that counts.
const START: u16 = 0x55AA;
const ADDED: u8 = 0x3F;

type Guid = [u8; 16];

/// A GUID as it lies in memory: its first three numbers in little endian.
const fn guid(a: u32, b: u16, c: u16, d: u64) -> Guid {
    let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), d.to_be_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

/// The firmware's empty store, enrolled with the certificates that `imager keygen --secure-boot` put
/// into `keys`: from its first start on the firmware enforces Secure Boot.
pub fn enrolled(empty: &Path, keys: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let mut store = read(empty)?;
    let mut variables = Vec::new();
    for (name, vendor) in [("db", DATABASE), ("KEK", GLOBAL), ("PK", GLOBAL)] {
        let certificate = read(&keys.join(name).with_extension("cer"))?;
        variables.extend(variable(name, vendor, &signature_list(&certificate)?)?);
    }
    let start = first_variable(&store).with_context(|| {
        format!("{} is no empty store of a UEFI firmware's variables", empty.display())
    })?;
    let room = store.get_mut(start..start + variables.len()).context("the store is too small")?;
    ensure!(room.iter().all(|byte| *byte == 0xFF), "{} is not empty", empty.display());
    room.copy_from_slice(&variables);
    Ok(store)
}

/// Where the first variable begins.
fn first_variable(store: &[u8]) -> Option<usize> {
    let signature = store.get(SIGNATURE_AT..SIGNATURE_AT + 4)?;
    let length = store.get(HEADER_LENGTH_AT..HEADER_LENGTH_AT + 2)?;
    let start = usize::from(u16::from_le_bytes(length.try_into().ok()?)) + STORE_HEADER;
    (signature == b"_FVH").then_some(start)
}

/// An `EFI_SIGNATURE_LIST` of one certificate (32.4.1).
fn signature_list(certificate: &[u8]) -> Result<Vec<u8>> {
    const LIST_HEADER: usize = 28;
    let size = OWNER.len() + certificate.len();
    let number = |value: usize| u32::try_from(value).map(u32::to_le_bytes);
    let (list, none, one) = (number(LIST_HEADER + size)?, number(0)?, number(size)?);
    Ok([&X509[..], &list, &none, &one, &OWNER, certificate].concat())
}

/// An `AUTHENTICATED_VARIABLE_HEADER` with its name and data.
fn variable(name: &str, vendor: Guid, data: &[u8]) -> Result<Vec<u8>> {
    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let number = |value: usize| u32::try_from(value).map(u32::to_le_bytes);
    // 2020-01-01: a later change has to be later than this (8.2.2).
    let mut time = [0; 16];
    time[..4].copy_from_slice(&[0xE4, 0x07, 1, 1]);
    let mut bytes = [
        &START.to_le_bytes()[..],
        &[ADDED, 0],
        &ATTRIBUTES.to_le_bytes(),
        // The count of an older way of signing.
        &[0; 8],
        &time,
        // The index of a key of that older way.
        &[0; 4],
        &number(name.len())?,
        &number(data.len())?,
        &vendor,
        &name,
        data,
    ]
    .concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0xFF);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Vec<u8> {
        let mut store = vec![0xFF; 4096];
        store[SIGNATURE_AT..SIGNATURE_AT + 4].copy_from_slice(b"_FVH");
        store[HEADER_LENGTH_AT..HEADER_LENGTH_AT + 2].copy_from_slice(&72_u16.to_le_bytes());
        store
    }

    #[test]
    fn three_variables_lie_one_behind_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        fs::write(&path, empty()).unwrap();
        for (name, length) in [("db", 5), ("KEK", 6), ("PK", 7)] {
            fs::write(dir.path().join(name).with_extension("cer"), vec![1; length]).unwrap();
        }
        let store = enrolled(&path, dir.path()).unwrap();
        let mut at = 100;
        for (name_size, length) in [(6_u32, 5), (8, 6), (6, 7)] {
            assert_eq!(store[at..at + 3], [0xAA, 0x55, ADDED]);
            assert_eq!(store[at + 36..at + 40], name_size.to_le_bytes());
            let data = 28 + 16 + length;
            assert_eq!(store[at + 40..at + 44], u32::to_le_bytes(data));
            let end = at + 60 + name_size as usize + data as usize;
            assert_eq!(store[end - length as usize..end], vec![1; length as usize]);
            at = end.next_multiple_of(4);
        }
        assert!(store[at..].iter().all(|byte| *byte == 0xFF));
    }

    #[test]
    fn what_is_no_empty_store_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        for name in ["db.cer", "KEK.cer", "PK.cer"] {
            fs::write(dir.path().join(name), [1]).unwrap();
        }
        let mut used = empty();
        used[100] = 0xAA;
        for wrong in [&used[..], &empty()[..200], &[0xFF; 4096], b""] {
            fs::write(&path, wrong).unwrap();
            assert!(enrolled(&path, dir.path()).is_err());
        }
    }
}
