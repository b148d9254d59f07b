//! Private keys, told by their content: in PEM wherever it stands in a file, in DER, in the forms of
//! OpenSSH, Dropbear, PuTTY and PKCS #12, and inside archives.
//!
//! Images and updates are handed to everybody, so none may hold one. The project's own keys are
//! PKCS #8 in PEM (`publisher::keys`).

use std::io::{Cursor, Read};

use anyhow::{Result, bail};

/// Archives inside archives are opened this deep.
const MAX_DEPTH: u32 = 3;
/// Of one file, so much is looked at unpacked.
const MAX_UNPACKED: u64 = 1 << 30;
/// One archive has fewer members than this.
const MAX_MEMBERS: usize = 100_000;
/// What unpacking an xz stream may take of memory.
const XZ_MEMORY: u64 = 256 << 20;

/// What PEM and PGP write in the line above a key (RFC 7468, 10 and 11; RFC 9580, 6.2).
const LABEL: &[u8] = b"PRIVATE KEY";
/// How far in front of the label its line may begin: `-----BEGIN ENCRYPTED `.
const BEFORE_LABEL: usize = 32;
/// Behind the label's line stand at least this many characters of base64; in a program that only
/// knows the label's text they do not.
const LEAST_BASE64: usize = 40;

/// Fails when `bytes`, called `name` for people, is or holds a private key.
pub fn refuse(name: &str, bytes: &[u8]) -> Result<()> {
    let mut budget = MAX_UNPACKED;
    let Some(found) = find(name, bytes, 0, &mut budget) else { return Ok(()) };
    bail!(
        "{found} is a private key, and images and updates are handed to everybody: leave it out \
         ([[file]] has `exclude`), or name a folder without it. What belongs to one device is \
         brought by `imager flash --file`"
    )
}

/// The name of the first private key in a file, with those of the archives that it is in.
fn find(name: &str, bytes: &[u8], depth: u32, budget: &mut u64) -> Option<String> {
    // In an archive first: there the member has a name.
    let inside = if depth < MAX_DEPTH { in_archive(name, bytes, depth, budget) } else { None };
    inside.or_else(|| is_one(bytes).then(|| name.to_owned()))
}

/// In what an archive or a compressed file holds, told by its first bytes.
fn in_archive(name: &str, bytes: &[u8], depth: u32, budget: &mut u64) -> Option<String> {
    match bytes {
        [b'P', b'K', 3, 4, ..] => in_zip(name, bytes, depth, budget),
        [0x1F, 0x8B, ..] => {
            unpacked(name, flate2::bufread::MultiGzDecoder::new(bytes), depth, budget)
        }
        _ if unzstd::is_zstd(bytes) => unpacked(name, unzstd::reader(bytes).ok()?, depth, budget),
        [0xFD, b'7', b'z', b'X', b'Z', ..] => {
            let concatenated = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, concatenated);
            let decoder = liblzma::bufread::XzDecoder::new_stream(bytes, stream.ok()?);
            unpacked(name, decoder, depth, budget)
        }
        _ if bytes.get(257..262) == Some(b"ustar") => in_tar(name, bytes, depth, budget),
        _ => None,
    }
}

/// In what a compressed file unpacks to, as far as it does.
fn unpacked(name: &str, from: impl Read, depth: u32, budget: &mut u64) -> Option<String> {
    let bytes = bounded(from, budget);
    find(name, &bytes, depth + 1, budget)
}

/// What a reader gives, at most what is left of the budget. What is damaged counts up to there.
fn bounded(from: impl Read, budget: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.take(*budget).read_to_end(&mut bytes);
    *budget = budget.saturating_sub(bytes.len() as u64);
    bytes
}

fn in_tar(name: &str, bytes: &[u8], depth: u32, budget: &mut u64) -> Option<String> {
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().ok()?.take(MAX_MEMBERS) {
        let entry = entry.ok()?;
        let inner = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let member = bounded(entry, budget);
        let found = find(&format!("{name}: {inner}"), &member, depth + 1, budget);
        if found.is_some() {
            return found;
        }
    }
    None
}

