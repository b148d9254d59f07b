//! Private keys, told by their content: in PEM wherever it stands in a file, in DER, in the forms of
//! OpenSSH, Dropbear, PuTTY and PKCS #12, and inside archives.
//!
//! Images and updates are handed to everybody, so none may hold one. The project's own keys are
//! PKCS #8 in PEM (`publisher::keys`).

use anyhow::{Result, bail};

mod archive;

/// What PEM and PGP write in the line above a key (RFC 7468, 10 and 11; RFC 9580, 6.2).
const LABEL: &[u8] = b"PRIVATE KEY";
/// How far in front of the label its line may begin: `-----BEGIN ENCRYPTED `.
const BEFORE_LABEL: usize = 32;
/// Behind the label's line stand at least this many characters of base64; in a program that only
/// knows the label's text they do not.
const LEAST_BASE64: usize = 40;

/// A body shows within this many bytes, the indentation of its first line with them.
const BODY: usize = 1024;
/// Keys in DER are shorter; PKCS #12 may hold certificates, too.
const MAX_DER: usize = 1 << 20;

/// Fails when `bytes`, called `name` for people, is or holds a private key, or is an archive of which
/// that cannot be told.
pub fn refuse(name: &str, bytes: &[u8]) -> Result<()> {
    match archive::find(name, bytes) {
        Ok(None) => Ok(()),
        Ok(Some(found)) => bail!(
            "{found} is a private key, and images and updates are handed to everybody: leave it out \
             ([[file]] has `exclude`), or name a folder without it. What belongs to one device is \
             brought by `imager flash --file`"
        ),
        Err(archive::Unsearched { name, reason }) => bail!(
            "{name}: no private key may get into an image, and whether this archive holds one cannot \
             be told: {reason}. Leave it out ([[file]] has `exclude`), pack it again as .tar.gz, \
             .tar.zst or .zip, or name a folder with what is in it"
        ),
    }
}

/// Looks at a file piece by piece.
#[derive(Default)]
struct Detector {
    /// The file's first bytes.
    start: Vec<u8>,
    /// What was not looked at for PEM yet, and what it may have begun in.
    recent: Vec<u8>,
    length: u64,
    pem: bool,
}

impl Detector {
    /// So much is looked at in one go.
    const AT_ONCE: usize = 1 << 18;
    /// A key that is whole with what comes next begins in so many of the last bytes.
    const KEPT: usize = 2 * BODY;

    fn push(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let room = MAX_DER.saturating_sub(self.start.len());
        self.start.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.pem {
            return;
        }
        self.recent.extend_from_slice(bytes);
        if self.recent.len() >= Self::AT_ONCE {
            self.pem = has_pem(&self.recent);
            self.recent.drain(..self.recent.len() - Self::KEPT);
        }
    }

    /// Whether what was pushed is a private key, or has one in PEM in it.
    fn is_one(&self) -> bool {
        let is_whole = self.length == self.start.len() as u64;
        self.pem
            || has_pem(&self.recent)
            || is_of_ssh(&self.start)
            || (is_whole && is_der(&self.start))
    }
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
/// Line breaks may be written as `\n`, as in JSON, and each line may be a text of its own in a program.
/// Words of a sentence have spaces between them.
fn is_body(rest: &[u8]) -> bool {
    const HEADERS: [&[u8]; 3] = [b"Proc-Type:", b"Version:", b"Comment:"];
    let rest = rest.strip_prefix(b" BLOCK").unwrap_or(rest);
    let Some(rest) = rest.strip_prefix(b"-----") else { return false };
    let mut rest = &rest[..rest.len().min(BODY)];
    let mut found = 0;
    while let Some((&byte, tail)) = rest.split_first() {
        if found == 0 && HEADERS.iter().any(|header| rest.starts_with(header)) {
            return true;
        }
        rest = match byte {
            b'\\' if matches!(tail.first(), Some(b'n' | b'r')) => &tail[1..],
            b'\r' | b'\n' => tail,
            b' ' | b'\t' | b'"' | b'\'' | b',' | b'\\' => {
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
