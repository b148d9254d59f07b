//! A public SSH key, as OpenSSH writes it into a `.pub` file (RFC 4253, 6.6; sshd(8),
//! AUTHORIZED_KEYS FILE FORMAT).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use formats::settings::MAX_SSH_KEY;

const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// The one key in a file, as a line.
pub fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SSH_KEY as u64 + 2).read_to_end(&mut bytes))
        .with_context(|| format!("--ssh-key {}: cannot be read", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    checked(text.trim_end()).with_context(|| format!("--ssh-key {}", path.display()))
}

fn checked(line: &str) -> Result<String> {
    ensure!(
        !line.contains("PRIVATE KEY"),
        "this is the private key, which stays where it is; give the .pub file beside it"
    );
    let mut words = line.split(' ');
    let kind = words.next().unwrap_or_default();
    ensure!(
        line.len() <= MAX_SSH_KEY && !line.chars().any(char::is_control) && KINDS.contains(&kind),
        "not one public key in one line, like `ssh-ed25519 AAAA… me@here`"
    );
    let key = words.next().and_then(base64).context("the key is not in base64")?;
    // A string with its length before it: the kind once more.
    let length = key.get(..4).map(|l| u32::from_be_bytes([l[0], l[1], l[2], l[3]]) as usize);
    let inner = length.and_then(|length| key.get(4..4usize.checked_add(length)?));
    ensure!(
        inner == Some(kind.as_bytes()) && key.len() > 4 + kind.len() + 32,
        "the key is damaged: it is not the {kind} it says it is"
    );
    Ok(line.to_owned())
}

/// Decodes base64 with padding (RFC 4648, 4).
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.is_empty() || !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJtSBkP1XUF1BPUiOHuvDFZQLvrQGRTLV3MI7VtZZkvx me@here";

    #[test]
    fn one_public_key_is_taken_and_nothing_else() {
        assert_eq!(checked(KEY).unwrap(), KEY);
        assert!(
            checked("-----BEGIN OPENSSH PRIVATE KEY-----")
                .unwrap_err()
                .to_string()
                .contains(".pub")
        );
        for bad in [
            "",
            "hello",
            "ssh-ed25519",
            "ssh-ed25519 ????",
            "ssh-dss AAAA",
            "command=\"x\" ssh-ed25519 AAAA",
            &KEY.replace("ssh-ed25519", "ssh-rsa"),
            &KEY.replace(" me", "\nme"),
            &KEY[..40],
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        // The test vectors of RFC 4648, 10.
        for (text, bytes) in [("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmE=", "fooba")]
        {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes());
        }
        for text in ["", "Zg", "Zg=", "Z===", "Zm9v!A==", "===="] {
            assert_eq!(base64(text), None, "{text}");
        }
    }
}
