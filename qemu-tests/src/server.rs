//! A repository server that can go wrong in every way a test asks for.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::http::{self, Request};
use crate::served::Served;

/// The host's loopback as a guest with user-mode networking sees it.
const HOST_IN_GUEST: &str = "10.0.2.2";
/// How often a connection that waits looks whether the server is gone.
const TICK: Duration = Duration::from_millis(100);
/// How long a port stays taken at most by a program that is about to be started.
const GIVEN_UP: Duration = Duration::from_secs(3);
/// Bytes written at a time, so that a fault comes where it was asked for.
const PIECE: usize = 16 << 10;

/// Between the parts of an answer to a request for several ranges (RFC 9110, section 14.6).
const BOUNDARY: &str = "3d6b6a416f9b5";

/// How a request is answered wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status, with a short body.
    Status(u16),
    /// The connection stays open and nothing comes.
    Silence,
    /// Bytes that are not HTTP.
    Garbage,
    /// The right head without a length, and a body that never ends.
    Endless,
    /// One byte a second.
    Trickle,
    /// The right answer, so many bytes a second.
    Paced(u64),
    /// The connection is closed after this many bytes of the body.
    DropAfter(u64),
    /// The file is only this long; the answer itself is whole.
    Truncated(u64),
    /// The byte of the file at this offset has all its bits flipped.
    Altered(u64),
    /// Every byte of the file from this offset on has all its bits flipped.
    AlteredFrom(u64),
    /// `Range` is not understood: the whole file comes with 200.
    NoRange,
}

/// A fault, where it strikes, and how often it still does.
#[derive(Debug)]
struct Planned {
    path: String,
    fault: Fault,
    times: Option<usize>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Planned>,
    served: BTreeMap<String, Served>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    state: Mutex<State>,
    gone: AtomicBool,
}

/// Listens on this port of the loopback, or on a free one if it is 0.
///
/// A port that was given up a moment ago may still be taken: a program that another thread starts
/// has this process's sockets from its fork to its exec. That is waited for.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let patience = Instant::now() + GIVEN_UP;
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < patience => {
                std::thread::sleep(TICK / 5);
            }
            done => return done,
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves the files below `root` on a free port of the loopback.
    pub fn start(root: &Path) -> Result<Server> {
        Server::start_on(root, 0)
    }

    /// Like [`Server::start`], on this port: for a device whose image names the URL.
    pub fn start_on(root: &Path, port: u16) -> Result<Server> {
        let listener = listen(port).with_context(|| format!("cannot listen on port {port}"))?;
        let address = listener.local_addr().context("listening socket")?;
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            state: Mutex::default(),
            gone: AtomicBool::new(false),
        });
        let own = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.is_gone() {
                    break;
                }
                let (Ok(stream), shared) = (stream, own.clone()) else { continue };
                // The client sees a broken connection; that is all there is to say.
                std::thread::spawn(move || drop(connection(&stream, &shared)));
            }
        });
        Ok(Server { address, shared, thread: Some(thread) })
    }

    /// Its URL for a guest, with a slash at the end.
    pub fn url_in_guest(&self) -> String {
        format!("http://{HOST_IN_GUEST}:{}/", self.address.port())
    }

    /// Its URL for this machine, with a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Answers requests whose path contains `path` with `fault`, until [`Server::heal`].
    pub fn spoil(&self, path: &str, fault: Fault) {
        self.plan(path, fault, None);
    }

    /// Like [`Server::spoil`], for the next `times` requests only.
    pub fn spoil_times(&self, path: &str, fault: Fault, times: usize) {
        self.plan(path, fault, Some(times));
    }

    /// Answers everything rightly again.
    pub fn heal(&self) {
        self.shared.state().faults.clear();
    }

    /// What was served so far, by path.
    pub fn served(&self) -> BTreeMap<String, Served> {
        self.shared.state().served.clone()
    }

    /// What was served so far, of all paths that contain `path` together.
    pub fn served_of(&self, path: &str) -> Served {
        let mut sum = Served::default();
        for (_, served) in self.served().into_iter().filter(|(name, _)| name.contains(path)) {
            sum.requests += served.requests;
            sum.bytes += served.bytes;
            sum.ranges.extend(served.ranges);
        }
        sum
    }

    fn plan(&self, path: &str, fault: Fault, times: Option<usize>) {
        self.shared.state().faults.push(Planned { path: path.to_owned(), fault, times });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection, one request: `Connection: close` keeps a fault to the request it was meant for.
fn connection(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let Some(request) = http::read(stream) else { return Ok(()) };
    let fault = {
        let mut state = shared.state();
        let served = state.served.entry(request.path.clone()).or_default();
        served.requests += 1;
        let end = |last: Option<u64>| last.map_or(u64::MAX, |last| last.saturating_add(1));
        served.ranges.extend(request.ranges.iter().map(|(first, last)| *first..end(*last)));
        take_fault(&mut state.faults, &request.path)
    };
    match fault {
        Some(Fault::Status(status)) => answer(stream, status, "spoilt on purpose\n"),
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
                send(stream, shared, &request.path, &[b'x'; PIECE])?;
            }
            Ok(())
        }
        fault => {
            let file = match std::fs::read(local(&shared.root, &request.path)) {
                Ok(file) => file,
                Err(_) => return answer(stream, 404, "not found\n"),
            };
            file_answer(stream, shared, &request, file, fault)
        }
    }
}

