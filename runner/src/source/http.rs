//! A small HTTP/1.1 server: `POST /infer`, `GET /healthz`, `GET /metrics`. One request a
//! connection, a bounded number of connections, a deadline for each.

use super::request_head::{self, Head};
use super::{Event, Metrics, MAX_INPUT};
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::prepare::Preparer;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections at a time; each may hold one input of [`MAX_INPUT`] bytes.
const MAX_CONNECTIONS: usize = 4;
/// Longest request head.
const MAX_HEAD: usize = 8192;
/// A request must be whole within this time, however slowly it comes.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// An answer must be taken within this time.
const WRITE_TIME: Duration = Duration::from_secs(5);
/// Longest wait for the model: its queue and a slow board.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// After an early refusal this much of the body is still read, so that a client in the middle
/// of sending gets the answer and not a reset connection.
const DRAINED: usize = 256 * 1024;
/// And for this long: the connection's place is wanted by others.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Binds the address, so that a wrong one is known before ready.
pub fn open(config: &Config) -> Result<Option<TcpListener>, Error> {
    let Some(address) = &config.source.http else { return Ok(None) };
    TcpListener::bind(address).map(Some).map_err(|e| {
        Error::new(
            Exit::Source,
            format!("source.http {address}: {e}; expected address:port that is free"),
        )
    })
}

/// Serves in a thread of its own until the process ends.
pub fn serve(
    listener: TcpListener,
    preparer: Arc<Preparer>,
    events: SyncSender<Event>,
    metrics: Arc<Metrics>,
) -> Result<(), Error> {
    let connections = Arc::new(AtomicUsize::new(0));
    if let Ok(address) = listener.local_addr() {
        eprintln!("runner: listening on {address}");
    }
    super::thread("http", move || loop {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory: others may end and give some back.
                eprintln!("runner: accept: {error}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if connections.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            connections.fetch_sub(1, Ordering::SeqCst);
            answer(&stream, &Answer::error(503, "too many connections; try again"));
            continue;
        }
        let (events, metrics, slot) =
            (events.clone(), Arc::clone(&metrics), Occupied(Arc::clone(&connections)));
        let preparer = Arc::clone(&preparer);
        let started = super::thread("http-request", move || {
            let _slot = slot;
            connection(stream, &format!("http:{peer}"), &preparer, &events, &metrics);
        });
        if let Err(error) = started {
            eprintln!("runner: {error}");
        }
    })
}

/// Gives the place back however the connection's thread ends, or when it never starts.
struct Occupied(Arc<AtomicUsize>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn json(status: u16, mut body: String) -> Self {
        body.push('\n');
        Self { status, content_type: "application/json", body }
    }

    fn text(body: String) -> Self {
        Self { status: 200, content_type: "text/plain; version=0.0.4", body }
    }

    fn error(status: u16, text: &str) -> Self {
        Self::json(status, serde_json::json!({ "error": text }).to_string())
    }
}

fn connection(
    stream: TcpStream,
    name: &str,
    preparer: &Preparer,
    events: &SyncSender<Event>,
    metrics: &Metrics,
) {
    let deadline = Instant::now() + REQUEST_TIME;
    let reply = match read_head(&stream, deadline) {
        Ok((head, rest)) => match (head.method.as_str(), head.path.as_str()) {
            ("POST", "/infer") => infer(&stream, &head, rest, deadline, name, preparer, events),
            ("GET", "/healthz") => Answer::text("ok\n".into()),
            ("GET", "/metrics") => Answer::text(metrics.text()),
            (_, "/infer" | "/healthz" | "/metrics") => {
                Answer::error(405, "POST /infer, GET /healthz, GET /metrics")
            }
            _ => Answer::error(404, "there is POST /infer, GET /healthz and GET /metrics"),
        },
        Err(refusal) => refusal,
    };
    answer(&stream, &reply);
    if reply.status >= 400 {
        drain(&stream, Instant::now() + DRAIN_TIME);
    }
}

