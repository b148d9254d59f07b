//! The answer to a request for several ranges: `multipart/byteranges` (RFC 9110, sections 14.4 and
//! 14.6; the boundary as in RFC 2046, section 5.1.1).
//!
//! Strict, and bounded in everything: what a server writes between the parts is read line by line
//! and must be what the standard says.

use std::io::{self, BufRead, Read};
use std::ops::Range;

/// The longest boundary (RFC 2046).
const MAX_BOUNDARY: usize = 70;
/// The longest line between parts, in bytes.
const MAX_LINE: usize = 512;
/// The most header lines of a part.
const MAX_HEADERS: usize = 16;
/// Empty lines that may stand before the first boundary; servers write none or one.
const MAX_LEADING: usize = 2;

/// The boundary, when a `Content-Type` says that the answer has several parts.
pub fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/byteranges") {
        return None;
    }
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value)
    })?;
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?,
        None => value,
    };
    let sound = (1..=MAX_BOUNDARY).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b));
    sound.then_some(value)
}

/// The bytes of the file that a `Content-Range` names.
pub fn content_range(value: &str) -> Option<Range<u64>> {
    let (unit, rest) = value.trim().split_once(' ')?;
    let (range, size) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
    let fits = size == "*" || number(size).is_some_and(|size| end <= size);
    (unit.eq_ignore_ascii_case("bytes") && first < end && fits).then_some(first..end)
}

/// Digits only: `u64::from_str` takes a sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Reads an answer part by part: [`Parts::next_part`], then its bytes through [`Read`].
#[derive(Debug)]
pub struct Parts<R> {
    reader: R,
    delimiter: Vec<u8>,
    left: u64,
    begun: bool,
}

impl<R: BufRead> Parts<R> {
    /// `boundary` as [`boundary`] gives it.
    pub fn new(reader: R, boundary: &str) -> Parts<R> {
        Parts { reader, delimiter: [b"--", boundary.as_bytes()].concat(), left: 0, begun: false }
    }

    /// Goes to the next part, and gives the bytes of the file that it holds; `None` behind the
    /// last one. The part before has to have been read to its end.
    pub fn next_part(&mut self) -> io::Result<Option<Range<u64>>> {
        if self.left > 0 {
            return Err(bad("a part was not read to its end"));
        }
        // A delimiter starts with the end of the line before it; before the first there is none.
        let most = if self.begun { 1 } else { MAX_LEADING };
        let mut line = self.line()?;
        let mut empty = 0;
        while line.is_empty() && empty < most {
            empty += 1;
            line = self.line()?;
        }
        if self.begun && empty != 1 {
            return Err(bad("a part is not as long as it says"));
        }
        self.begun = true;
        let Some(tail) = line.strip_prefix(&self.delimiter[..]) else {
            return Err(bad("a boundary is missing"));
        };
        match tail.trim_ascii_end() {
            b"" => {}
            b"--" => return Ok(None),
            _ => return Err(bad("a boundary is missing")),
        }
        let range = self.headers()?;
        self.left = range.end - range.start;
        Ok(Some(range))
    }

    fn headers(&mut self) -> io::Result<Range<u64>> {
        let mut range = None;
        for _ in 0..=MAX_HEADERS {
            let line = self.line()?;
            if line.is_empty() {
                return range.ok_or_else(|| bad("a part does not say which bytes it holds"));
            }
            let text = std::str::from_utf8(&line).map_err(|_| bad("a part's header is no text"))?;
            let Some((name, value)) = text.split_once(':') else {
                return Err(bad("a part's header is not one"));
            };
            if name.eq_ignore_ascii_case("content-range") {
                let value =
                    content_range(value).ok_or_else(|| bad("a Content-Range is not one"))?;
                if range.replace(value).is_some() {
                    return Err(bad("a part has two Content-Ranges"));
                }
            }
        }
        Err(bad("a part has too many headers"))
    }

    /// A line without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.reader).take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(match line.len() + 1 < MAX_LINE {
                true => io::ErrorKind::UnexpectedEof.into(),
                false => bad("a line between parts is too long"),
            });
        }
        match line.pop() {
            Some(b'\r') => Ok(line),
            _ => Err(bad("a line between parts does not end as lines do")),
        }
    }

    /// Reads what may stand behind the last part (an epilogue is at most `MAX_LINE` bytes here), so
    /// that the connection can be used again.
    pub fn finish(&mut self) -> io::Result<()> {
        let mut rest = [0; MAX_LINE];
        let mut epilogue = 0;
        while epilogue < MAX_LINE {
            match self.reader.read(&mut rest)? {
                0 => return Ok(()),
                length => epilogue += length,
            }
        }
        Err(bad("the answer goes on behind its end"))
    }
}

impl<R: BufRead> Read for Parts<R> {
    /// Bytes of the current part; 0 at its end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.reader.read(&mut buffer[..most])?;
        if length == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= length as u64;
        Ok(length)
    }
}