/// The first fault planned for this path, counted down.
fn take_fault(faults: &mut [Planned], path: &str) -> Option<Fault> {
    let planned = faults.iter_mut().find(|p| path.contains(&p.path) && p.times != Some(0))?;
    if let Some(times) = &mut planned.times {
        *times -= 1;
    }
    Some(planned.fault)
}

/// The file that a path names; `..` leads nowhere.
fn local(root: &Path, path: &str) -> PathBuf {
    let plain = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
    root.join(plain.collect::<PathBuf>())
}

fn answer(mut stream: &TcpStream, status: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn file_answer(
    mut stream: &TcpStream,
    shared: &Shared,
    request: &Request,
    mut file: Vec<u8>,
    fault: Option<Fault>,
) -> io::Result<()> {
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
    let size = file.len() as u64;
    let asked: &[_] = if fault == Some(Fault::NoRange) { &[] } else { &request.ranges };
    let end = |last: Option<u64>| last.map_or(size, |last| last.saturating_add(1).min(size));
    let ranges = asked.iter().map(|(first, last)| *first..end(*last));
    let ranges: Vec<_> = ranges.filter(|range| range.start < range.end).collect();
    if !asked.is_empty() && ranges.is_empty() {
        return write!(
            stream,
            "HTTP/1.1 416 -\r\nContent-Range: bytes */{size}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let part = |range: &Range<u64>| &file[range.start as usize..range.end as usize];
    let content_range = |range: &Range<u64>| {
        format!("Content-Range: bytes {}-{}/{size}\r\n", range.start, range.end - 1)
    };
    let (status, more, body) = match &ranges[..] {
        [] => ("200 OK", String::new(), file.clone()),
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
    };
    let body = &body[..];
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{more}",
        body.len()
    );
    stream.write_all((head + "\r\n").as_bytes())?;
    if request.head {
        return Ok(());
    }
    match fault {
        Some(Fault::Trickle) => {
            for byte in body {
                send(stream, shared, &request.path, &[*byte])?;
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
            for piece in body.chunks(PIECE) {
                send(stream, shared, &request.path, piece)?;
                std::thread::sleep(Duration::from_secs_f64(
                    piece.len() as f64 / rate.max(1) as f64,
                ));
            }
            Ok(())
        }
        Some(Fault::DropAfter(length)) => {
            let length = body.len().min(length as usize);
            send(stream, shared, &request.path, &body[..length])?;
            stream.shutdown(Shutdown::Both)
        }
        _ => send(stream, shared, &request.path, body),
    }
}

/// Sends and counts.
fn send(mut stream: &TcpStream, shared: &Shared, path: &str, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(PIECE) {
        stream.write_all(piece)?;
        shared.state().served.entry(path.to_owned()).or_default().bytes += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const FILE: &[u8] = b"0123456789";

    fn server() -> (Server, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), FILE).unwrap();
        (Server::start(dir.path()).unwrap(), dir)
    }

    fn get(server: &Server, path: &str, more: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(server.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n").unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        all
    }

    fn body(answer: &[u8]) -> (String, String) {
        let text = String::from_utf8_lossy(answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        (head[..head.len().min(12)].to_owned(), body.to_owned())
    }

    #[test]
    fn a_port_that_is_given_up_late_is_waited_for() {
        let held = listen(0).unwrap();
        let port = held.local_addr().unwrap().port();
        let holder = std::thread::spawn(move || {
            std::thread::sleep(2 * TICK);
            drop(held);
        });
        listen(port).unwrap();
        holder.join().unwrap();
    }

    #[test]
    fn files_and_ranges_are_served_and_counted() {
        let (server, _dir) = server();
        assert_eq!(body(&get(&server, "/f", "")), ("HTTP/1.1 200".into(), "0123456789".into()));
        assert_eq!(
            body(&get(&server, "/f", "Range: bytes=4-\r\n")),
            ("HTTP/1.1 206".into(), "456789".into())
        );
        assert_eq!(body(&get(&server, "/f", "range: bytes=4-5\r\n")).1, "45");
        assert_eq!(body(&get(&server, "/f", "Range: bytes=10-\r\n")).0, "HTTP/1.1 416");
        assert_eq!(body(&get(&server, "/../f", "")).1, "0123456789");
        assert_eq!(body(&get(&server, "/none", "")).0, "HTTP/1.1 404");
        let served = server.served_of("/f");
        assert_eq!((served.requests, served.ranges), (5, vec![4..u64::MAX, 4..6, 10..u64::MAX]));
        assert_eq!(server.served()["/f"].bytes, 18);
        let (head, parts) = body(&get(&server, "/f", "range: bytes=0-1,4-5,99-\r\n"));
        assert_eq!(head, "HTTP/1.1 206");
        let part = |first: u8, last: u8, text| {
            format!("\r\n--3d6b6a416f9b5\r\nContent-Range: bytes {first}-{last}/10\r\n\r\n{text}")
        };
        let parts_expected = part(0, 1, "01") + &part(4, 5, "45") + "\r\n--3d6b6a416f9b5--\r\n";
        assert_eq!(parts, parts_expected);
    }

    #[test]
    fn each_fault_is_what_it_says() {
        let (server, _dir) = server();
        let with = |fault| {
            server.heal();
            server.spoil("f", fault);
            body(&get(&server, "/f", "Range: bytes=2-\r\n"))
        };
        assert_eq!(with(Fault::Status(500)).0, "HTTP/1.1 500");
        assert_eq!(with(Fault::DropAfter(3)).1, "234");
        let begin = Instant::now();
        assert_eq!(with(Fault::Paced(80)).1, "23456789");
        assert!(begin.elapsed() >= TICK, "{:?}", begin.elapsed());
        assert_eq!(with(Fault::Truncated(4)).1, "23");
        assert_eq!(with(Fault::Altered(2)).1.len(), 10, "one byte became a replacement character");
        assert_eq!(with(Fault::AlteredFrom(10)).1, "23456789", "there is nothing from there on");
        assert!(with(Fault::AlteredFrom(8)).1.starts_with("234567\u{fffd}"));
        assert_eq!(with(Fault::NoRange), ("HTTP/1.1 200".into(), "0123456789".into()));
        assert!(!with(Fault::Garbage).0.starts_with("HTTP"));
        server.heal();
        assert_eq!(body(&get(&server, "/f", "")).1, "0123456789");
    }

    #[test]
    fn a_fault_may_strike_only_a_few_times() {
        let (server, _dir) = server();
        server.spoil_times("f", Fault::Status(503), 2);
        let heads: Vec<_> = (0..3).map(|_| body(&get(&server, "/f", "")).0).collect();
        assert_eq!(heads, ["HTTP/1.1 503", "HTTP/1.1 503", "HTTP/1.1 200"]);
    }

    #[test]
    fn slow_and_endless_answers_end_with_the_server() {
        let (server, _dir) = server();
        for (fault, most) in
            [(Fault::Silence, 0), (Fault::Trickle, 9), (Fault::Endless, usize::MAX)]
        {
            server.heal();
            server.spoil("f", fault);
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            write!(stream, "GET /f HTTP/1.1\r\n\r\n").unwrap();
            let (mut all, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(length) = stream.read(&mut piece) {
                all.extend_from_slice(&piece[..length]);
                if length == 0 || all.len() > 1 << 20 {
                    break;
                }
            }
            let (_, body) = body(&all);
            assert!(body.len() <= most, "{fault:?}: {}", body.len());
            assert_eq!(fault == Fault::Endless, all.len() > 1 << 20, "{fault:?}");
        }
        drop(server);
    }
}
