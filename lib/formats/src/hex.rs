//! Lower-case hexadecimal, the form of every hash and key in Ferrite's text.

use alloc::string::String;

use crate::{Error, Result};

/// Encodes bytes as lower-case hexadecimal.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Decodes exactly `N` bytes of lower-case hexadecimal; upper case is refused so that one value
/// has one spelling.
pub fn decode<const N: usize>(text: &str) -> Result<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(Error::new("wrong number of hexadecimal digits"));
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

fn digit(c: u8) -> Result<u8> {
    match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(Error::new("not a lower-case hexadecimal digit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decode_inverts_encode(bytes: [u8; 32]) {
            prop_assert_eq!(decode::<32>(&encode(&bytes)).unwrap(), bytes);
        }
    }

    #[test]
    fn refuses_other_spellings() {
        for text in ["", "0", "0g", "0A", "00 ", "0000"] {
            assert!(decode::<1>(text).is_err(), "{text:?}");
        }
    }
}
