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
    /// First and last byte asked for with `Range`, the last one included.
    pub range: Option<(u64, Option<u64>)>,
}

/// Reads one request; `None` when the client closed or sent something else.
pub fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream.take(MAX_HEAD)).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let mut range = None;
    loop {
        let line = lines.next()?.ok()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("range") {
            range = parse_range(value.trim());
        }
    }
    let path = target.split('?').next()?.to_owned();
    match method {
        "GET" | "HEAD" => Some(Request { path, head: method == "HEAD", range }),
        _ => None,
    }
}

/// `bytes=FIRST-` or `bytes=FIRST-LAST`.
fn parse_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let last = if last.is_empty() { None } else { Some(last.parse().ok()?) };
    Some((first.parse().ok()?, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes=5-"), Some((5, None)));
        assert_eq!(parse_range("bytes=0-65535"), Some((0, Some(65535))));
        for other in ["bytes=-5", "lines=1-2", "bytes=a-b", ""] {
            assert_eq!(parse_range(other), None, "{other}");
        }
    }
}