fn bad(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of RFC 9110, section 14.6, with its dots made bytes.
    const EXAMPLE: &str = "--THIS_STRING_SEPARATES\r\n\
        Content-Type: application/pdf\r\n\
        Content-Range: bytes 500-503/8000\r\n\
        \r\n\
        abcd\r\n\
        --THIS_STRING_SEPARATES\r\n\
        Content-Type: application/pdf\r\n\
        Content-Range: bytes 7000-7001/8000\r\n\
        \r\n\
        \r\n\r\n\
        --THIS_STRING_SEPARATES--\r\n";

    fn all(text: &[u8]) -> io::Result<Vec<(Range<u64>, Vec<u8>)>> {
        let mut parts = Parts::new(text, "THIS_STRING_SEPARATES");
        let mut found = Vec::new();
        while let Some(range) = parts.next_part()? {
            let mut bytes = Vec::new();
            parts.read_to_end(&mut bytes)?;
            found.push((range, bytes));
        }
        parts.finish()?;
        Ok(found)
    }

    #[test]
    fn the_example_of_the_standard() {
        let parts = all(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(parts, [(500..504, b"abcd".to_vec()), (7000..7002, b"\r\n".to_vec())]);
        let leading = format!("\r\n{EXAMPLE}");
        assert_eq!(all(leading.as_bytes()).unwrap(), parts, "nginx starts with an empty line");
    }

    #[test]
    fn whatever_is_cut_off_or_wrong_is_an_error() {
        for end in 0..EXAMPLE.len() - 3 {
            assert!(all(&EXAMPLE.as_bytes()[..end]).is_err(), "{end}");
        }
        let long = "x".repeat(MAX_LINE);
        for (from, to) in [
            ("500-503", "500-504"),
            ("500-503", "500-502"),
            ("500-503", "504-503"),
            ("500-503", "500-8000"),
            ("Content-Range: bytes 500-503/8000", "Range: bytes 500-503/8000"),
            ("Content-Type: application/pdf", "Content-Range: bytes 1-2/8000"),
            ("Content-Type: application/pdf", "no header"),
            ("Content-Type: application/pdf", long.as_str()),
            ("--THIS_STRING_SEPARATES--", "--ANOTHER--"),
            ("--THIS_STRING_SEPARATES--", "--THIS_STRING_SEPARATESx"),
        ] {
            assert!(all(EXAMPLE.replacen(from, to, 1).as_bytes()).is_err(), "{from} → {to}");
        }
        let endless = [EXAMPLE.as_bytes(), &[b'x'; 2 * MAX_LINE]].concat();
        assert!(all(&endless).is_err());
        let headers = "X: y\r\n".repeat(MAX_HEADERS + 1);
        assert!(all(format!("--THIS_STRING_SEPARATES\r\n{headers}\r\n").as_bytes()).is_err());
    }

    #[test]
    fn boundaries() {
        assert_eq!(boundary("multipart/byteranges; boundary=abc"), Some("abc"));
        assert_eq!(boundary("Multipart/ByteRanges;x=y; Boundary=\"a c\""), Some("a c"));
        for bad in [
            "multipart/byteranges",
            "multipart/byteranges; boundary=",
            "multipart/byteranges; boundary=\"a",
            "multipart/byteranges; boundary=a\u{7f}",
            "multipart/mixed; boundary=abc",
            "text/plain",
        ] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
        assert_eq!(boundary(&format!("multipart/byteranges; boundary={}", "x".repeat(71))), None);
    }

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 7-9/10"), Some(7..10));
        assert_eq!(content_range(" bytes 7-9/*"), Some(7..10));
        for bad in [
            "",
            "bytes */10",
            "bytes -9/10",
            "lines 7-9/10",
            "bytes 9-7/10",
            "bytes 7-9/9",
            "bytes +7-9/10",
            "bytes 7-9",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parts_come_back_whatever_their_bytes(
            parts in proptest::collection::vec((0u64..1 << 40, proptest::collection::vec(any::<u8>(), 1..200)), 0..6)
        ) {
            let mut text = Vec::new();
            let mut expected = Vec::new();
            for (first, bytes) in parts {
                let end = first + bytes.len() as u64;
                text.extend(format!("\r\n--THIS_STRING_SEPARATES\r\nContent-Range: bytes {first}-{}/*\r\n\r\n", end - 1).bytes());
                text.extend(&bytes);
                expected.push((first..end, bytes));
            }
            text.extend(b"\r\n--THIS_STRING_SEPARATES--\r\n");
            prop_assert_eq!(all(&text).unwrap(), expected);
        }

        #[test]
        fn nothing_panics(text in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..200, byte: u8) {
            let _ = all(&text);
            let mut altered = EXAMPLE.as_bytes().to_vec();
            altered[at] = byte;
            let _ = all(&altered);
        }
    }
}
