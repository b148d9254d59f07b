//! A static HTTP server with Range, which counts what it serves and misbehaves on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How the server treats requests for handle that end in a given text.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Answers with this status.
    Status(u16),
    /// Hangs up after so many bytes of each body, for so many requests.
    Drop { after: u64, times: u32 },
    /// The link is down once so many bytes were sent in all.
    CutAfter(u64),
    /// Serves the file as if it were so long.
    Truncate(u64),
    /// Flips a bit of the byte at this offset.
    Alter(u64),
    /// Answers 200 with all of the file, whatever the range.
    IgnoreRange,
    /// Answers requests for several ranges with 200 and all of the file.
    OneRange,
    /// Answers requests for several ranges with the first one only.
    FirstRange,
    /// Answers 206 with bytes from another place.
    WrongRange,
    /// Accepts and says nothing.
    Silent,
    /// Answers something that is not HTTP.
    Garbage,
    /// Answers with the right head, and a body whose chunks are none.
    BadChunks,
    /// Sends for ever.
    Endless,
    /// Sends a byte every 100 ms.
    Trickle,
}

#[derive(Default)]
struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    faults: Vec<(String, Fault)>,
    served: u64,
    served_of: BTreeMap<String, u64>,
    requests: Vec<String>,
    /// What happens once so many bytes were sent in all; then the link is down.
    cut: Option<(u64, Box<dyn FnOnce() + Send>)>,
    down: bool,
}

pub struct Server {
    shared: Arc<Mutex<Shared>>,
    pub url: String,
}

impl Server {
    pub fn start(files: BTreeMap<String, Vec<u8>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared { files, ..Shared::default() }));
        let inner = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = inner.clone();
                std::thread::spawn(move || {
                    let _ = answer(&stream, &shared);
                });
            }
        });
        Server { shared, url }
    }

    /// Serves one file, as `/x.update`.
    pub fn of(update: &[u8]) -> Server {
        Server::start(BTreeMap::from([("x.update".into(), update.to_vec())]))
    }

    pub fn update_url(&self) -> String {
        format!("{}/x.update", self.url)
    }

    pub fn put(&self, files: BTreeMap<String, Vec<u8>>) {
        self.shared.lock().unwrap().files = files;
    }

    pub fn fault(&self, path_end: &str, fault: Fault) {
        self.shared.lock().unwrap().faults.push((path_end.into(), fault));
    }

    /// Calls `then` at the moment when so many bytes were sent in all; from then on the link is
    /// down, until it is healed.
    pub fn cut_at(&self, sent: u64, then: impl FnOnce() + Send + 'static) {
        self.shared.lock().unwrap().cut = Some((sent, Box::new(then)));
    }

    pub fn heal(&self) {
        let mut shared = self.shared.lock().unwrap();
        shared.faults.clear();
        shared.cut = None;
        shared.down = false;
    }

    /// Bytes of bodies sent of files whose path ends so, since the log was taken.
    pub fn served_of(&self, end: &str) -> u64 {
        let shared = self.shared.lock().unwrap();
        shared.served_of.iter().filter(|(path, _)| path.ends_with(end)).map(|(_, n)| n).sum()
    }

    /// Bytes of bodies sent since the last question, and the requests.
    pub fn take_log(&self) -> (u64, Vec<String>) {
        let mut shared = self.shared.lock().unwrap();
        shared.served_of.clear();
        (std::mem::take(&mut shared.served), std::mem::take(&mut shared.requests))
    }
}

