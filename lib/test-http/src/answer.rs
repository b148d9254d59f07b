//! The answer to one request, right or wrong.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::time::Duration;

use crate::fault::Fault;
use crate::request::Request;
use crate::shared::{Shared, TICK};

/// Bytes written at a time by a server that is slow on purpose.
const PIECE: usize = 16 << 10;
/// Between the parts of an answer to a request for several ranges (RFC 9110, section 14.6).
const BOUNDARY: &str = "3d6b6a416f9b5";

/// Answers a request, with this fault.
pub(crate) fn answer(
    mut stream: &TcpStream,
    shared: &Shared,
    request: &Request,
    fault: Option<Fault>,
) -> io::Result<()> {
    match fault {
        Some(Fault::Status(code)) => status(stream, code, "spoilt on purpose\n"),
        Some(Fault::Silence) => {
            while !shared.is_gone() {
                std::thread::sleep(TICK);
            }
            Ok(())
        }
        Some(Fault::Garbage) => stream.write_all(&[0xFE; 4096]),
        Some(Fault::Endless) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            while !shared.is_gone() {
                shared.send(stream, &request.path, &[b'x'; PIECE])?;
            }
            Ok(())
        }
        Some(Fault::BadChunks) => {
            let (first, last) = request.ranges.first().copied().unwrap_or((0, None));
            write!(
                stream,
                "HTTP/1.1 206 -\r\nContent-Range: bytes {first}-{}/*\r\nTransfer-Encoding: chunked\r\n\
                 Connection: close\r\n\r\nzz\r\nnot one\r\n",
                last.unwrap_or(first)
            )
        }
        fault => match shared.file(&request.path) {
            Some(file) => send_file(stream, shared, request, file, fault),
            None => status(stream, 404, "not found\n"),
        },
    }
}

fn status(mut stream: &TcpStream, status: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn send_file(
    mut stream: &TcpStream,
    shared: &Shared,
    request: &Request,
    mut file: Vec<u8>,
    fault: Option<Fault>,
) -> io::Result<()> {
    alter(&mut file, fault);
    let size = file.len() as u64;
    let asked: &[_] = match fault {
        Some(Fault::NoRange) => &[],
        Some(Fault::SingleRangeOnly) if request.ranges.len() > 1 => &[],
        Some(Fault::FirstRangeOnly) => request.ranges.get(..1).unwrap_or_default(),
        _ => &request.ranges,
    };
    let end = |last: Option<u64>| last.map_or(size, |last| last.saturating_add(1).min(size));
    let ranges = asked.iter().map(|(first, last)| *first..end(*last));
    let ranges: Vec<_> = ranges.filter(|range| range.start < range.end).collect();
    if !asked.is_empty() && ranges.is_empty() {
        return write!(
            stream,
            "HTTP/1.1 416 -\r\nContent-Range: bytes */{size}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let shift = u64::from(fault == Some(Fault::WrongRange));
    let (status, more, body) = parts(&file, &ranges, shift);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if request.head {
        return Ok(());
    }
    send_body(stream, shared, &request.path, &body, fault)
}

fn alter(file: &mut Vec<u8>, fault: Option<Fault>) {
    match fault {
        Some(Fault::Truncated(length)) => file.truncate(length as usize),
        Some(Fault::Altered(at)) => {
            if let Some(byte) = file.get_mut(at as usize) {
                *byte = !*byte;
            }
        }
        Some(Fault::AlteredFrom(at)) => {
            file.iter_mut().skip(at as usize).for_each(|byte| *byte = !*byte);
        }
        _ => {}
    }
}

/// Status, more header lines, and the body: the file, one part of it, or several in MIME parts.
/// `shift` is added to the first byte that `Content-Range` names.
fn parts(file: &[u8], ranges: &[Range<u64>], shift: u64) -> (&'static str, String, Vec<u8>) {
    let part = |range: &Range<u64>| &file[range.start as usize..range.end as usize];
    let content_range = |range: &Range<u64>| {
        let (first, last, size) = (range.start + shift, range.end - 1, file.len());
        format!("Content-Range: bytes {first}-{last}/{size}\r\n")
    };
    match ranges {
        [] => ("200 OK", String::new(), file.to_vec()),
        [one] => ("206 Partial Content", content_range(one), part(one).to_vec()),
        several => {
            let mut body = Vec::new();
            for range in several {
                let head = format!("\r\n--{BOUNDARY}\r\n{}\r\n", content_range(range));
                body.extend([head.as_bytes(), part(range)].concat());
            }
            body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
            let kind = format!("Content-Type: multipart/byteranges; boundary={BOUNDARY}\r\n");
            ("206 Partial Content", kind, body)
        }
    }
}

fn send_body(
    stream: &TcpStream,
    shared: &Shared,
    path: &str,
    body: &[u8],
    fault: Option<Fault>,
) -> io::Result<()> {
    match fault {
        Some(Fault::Trickle) => {
            for byte in body {
                shared.send(stream, path, &[*byte])?;
                for _ in 0..10 {
                    if shared.is_gone() {
                        return Ok(());
                    }
                    std::thread::sleep(TICK);
                }
            }
            Ok(())
        }
        Some(Fault::Paced(rate)) => {
            // Ten pieces a second: a client that watches for silence hears none in a slow answer.
            let piece = usize::try_from(rate / 10).unwrap_or(PIECE).clamp(1, PIECE);
            for piece in body.chunks(piece) {
                shared.send(stream, path, piece)?;
                std::thread::sleep(Duration::from_secs_f64(
                    piece.len() as f64 / rate.max(1) as f64,
                ));
            }
            Ok(())
        }
        Some(Fault::DropAfter(length)) => {
            let length = body.len().min(length as usize);
            shared.send(stream, path, &body[..length])?;
            stream.shutdown(Shutdown::Both)
        }
        _ => shared.send(stream, path, body),
    }
}