fn infer(
    stream: &TcpStream,
    head: &Head,
    rest: Vec<u8>,
    deadline: Instant,
    name: &str,
    preparer: &Preparer,
    events: &SyncSender<Event>,
) -> Answer {
    let bytes = match read_body(stream, head, rest, deadline) {
        Ok(bytes) => bytes,
        Err(refusal) => return refusal,
    };
    let (reply, answered) = sync_channel(1);
    let input = preparer.receive(bytes);
    if events.send(Event::Input { name: name.to_owned(), input, reply: Some(reply) }).is_err() {
        return Answer::error(503, "runner is stopping");
    }
    match answered.recv_timeout(ANSWER_TIME) {
        Ok((true, line)) => Answer::json(200, line),
        Ok((false, line)) => Answer::json(400, line),
        Err(_) => Answer::error(503, "the model did not answer in time"),
    }
}

/// Reads up to the empty line; returns the head and what came behind it.
fn read_head(mut stream: &TcpStream, deadline: Instant) -> Result<(Head, Vec<u8>), Answer> {
    let mut bytes = Vec::with_capacity(1024);
    let mut piece = [0; 1024];
    loop {
        match request_head::parse(&bytes).map_err(|reason| Answer::error(400, &reason))? {
            Some((head, length)) => return Ok((head, bytes.split_off(length))),
            None if bytes.len() >= MAX_HEAD => {
                return Err(Answer::error(431, "request head is too long"))
            }
            None => {}
        }
        let n = read_until(&mut stream, &mut piece, deadline)?;
        bytes.extend_from_slice(&piece[..n]);
    }
}

fn read_body(
    mut stream: &TcpStream,
    head: &Head,
    rest: Vec<u8>,
    deadline: Instant,
) -> Result<Vec<u8>, Answer> {
    let length = match head.length {
        _ if head.chunked => {
            return Err(Answer::error(411, "send the body with a Content-Length, not in chunks"))
        }
        None => return Err(Answer::error(411, "Content-Length is missing")),
        Some(length) if length > MAX_INPUT => {
            return Err(Answer::error(413, &format!("the body may have {MAX_INPUT} bytes")))
        }
        Some(0) => return Err(Answer::error(400, "the body is empty; send a picture")),
        Some(length) => length as usize,
    };
    if head.expects_continue && rest.is_empty() {
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .map_err(|_| Answer::error(408, "connection lost"))?;
    }
    let mut body = rest;
    body.truncate(length);
    let mut piece = vec![0; 16 * 1024];
    while body.len() < length {
        let n = read_until(&mut stream, &mut piece, deadline)?;
        // Grows with what really comes, not with what was announced.
        body.extend_from_slice(&piece[..n.min(length - body.len())]);
    }
    Ok(body)
}

/// Reads something before the deadline; the end of the stream is an error here.
fn read_until(
    stream: &mut &TcpStream,
    piece: &mut [u8],
    deadline: Instant,
) -> Result<usize, Answer> {
    let late = || Answer::error(408, "the request did not come in time");
    let left = deadline
        .checked_duration_since(Instant::now())
        .filter(|d| !d.is_zero())
        .ok_or_else(late)?;
    stream.set_read_timeout(Some(left)).map_err(|_| late())?;
    match stream.read(piece) {
        Ok(0) => Err(Answer::error(400, "the request ended too early")),
        Ok(n) => Ok(n),
        Err(_) => Err(late()),
    }
}

fn answer(mut stream: &TcpStream, answer: &Answer) {
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let text = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        answer.status,
        answer.content_type,
        answer.body.len(),
        answer.body
    );
    // Whoever asked may have gone; there is nobody to tell.
    let _ = stream.set_write_timeout(Some(WRITE_TIME));
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
}

fn drain(mut stream: &TcpStream, deadline: Instant) {
    let mut piece = [0; 4096];
    let mut drained = 0;
    while drained < DRAINED {
        match read_until(&mut stream, &mut piece, deadline) {
            Ok(n) => drained += n,
            Err(_) => return,
        }
    }
}