fn answer(mut stream: &TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut request = String::new();
    let mut input = BufReader::new(stream);
    input.read_line(&mut request)?;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? < 3 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            for range in value.trim().split(',') {
                let (first, last) = range.split_once('-').unwrap();
                ranges.push((first.parse().unwrap(), last.parse::<u64>().unwrap() + 1));
            }
        }
    }
    let path = request.split(' ').nth(1).unwrap_or("").trim_start_matches('/').to_string();
    let (file, fault) = {
        let mut shared = shared.lock().unwrap();
        if shared.down {
            return Ok(());
        }
        shared.requests.push(format!("{path} {ranges:?}"));
        let fault = shared.faults.iter_mut().find(|(end, _)| path.ends_with(end.as_str()));
        let fault = match fault {
            Some((_, Fault::Drop { times: 0, .. })) => None,
            Some((_, Fault::Drop { after, times })) => {
                *times -= 1;
                Some(Fault::Drop { after: *after, times: *times })
            }
            other => other.map(|(_, fault)| fault.clone()),
        };
        (shared.files.get(&path).cloned(), fault)
    };
    let status = |mut stream: &TcpStream, code: u16| {
        write!(stream, "HTTP/1.1 {code} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    let Some(mut file) = file else { return status(stream, 404) };
    let asked_for_ranges = !ranges.is_empty();
    match fault {
        Some(Fault::Status(code)) => return status(stream, code),
        Some(Fault::Silent) => {
            std::thread::sleep(Duration::from_secs(5));
            return Ok(());
        }
        Some(Fault::Garbage) => {
            return stream.write_all(b"\x00\x01 hello, this is no HTTP\r\n\r\n");
        }
        Some(Fault::BadChunks) => {
            let (first, end) = ranges.first().copied().unwrap_or((0, 1));
            return write!(
                stream,
                "HTTP/1.1 206 X\r\nContent-Range: bytes {first}-{}/*\r\nTransfer-Encoding: chunked\r\n\
                 Connection: close\r\n\r\nzz\r\nnot one\r\n",
                end - 1
            );
        }
        Some(Fault::Endless) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        }
        Some(Fault::Truncate(length)) => file.truncate(length as usize),
        Some(Fault::Alter(at)) => file[at as usize] ^= 4,
        Some(Fault::IgnoreRange) => ranges.clear(),
        Some(Fault::OneRange) if ranges.len() > 1 => ranges.clear(),
        Some(Fault::FirstRange) => ranges.truncate(1),
        _ => {}
    }
    let size = file.len() as u64;
    let whole = ranges.is_empty();
    ranges.retain_mut(|(first, end)| {
        *end = size.min(*end);
        first < end
    });
    if asked_for_ranges && ranges.is_empty() && !whole {
        return status(stream, 416);
    }
    let shift = u64::from(fault == Some(Fault::WrongRange));
    let content_range =
        |first, end| format!("Content-Range: bytes {}-{}/{size}", first + shift, end - 1);
    let (head, body) = match ranges[..] {
        [] => ("200 OK".to_string(), file),
        [(first, end)] => (
            format!("206 Partial Content\r\n{}", content_range(first, end)),
            file[first as usize..end as usize].to_vec(),
        ),
        _ => {
            let mut body = Vec::new();
            for &(first, end) in &ranges {
                body.extend(
                    format!("\r\n--3d6b6a416f9b5\r\n{}\r\n\r\n", content_range(first, end)).bytes(),
                );
                body.extend(&file[first as usize..end as usize]);
            }
            body.extend(b"\r\n--3d6b6a416f9b5--\r\n");
            let kind = "multipart/byteranges; boundary=3d6b6a416f9b5";
            (format!("206 Partial Content\r\nContent-Type: {kind}"), body)
        }
    };
    let mut body = &body[..];
    write!(
        stream,
        "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if let Some(Fault::Drop { after, .. }) = fault {
        body = &body[..body.len().min(after as usize)];
    }
    if fault == Some(Fault::Trickle) {
        for byte in body {
            stream.write_all(&[*byte])?;
            std::thread::sleep(Duration::from_millis(100));
        }
        return Ok(());
    }
    let link_ends = match fault {
        Some(Fault::CutAfter(bytes)) => bytes,
        _ => u64::MAX,
    };
    // In small pieces: what is counted is what a reader can have got.
    for piece in body.chunks(512) {
        let is_down = |shared: &Shared| shared.down || shared.served >= link_ends;
        if is_down(&shared.lock().unwrap()) {
            return Ok(());
        }
        stream.write_all(piece)?;
        let mut shared = shared.lock().unwrap();
        shared.served += piece.len() as u64;
        *shared.served_of.entry(path.clone()).or_default() += piece.len() as u64;
        let sent = shared.served;
        if let Some((_, then)) = shared.cut.take_if(|(at, _)| sent >= *at) {
            then();
            shared.down = true;
        }
    }
    Ok(())
}