fn in_zip(name: &str, bytes: &[u8], depth: u32, budget: &mut u64) -> Option<String> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    for index in 0..archive.len().min(MAX_MEMBERS) {
        // One that is encrypted is closed to everybody else, too.
        let Ok(member) = archive.by_index(index) else { continue };
        let inner = member.name().map(|name| name.into_owned()).unwrap_or_default();
        let member = bounded(member, budget);
        let found = find(&format!("{name}: {inner}"), &member, depth + 1, budget);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Whether a file is a private key, or text or anything else with one in PEM in it.
pub fn is_one(bytes: &[u8]) -> bool {
    has_pem(bytes) || is_der(bytes) || is_of_ssh(bytes)
}

/// A label line with base64, or the headers of RFC 1421, behind it.
fn has_pem(bytes: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = position(bytes, LABEL, from) {
        let line = &bytes[at.saturating_sub(BEFORE_LABEL)..at];
        let begins = line.windows(11).any(|part| part == b"-----BEGIN ");
        if begins && is_body(&bytes[at + LABEL.len()..]) {
            return true;
        }
        from = at + LABEL.len();
    }
    false
}

/// Whether what stands behind a label goes on as a key does: with base64 in lines, or with headers.
/// Line breaks may be written as `\n`, as in JSON. Words of a sentence have spaces between them.
fn is_body(rest: &[u8]) -> bool {
    const HEADERS: [&[u8]; 3] = [b"Proc-Type:", b"Version:", b"Comment:"];
    let rest = rest.strip_prefix(b" BLOCK").unwrap_or(rest);
    let Some(mut rest) = rest.strip_prefix(b"-----") else { return false };
    let mut found = 0;
    while let Some((&byte, tail)) = rest.split_first() {
        if found == 0 && HEADERS.iter().any(|header| rest.starts_with(header)) {
            return true;
        }
        rest = match byte {
            b'\\' if matches!(tail.first(), Some(b'n' | b'r')) => &tail[1..],
            b'\r' | b'\n' => tail,
            b' ' | b'\t' => {
                found = 0;
                tail
            }
            _ if byte.is_ascii_alphanumeric() || b"+/=".contains(&byte) => {
                found += 1;
                tail
            }
            _ => return false,
        };
        if found >= LEAST_BASE64 {
            return true;
        }
    }
    false
}

/// The place of `word` at or behind `from` (Horspool's algorithm).
fn position(bytes: &[u8], word: &[u8], from: usize) -> Option<usize> {
    let last = word.len().checked_sub(1)?;
    let mut skip = [word.len(); 256];
    for (index, byte) in word[..last].iter().enumerate() {
        skip[usize::from(*byte)] = last - index;
    }
    let mut at = from;
    while let Some(window) = bytes.get(at..at + word.len()) {
        if window == word {
            return Some(at);
        }
        at += skip[usize::from(window[last])];
    }
    None
}

/// Keys in binary of programs for SSH, and PuTTY's and age's text.
fn is_of_ssh(bytes: &[u8]) -> bool {
    // Dropbear's own form: name and length of the key's both halves; the public half alone has 32.
    const DROPBEAR: &[u8] = b"\0\0\0\x0Bssh-ed25519\0\0\0\x40";
    let starts: [&[u8]; 4] =
        [b"openssh-key-v1\0", DROPBEAR, b"PuTTY-User-Key-File-", b"AGE-SECRET-KEY-1"];
    starts.iter().any(|start| bytes.starts_with(start))
}

/// A whole file in DER: PKCS #8 (RFC 5958), plain or encrypted, PKCS #1 (RFC 8017), SEC 1
/// (RFC 5915) or PKCS #12 (RFC 7292).
fn is_der(bytes: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const OCTETS: u8 = 0x04;
    /// 1.2.840.113549.1.5.13, PBES2, and 1.2.840.113549.1.12.1, the older ways of PKCS #12.
    const PBES: [&[u8]; 2] = [
        &[6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 5, 0x0D],
        &[6, 0x0A, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 0x0C, 1],
    ];
    let Some((SEQUENCE, body, [])) = element(bytes) else { return false };
    let Some((first, version, rest)) = element(body) else { return false };
    let Some((second, content, _)) = element(rest) else { return false };
    match (first, version, second) {
        // PKCS #8: version, algorithm, key.
        (INTEGER, [0 | 1], SEQUENCE) => content.first() == Some(&6),
        // PKCS #1: version, modulus.
        (INTEGER, [0 | 1], INTEGER) => content.len() >= 64,
        // SEC 1: version, key.
        (INTEGER, [1], OCTETS) => (24..=66).contains(&content.len()),
        // PKCS #12: version 3, content.
        (INTEGER, [3], SEQUENCE) => content.first() == Some(&6),
        // Encrypted PKCS #8: how, and what.
        (SEQUENCE, how, OCTETS) => PBES.iter().any(|id| how.starts_with(id)),
        _ => false,
    }
}

/// Tag, content, and what follows, of the first element (X.690, 8.1); definite lengths only.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7F => (usize::from(short), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(short & 0x7F))?;
            (digits.iter().fold(0, |sum, digit| (sum << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests;
