//! What a static HTTP/1.1 server has to understand of a request (RFC 9110, RFC 9112).

use std::fmt;
use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The longest request head, in bytes.
const MAX_HEAD: u64 = 8 << 10;
/// The most ranges in one request; RFC 9110, section 14.2, lets a server ignore what looks like an
/// attack.
const MAX_RANGES: usize = 64;

/// The methods of a server that only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Wants the file.
    Get,
    /// Wants to know about it.
    Head,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
        })
    }
}

/// A request that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is wanted.
    pub method: Method,
    /// Path as sent, without the query.
    pub path: String,
    /// Whether the client may ask again on this connection.
    pub keep_alive: bool,
    range: Option<String>,
    if_range: Option<String>,
    if_none_match: Option<String>,
}

/// What a request gets of a file that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it.
    Whole,
    /// These bytes of it; never empty.
    Part(Range<u64>),
    /// These parts, two or more, none of them empty, together not longer than the file.
    Parts(Vec<Range<u64>>),
    /// The client has it.
    NotModified,
    /// The range asked for begins behind its end.
    Unsatisfiable,
}

impl Outcome {
    /// Status code and its name.
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            Outcome::Whole => (200, "OK"),
            Outcome::Part(_) | Outcome::Parts(_) => (206, "Partial Content"),
            Outcome::NotModified => (304, "Not Modified"),
            Outcome::Unsatisfiable => (416, "Range Not Satisfiable"),
        }
    }
}

/// Reads up to the empty line that ends a head. `None` when the client has closed the connection,
/// or sends a head too long to be one.
pub fn read_head(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut input = input.take(MAX_HEAD);
    loop {
        let start = head.len();
        if input.read_until(b'\n', &mut head)? == 0 || !head.ends_with(b"\n") {
            return Ok(None);
        }
        if matches!(&head[start..], b"\r\n" | b"\n") {
            return Ok(String::from_utf8(head).ok());
        }
    }
}

impl Request {
    /// Understands a head, or gives the status to answer with.
    pub fn parse(head: &str) -> Result<Request, (u16, &'static str)> {
        let bad = (400, "Bad Request");
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or("").split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad);
        };
        if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
            return Err(bad);
        }
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => return Err((405, "Method Not Allowed")),
        };
        let mut request = Request {
            method,
            path: target.split('?').next().unwrap_or(target).into(),
            keep_alive: version != "HTTP/1.0",
            range: None,
            if_range: None,
            if_none_match: None,
        };
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(bad)?;
            let value = value.trim().to_string();
            match name.to_ascii_lowercase().as_str() {
                "connection" => request.keep_alive &= !value.eq_ignore_ascii_case("close"),
                "range" => request.range = Some(value),
                "if-range" => request.if_range = Some(value),
                "if-none-match" => request.if_none_match = Some(value),
                // A body would be taken for the next request.
                "content-length" | "transfer-encoding" if value != "0" => {
                    return Err((413, "Content Too Large"));
                }
                _ => {}
            }
        }
        Ok(request)
    }

    /// The file that the path means: below `root` with links followed, no part of its name
    /// starting with a dot. `None` when there is none such.
    pub fn file_below(&self, root: &Path) -> Option<PathBuf> {
        let path = percent_decode(&self.path)?;
        let mut file = root.to_path_buf();
        for part in path.strip_prefix('/')?.split('/') {
            if part.is_empty() || part.starts_with('.') || part.contains('\0') {
                return None;
            }
            file.push(part);
        }
        let file = file.canonicalize().ok()?;
        file.starts_with(root).then_some(file)
    }

    /// What it gets of a file of `size` bytes with this entity tag.
    pub fn outcome(&self, size: u64, etag: &str) -> Outcome {
        let names = |list: &str| {
            list.split(',').any(|tag| matches!(tag.trim(), t if t == etag || t == "*"))
        };
        if self.if_none_match.as_deref().is_some_and(names) {
            return Outcome::NotModified;
        }
        if self.if_range.as_deref().is_some_and(|tag| tag != etag) {
            return Outcome::Whole;
        }
        // Another unit, nonsense: a server may ignore the header.
        let Some(asked) = self.range.as_deref().and_then(ranges) else { return Outcome::Whole };
        let mut parts: Vec<_> = asked.into_iter().filter_map(|asked| asked.of(size)).collect();
        let total = parts.iter().map(|part| part.end - part.start).fold(0, u64::saturating_add);
        match parts.len() {
            0 => Outcome::Unsatisfiable,
            1 => Outcome::Part(parts.remove(0)),
            _ if total > size => Outcome::Whole,
            _ => Outcome::Parts(parts),
        }
    }
}

