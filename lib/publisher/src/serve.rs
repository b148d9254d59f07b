//! A small static HTTP/1.1 server, for development.
//!
//! It reads files below one folder and writes nothing, so Ctrl-C may end it at any moment. For the
//! field any web server does: nothing but GET, HEAD, Range and If-None-Match is asked of it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::http_request::{self, Method, Outcome, Request};

/// Connections served at once; one more is told to come back.
const MAX_CONNECTIONS: usize = 64;
/// A client that neither sends nor takes anything for this long is hung up on.
const IDLE: Duration = Duration::from_secs(30);
/// Stands between the parts of an answer. Each part says how long it is, so that it does no harm
/// within one.
const BOUNDARY: &str = "ferrite-0f6a1b7e5d3c";

/// Serves the folder `root`, which is canonical, for as long as the listener lives. `log` is given a
/// line for each request.
pub fn serve(listener: &TcpListener, root: PathBuf, log: impl Fn(&str) + Send + Sync + 'static) {
    let (root, log) = (Arc::new(root), Arc::new(log));
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: connections that end give some back.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if open.load(Ordering::SeqCst) >= MAX_CONNECTIONS {
            let _ = (&stream).write_all(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
                  Connection: close\r\n\r\n",
            );
            continue;
        }
        let (root, log, counted) = (root.clone(), log.clone(), OpenConnection::count(&open));
        let failed = log.clone();
        let spawned = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            let _counted = counted;
            let _ = connection(stream, &root, &*log);
        });
        if let Err(error) = spawned {
            failed(&format!("cannot start a thread for a connection: {error}"));
        }
    }
}

/// Counts a connection for as long as it lives.
struct OpenConnection(Arc<AtomicUsize>);

