//! Foreign text made harmless for a terminal.
//!
//! What a workload prints reaches the console, and people's terminals through `ctl`. A carriage
//! return or an escape sequence in it could write over the line's prefix and look like a message of
//! `init`'s, or change the terminal itself. So everything but text, tabs and line feeds is shown as
//! `\xNN`: control characters (C0, DEL, C1), what is no UTF-8, and the characters that turn the
//! direction of writing around or end a line in ways of their own.

/// The longest that [`plain`] gives, in characters: a report has room for it behind the reason.
const MAX_PLAIN: usize = 200;

/// Escapes a stream that comes in pieces: a character may be cut by the end of one.
#[derive(Debug, Default)]
pub struct Escaper {
    /// The beginning of a character, at most three bytes.
    cut: Vec<u8>,
}

impl Escaper {
    /// Appends `bytes`, made harmless, to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let joined;
        let bytes = if self.cut.is_empty() {
            bytes
        } else {
            joined = [&std::mem::take(&mut self.cut)[..], bytes].concat();
            &joined[..]
        };
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            for c in chunk.valid().chars() {
                character(c, out);
            }
            let invalid = chunk.invalid();
            let cut = std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if cut && chunks.peek().is_none() {
                self.cut.extend_from_slice(invalid);
            } else {
                hexadecimal(invalid, out);
            }
        }
    }

    /// The stream is over.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        hexadecimal(&std::mem::take(&mut self.cut), out);
    }
}

/// One piece of text that is whole, as [`Escaper`] does it.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut escaper = Escaper::default();
    escaper.push(bytes, out);
    escaper.finish(out);
}

/// One line that is whole: a line feed in it would begin another.
pub fn escape_line(line: &[u8], out: &mut Vec<u8>) {
    for (index, part) in line.split(|byte| *byte == b'\n').enumerate() {
        if index > 0 {
            hexadecimal(b"\n", out);
        }
        escape(part, out);
    }
}

/// The same of text, as text.
pub fn line(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    escape_line(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// One line without what a terminal would take for a command, and not longer than [`MAX_PLAIN`]: for
/// who reads it far from its terminal.
pub fn plain(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line.trim_ascii());
    let mut out = String::new();
    let mut chars = line.chars();
    let mut left = MAX_PLAIN;
    while let (Some(c), 1..) = (chars.next(), left) {
        match c {
            // A colour and the like (ECMA-48, "control sequence"): it goes whole.
            '\x1b' if chars.as_str().starts_with('[') => {
                chars.find(|c| c.is_ascii_alphabetic());
            }
            c if is_harmless(c) => {
                out.push(if c.is_control() { ' ' } else { c });
                left -= 1;
            }
            _ => {}
        }
    }
    out
}

fn character(c: char, out: &mut Vec<u8>) {
    let mut bytes = [0; 4];
    let bytes = c.encode_utf8(&mut bytes).as_bytes();
    if is_harmless(c) {
        out.extend_from_slice(bytes);
    } else {
        hexadecimal(bytes, out);
    }
}

fn is_harmless(c: char) -> bool {
    match c {
        '\t' | '\n' => true,
        // Line and paragraph separator; embeddings, overrides and isolates (Unicode, UAX #9).
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        c => !c.is_control(),
    }
}

fn hexadecimal(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        let digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        out.extend_from_slice(b"\\x");
        out.extend_from_slice(&digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_stays_as_it_is_and_the_rest_is_shown() {
        for (raw, shown) in [
            (&b"plain\ttext\n"[..], "plain\ttext\n"),
            ("grüße 😀".as_bytes(), "grüße 😀"),
            (
                b"\rferrite: all vital workloads healthy",
                "\\x0dferrite: all vital workloads healthy",
            ),
            (b"\x1b[2K\x1b[1G", "\\x1b[2K\\x1b[1G"),
            (b"a\x08b\x7fc\0", "a\\x08b\\x7fc\\x00"),
            (b"\xc2\x9b31m", "\\xc2\\x9b31m"),
            (b"\xff\xc3(\xe2\x82", "\\xff\\xc3(\\xe2\\x82"),
            ("\u{202e}txt".as_bytes(), "\\xe2\\x80\\xaetxt"),
        ] {
            assert_eq!(escaped(raw), shown);
        }
        assert_eq!(line("no\nsecond line\r"), "no\\x0asecond line\\x0d");
    }

    #[test]
    fn a_plain_line_has_no_colours_and_an_end() {
        for (raw, shown) in [
            (&b"\x1b[1;31merror\x1b[0m: no\tmodel\r"[..], "error: no model"),
            (b"\x07a\x1bb\xff\x1b[", "ab\u{fffd}"),
            ("\u{202e}gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            (b"", ""),
        ] {
            assert_eq!(plain(raw), shown);
        }
        assert_eq!(plain("\u{10348}".repeat(900).as_bytes()).chars().count(), MAX_PLAIN);
    }

    proptest! {
        #[test]
        fn a_plain_line_is_harmless(line: Vec<u8>) {
            let plain = plain(&line);
            prop_assert!(plain.chars().all(|c| is_harmless(c) && !"\t\n".contains(c)));
            prop_assert!(plain.chars().count() <= MAX_PLAIN);
        }

        #[test]
        fn nothing_but_text_comes_out_however_it_is_cut(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xc2), Just(0x9b), Just(0xe2)], 0..60),
            cuts in proptest::collection::vec(0usize..60, 0..5),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
            cuts.sort_unstable();
            let (mut escaper, mut out, mut from) = (Escaper::default(), Vec::new(), 0);
            for to in cuts.into_iter().chain([bytes.len()]) {
                escaper.push(&bytes[from..to], &mut out);
                from = to;
            }
            escaper.finish(&mut out);
            let out = String::from_utf8(out).unwrap();
            prop_assert!(out.chars().all(is_harmless));
            prop_assert_eq!(out, escaped(&bytes));
        }
    }
}