/// One range of a request.
#[derive(Clone, Copy)]
enum Asked {
    /// From this byte to that one or the end.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

impl Asked {
    /// The bytes that it means in a file of `size` bytes; `None` if there are none.
    fn of(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Asked::From(first, last) => {
                first..last.map_or(size, |last| last.saturating_add(1).min(size))
            }
            Asked::Last(length) => size.saturating_sub(length)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// What `bytes=first-last,first-,-length` asks for; `None` if any of it is not that.
fn ranges(value: &str) -> Option<Vec<Asked>> {
    let list = value.strip_prefix("bytes=")?;
    if list.split(',').count() > MAX_RANGES {
        return None;
    }
    list.split(',').map(|range| single_range(range.trim())).collect()
}

fn single_range(range: &str) -> Option<Asked> {
    let number = |text: &str| match text {
        "" => Some(None),
        text if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok().map(Some),
        _ => None,
    };
    let (first, last) = range.split_once('-')?;
    match (number(first)?, number(last)?) {
        (None, None) => None,
        (Some(first), Some(last)) if last < first => None,
        (Some(first), last) => Some(Asked::From(first, last)),
        (None, Some(length)) => Some(Asked::Last(length)),
    }
}

fn percent_decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranged(range: &str, size: u64) -> Outcome {
        let head = format!("GET / HTTP/1.1\r\nrange: {range}\r\n\r\n");
        Request::parse(&head).unwrap().outcome(size, "\"e\"")
    }

    #[test]
    fn ranges() {
        assert_eq!(ranged("bytes=0-0", 10), Outcome::Part(0..1));
        assert_eq!(ranged("bytes=4-", 10), Outcome::Part(4..10));
        assert_eq!(ranged("bytes=4-99", 10), Outcome::Part(4..10));
        assert_eq!(ranged("bytes=-3", 10), Outcome::Part(7..10));
        assert_eq!(ranged("bytes=-30", 10), Outcome::Part(0..10));
        assert_eq!(ranged("bytes=10-", 10), Outcome::Unsatisfiable);
        assert_eq!(ranged("bytes=-0", 10), Outcome::Unsatisfiable);
        for ignored in
            ["bytes=5-4", "bytes=1-2,5-4", "lines=1-2", "bytes=-", "bytes=a-b", "bytes=+1-2"]
        {
            assert_eq!(ranged(ignored, 10), Outcome::Whole, "{ignored}");
        }
    }

    #[test]
    fn several_ranges() {
        assert_eq!(ranged("bytes=0-1,4-5, -2", 10), Outcome::Parts(vec![0..2, 4..6, 8..10]));
        assert_eq!(ranged("bytes=5-6,0-0", 10), Outcome::Parts(vec![5..7, 0..1]));
        assert_eq!(ranged("bytes=1-2,50-60", 10), Outcome::Part(1..3));
        assert_eq!(ranged("bytes=10-12,50-60", 10), Outcome::Unsatisfiable);
        assert_eq!(ranged("bytes=0-,0-", 10), Outcome::Whole, "more than there is");
        let many = |n: u64| {
            let list: Vec<_> = (0..n).map(|i| format!("{i}-{i}")).collect();
            ranged(&format!("bytes={}", list.join(",")), 1000)
        };
        assert_eq!(many(64), Outcome::Parts((0..64).map(|i| i..i + 1).collect()));
        assert_eq!(many(65), Outcome::Whole);
    }

    proptest! {
        #[test]
        fn any_head_is_parsed_without_panic(head in "\\PC{0,200}", size: u64) {
            if let Ok(request) = Request::parse(&head) {
                let _ = request.file_below(Path::new("/nonexistent"));
                let _ = request.outcome(size, "e");
            }
        }

        #[test]
        fn a_part_lies_within_the_file(first: u64, last: u64, size: u64) {
            for range in [format!("bytes={first}-{last}"), format!("bytes={first}-"), format!("bytes=-{last}")] {
                if let Outcome::Part(range) = ranged(&range, size) {
                    prop_assert!(range.start < range.end && range.end <= size);
                }
            }
        }
    }
}
