//! Secrets from files. None of them is ever shown, in errors neither.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Longest token, in bytes: what `ota` takes.
const MAX_TOKEN: u64 = 4096;

/// A passphrase in the first line of a file.
pub fn passphrase(path: &Path) -> Result<String> {
    let line = line(path, 4096)?;
    checked_passphrase(line).with_context(|| path.display().to_string())
}

/// The passphrase, if it is what WPA takes (IEEE 802.11-2020, J.4): 8 to 63 printable ASCII characters, or the key itself
/// as 64 hexadecimal digits.
pub fn checked_passphrase(text: String) -> Result<String> {
    let printable = text.bytes().all(|byte| (0x20..=0x7E).contains(&byte));
    let key = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(
        printable && (8..=63).contains(&text.len()) || key,
        "not a passphrase: it has 8 to 63 printable ASCII characters, or is a key of 64 hexadecimal digits"
    );
    Ok(text)
}

/// A bearer token in a file of one line, as `ota` takes it (RFC 6750).
pub fn token(path: &Path) -> Result<String> {
    let token = line(path, MAX_TOKEN + 2)?;
    ensure!(
        !token.is_empty()
            && token.len() as u64 <= MAX_TOKEN
            && token.bytes().all(|byte| byte.is_ascii_graphic()),
        "{}: not a token; it is one line of at most {MAX_TOKEN} visible ASCII characters",
        path.display()
    );
    Ok(token)
}

/// The only line of a file.
fn line(path: &Path, max: u64) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max + 1).read_to_end(&mut bytes))
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= max);
    let text = text.with_context(|| format!("{} is not one short line of text", path.display()))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    ensure!(!line.contains('\n'), "{} has more than one line", path.display());
    Ok(line.to_owned())
}
