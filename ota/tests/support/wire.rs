//! A server that keeps connections open as real ones do, speaks TLS when asked to, and counts every
//! byte on its sockets. Its headers are as long as nginx's.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

/// What is seen and said.
#[derive(Default)]
pub struct Shared {
    /// By path, without the slash in front.
    pub files: BTreeMap<String, Vec<u8>>,
    /// A path that is answered with 302 and this location.
    pub moved: BTreeMap<String, String>,
    /// The bearer token without which the answer is 401.
    pub token: Option<String>,
    /// Statuses that come before anything else, with a `Retry-After` of so many seconds.
    pub busy: Vec<(u16, Option<u64>)>,
    /// The heads of requests.
    pub heads: Vec<String>,
    /// Bodies of what was posted.
    pub posted: Vec<Vec<u8>>,
    /// Called before an answer is made: a server that changes under its readers.
    pub before: Option<Box<Before>>,
}

/// Sees the path that is asked for, and changes the files.
pub type Before = dyn FnMut(&str, &mut BTreeMap<String, Vec<u8>>) + Send;

/// Wraps a connection before HTTP is spoken on it: TLS.
pub type Wrap = dyn Fn(TcpStream, Arc<Counts>) -> Option<Box<dyn Stream>> + Send + Sync;

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Bytes and connections on the socket.
#[derive(Default)]
pub struct Counts {
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub connections: AtomicU64,
}

pub struct Wire {
    pub shared: Arc<Mutex<Shared>>,
    pub counts: Arc<Counts>,
    pub port: u16,
}

/// A socket that counts.
pub struct Counted(pub TcpStream, pub Arc<Counts>);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buffer)?;
        self.1.received.fetch_add(n as u64, Ordering::SeqCst);
        Ok(n)
    }
}

impl Write for Counted {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let n = self.0.write(buffer)?;
        self.1.sent.fetch_add(n as u64, Ordering::SeqCst);
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Wire {
    pub fn start(files: BTreeMap<String, Vec<u8>>) -> Wire {
        Wire::over(files, Box::new(|socket, counts| Some(Box::new(Counted(socket, counts)))))
    }

    pub fn over(files: BTreeMap<String, Vec<u8>>, wrap: Box<Wrap>) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared { files, ..Shared::default() }));
        let counts = Arc::new(Counts::default());
        let wire = Wire { shared: shared.clone(), counts: counts.clone(), port };
        let wrap = Arc::new(wrap);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (shared, counts, wrap) = (shared.clone(), counts.clone(), wrap.clone());
                counts.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    if let Some(stream) = wrap(socket, counts) {
                        let mut stream = BufReader::new(stream);
                        while let Ok(true) = answer(&mut stream, &shared) {}
                    }
                });
            }
        });
        wire
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn edit<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        change(&mut self.shared.lock().unwrap())
    }

    /// Bytes received and sent, and connections, since the last call.
    pub fn take_counts(&self) -> (u64, u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::SeqCst);
        (take(&self.counts.received), take(&self.counts.sent), take(&self.counts.connections))
    }

    /// The heads of requests since the last call.
    pub fn take_heads(&self) -> Vec<String> {
        self.edit(|shared| std::mem::take(&mut shared.heads))
    }
}

/// Answers one request; whether another may follow.
fn answer(
    stream: &mut BufReader<Box<dyn Stream>>,
    shared: &Mutex<Shared>,
) -> std::io::Result<bool> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Ok(false);
        }
    }
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_string())
        })
    };
    let mut body = vec![0; field("content-length").map_or(0, |n| n.parse().unwrap())];
    stream.read_exact(&mut body)?;
    let path = head.split(' ').nth(1).unwrap_or("").trim_start_matches('/').to_string();
    let reply = {
        let mut shared = shared.lock().unwrap();
        let Shared { files, before, .. } = &mut *shared;
        if let Some(before) = before {
            before(&path, files);
        }
        shared.heads.push(head.clone());
        if head.starts_with("POST") {
            shared.posted.push(body);
        }
        reply(&mut shared, &path, &field)
    };
    let (status, headers, body) = reply;
    let mut bytes = format!(
        "HTTP/1.1 {status} Status\r\nServer: nginx/1.22.1\r\nDate: Tue, 24 Nov 2026 16:00:00 GMT\r\n\
         Connection: keep-alive\r\n{headers}"
    );
    if status != 304 {
        bytes += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    bytes += "\r\n";
    let stream = stream.get_mut();
    stream.write_all(bytes.as_bytes())?;
    stream.write_all(&body)?;
    stream.flush()?;
    Ok(true)
}

fn reply(
    shared: &mut Shared,
    path: &str,
    field: &dyn Fn(&str) -> Option<String>,
) -> (u16, String, Vec<u8>) {
    if !shared.busy.is_empty() {
        let (status, after) = shared.busy.remove(0);
        let after = after.map_or(String::new(), |s| format!("Retry-After: {s}\r\n"));
        return (status, after, vec![]);
    }
    if let Some(to) = shared.moved.get(path) {
        return (302, format!("Location: {to}\r\n"), vec![]);
    }
    let token = shared.token.as_ref().map(|token| format!("Bearer {token}"));
    if token.is_some() && field("authorization") != token {
        return (401, String::new(), vec![]);
    }
    let Some(file) = shared.files.get(path) else {
        return (404, String::new(), vec![b'x'; 153]);
    };
    let etag = format!("\"{}\"", &formats::hex::encode(&Sha256::digest(file))[..16]);
    let headers = format!(
        "Last-Modified: Tue, 24 Nov 2026 15:00:00 GMT\r\nETag: {etag}\r\nAccept-Ranges: bytes\r\n"
    );
    if field("if-none-match").as_ref() == Some(&etag) {
        return (304, headers, vec![]);
    }
    let range = field("range").and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?.min(file.len() - 1)))
    });
    match range {
        Some((first, last)) => {
            let place = format!("Content-Range: bytes {first}-{last}/{}\r\n", file.len());
            (206, headers + &place, file[first..=last].to_vec())
        }
        None => (200, headers, file.clone()),
    }
}