impl OpenConnection {
    fn count(open: &Arc<AtomicUsize>) -> OpenConnection {
        open.fetch_add(1, Ordering::SeqCst);
        OpenConnection(open.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn connection(stream: TcpStream, root: &Path, log: &dyn Fn(&str)) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    let mut input = BufReader::new(&stream);
    while let Some(head) = http_request::read_head(&mut input)? {
        let request = match Request::parse(&head) {
            Ok(request) => request,
            Err(status) => {
                log(&format!("{peer} - {} 0", status.0));
                return plain(&stream, status.0, status.1, false);
            }
        };
        let (status, sent) = respond(&stream, root, &request)?;
        let line = format!("{peer} {} {} {status} {sent}", request.method, request.path);
        // A path may hold anything; a log line is one line.
        log(&line.escape_default().to_string());
        if !request.keep_alive {
            break;
        }
    }
    Ok(())
}

fn plain(mut out: &TcpStream, code: u16, reason: &str, keep_alive: bool) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    write!(out, "HTTP/1.1 {code} {reason}\r\nContent-Length: 0\r\nConnection: {connection}\r\n\r\n")
}

/// Answers one request; gives the status and the bytes of the body that went out.
fn respond(mut out: &TcpStream, root: &Path, request: &Request) -> io::Result<(u16, u64)> {
    let file = request.file_below(root).and_then(|path| File::open(path).ok());
    let metadata = file.as_ref().and_then(|file| file.metadata().ok()).filter(|m| m.is_file());
    let (Some(mut file), Some(metadata)) = (file, metadata) else {
        plain(out, 404, "Not Found", request.keep_alive)?;
        return Ok((404, 0));
    };
    let size = metadata.len();
    let etag = format!("\"{size:x}-{:x}-{:x}\"", metadata.mtime(), metadata.mtime_nsec());
    let outcome = request.outcome(size, &etag);
    let kind = if request.path.ends_with(".json") {
        "application/json"
    } else {
        "application/octet-stream"
    };
    let mut body = Body::new(&outcome, size, kind);
    let length = body.length();
    let (code, reason) = outcome.status();
    let mut head = format!(
        "HTTP/1.1 {code} {reason}\r\nETag: {etag}\r\nAccept-Ranges: bytes\r\nConnection: {}\r\n",
        if request.keep_alive { "keep-alive" } else { "close" }
    );
    head += &body.headers;
    if outcome != Outcome::NotModified {
        head += &format!("Content-Length: {length}\r\n");
    }
    out.write_all((head + "\r\n").as_bytes())?;
    if request.method == Method::Head || length == 0 {
        return Ok((code, 0));
    }
    for (before, range) in body.pieces.drain(..) {
        out.write_all(before.as_bytes())?;
        let length = range.end - range.start;
        file.seek(SeekFrom::Start(range.start))?;
        if io::copy(&mut (&mut file).take(length), &mut out)? < length {
            // The file shrank; only hanging up tells the client.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    out.write_all(body.end.as_bytes())?;
    Ok((code, length))
}

/// What follows a head, and what the head says of it.
struct Body {
    headers: String,
    /// Text, then these bytes of the file.
    pieces: Vec<(String, Range<u64>)>,
    end: String,
}

impl Body {
    fn new(outcome: &Outcome, size: u64, kind: &str) -> Body {
        let content_range = |part: &Range<u64>| {
            format!("Content-Range: bytes {}-{}/{size}", part.start, part.end - 1)
        };
        let typed = format!("Content-Type: {kind}\r\n");
        let plain = |headers: String, part: Range<u64>| Body {
            headers,
            pieces: vec![(String::new(), part)],
            end: String::new(),
        };
        match outcome {
            Outcome::Whole => plain(typed, 0..size),
            Outcome::Part(part) => {
                plain(format!("{typed}{}\r\n", content_range(part)), part.clone())
            }
            Outcome::Unsatisfiable => plain(format!("Content-Range: bytes */{size}\r\n"), 0..0),
            Outcome::NotModified => plain(String::new(), 0..0),
            // RFC 9110, section 14.6.
            Outcome::Parts(parts) => {
                let before = |part: &Range<u64>| {
                    format!("\r\n--{BOUNDARY}\r\n{typed}{}\r\n\r\n", content_range(part))
                };
                Body {
                    headers: format!("Content-Type: multipart/byteranges; boundary={BOUNDARY}\r\n"),
                    pieces: parts.iter().map(|part| (before(part), part.clone())).collect(),
                    end: format!("\r\n--{BOUNDARY}--\r\n"),
                }
            }
        }
    }

    fn length(&self) -> u64 {
        let piece = |(text, part): &(String, Range<u64>)| text.len() as u64 + part.end - part.start;
        self.pieces.iter().map(piece).sum::<u64>() + self.end.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> (tempfile::TempDir, std::net::SocketAddr) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("repo")).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::fs::write(dir.path().join("repo/.lock"), "hidden").unwrap();
        std::fs::write(dir.path().join("repo/file"), "0123456789").unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("repo/link")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let root = dir.path().join("repo").canonicalize().unwrap();
        std::thread::spawn(move || serve(&listener, root, |_| ()));
        (dir, address)
    }

    fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A server that hangs up on what it has not read resets the connection.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn get(address: std::net::SocketAddr, path: &str, headers: &str) -> String {
        ask(
            address,
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"),
        )
    }

    #[test]
    fn whole_part_head_and_not_modified() {
        let (_dir, address) = start();
        let whole = get(address, "/file", "");
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\n0123456789"));
        let part = get(address, "/file?x=1", "Range: bytes=3-5\r\n");
        assert!(part.starts_with("HTTP/1.1 206 ") && part.ends_with("\r\n\r\n345"), "{part}");
        assert!(part.contains("Content-Range: bytes 3-5/10\r\n"), "{part}");
        let past = get(address, "/file", "Range: bytes=10-\r\n");
        assert!(past.starts_with("HTTP/1.1 416 ") && past.contains("bytes */10"), "{past}");
        let head = ask(address, "HEAD /file HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(head.contains("Content-Length: 10\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let etag = whole.lines().find_map(|l| l.strip_prefix("ETag: ")).unwrap();
        let same = get(address, "/file", &format!("If-None-Match: {etag}\r\n"));
        assert!(same.starts_with("HTTP/1.1 304 "), "{same}");
        let other = get(address, "/file", "If-Range: \"old\"\r\nRange: bytes=3-5\r\n");
        assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    }

    #[test]
    fn several_ranges_come_in_one_answer() {
        let (_dir, address) = start();
        let answer = get(address, "/file", "Range: bytes=1-2,5-5,-1\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
        let boundary = head.lines().find_map(|line| line.split_once("byteranges; boundary="));
        let boundary = boundary.unwrap().1;
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        let part = |range: &str, bytes: &str| {
            let kind = "Content-Type: application/octet-stream";
            format!("\r\n--{boundary}\r\n{kind}\r\nContent-Range: bytes {range}/10\r\n\r\n{bytes}")
        };
        let parts = [part("1-2", "12"), part("5-5", "5"), part("9-9", "9")].concat();
        assert_eq!(body, format!("{parts}\r\n--{boundary}--\r\n"));
    }

    #[test]
    fn nothing_outside_the_folder_is_served() {
        let (_dir, address) = start();
        for path in [
            "/../secret",
            "/%2e%2e/secret",
            "//etc/passwd",
            "/link",
            "/.lock",
            "/",
            "/none",
            "/file/",
            "/file%00",
        ] {
            let answer = get(address, path, "");
            assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
            assert!(!answer.contains("secret"));
        }
    }

    #[test]
    fn nonsense_is_answered_and_hung_up_on() {
        let (_dir, address) = start();
        assert!(ask(address, "POST /file HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(ask(address, "hello\r\n\r\n").starts_with("HTTP/1.1 400 "));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
        assert!(ask(address, &long).is_empty());
    }

    #[test]
    fn one_connection_carries_many_requests() {
        let (_dir, address) = start();
        let answers = ask(
            address,
            "GET /file HTTP/1.1\r\n\r\nGET /file HTTP/1.1\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(answers.matches("0123456789").count(), 2, "{answers}");
    }
}
