//! The little of HTTP/1.1 that the repository server needs (RFC 9110, 9112).

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

/// A client that sends more than this before its empty line is hung up on.
const MAX_HEAD: u64 = 16 << 10;

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The path, with its leading slash, without a query.
    pub path: String,
    /// `HEAD` instead of `GET`.
    pub head: bool,
    /// First and last bytes asked for with `Range`, the last ones included; empty without it.
    pub ranges: Vec<(u64, Option<u64>)>,
}

/// Reads one request; `None` when the client closed or sent something else.
pub fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream.take(MAX_HEAD)).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let mut ranges = Vec::new();
    loop {
        let line = lines.next()?.ok()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("range") {
            ranges = parse_ranges(value.trim()).unwrap_or_default();
        }
    }
    let path = target.split('?').next()?.to_owned();
    match method {
        "GET" | "HEAD" => Some(Request { path, head: method == "HEAD", ranges }),
        _ => None,
    }
}

/// `bytes=FIRST-` or `bytes=FIRST-LAST`, or several of these after commas.
fn parse_ranges(value: &str) -> Option<Vec<(u64, Option<u64>)>> {
    let range = |text: &str| {
        let (first, last) = text.trim().split_once('-')?;
        let last = if last.is_empty() { None } else { Some(last.parse().ok()?) };
        Some((first.parse().ok()?, last))
    };
    value.strip_prefix("bytes=")?.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_ranges("bytes=5-"), Some(vec![(5, None)]));
        let two = Some(vec![(0, Some(65535)), (70000, Some(70001))]);
        assert_eq!(parse_ranges("bytes=0-65535, 70000-70001"), two);
        for other in ["bytes=-5", "lines=1-2", "bytes=a-b", "bytes=1-2,", ""] {
            assert_eq!(parse_ranges(other), None, "{other}");
        }
    }
}
