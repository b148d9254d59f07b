//! A small HTTP/1.1 server: `POST /infer`, `GET /healthz`, `GET /metrics`. One request a
//! connection, a bounded number of connections (`gate`), a deadline for each.

mod body;
pub mod form;
mod gate;
pub mod request_head;

pub use self::gate::MAX_WAITING;
use self::gate::{Gate, Peer, Place};
use self::request_head::Head;
use super::{Event, MAX_INPUT, Metrics, Verdict};
use crate::config::Config;
use crate::error::{self, Error, Exit};
use crate::prepare::Preparer;
use crate::sys;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Longest request head.
const MAX_HEAD: usize = 8192;
/// A request must be whole within this time, however slowly it comes.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// And some of it must come within this time.
const SILENCE: Duration = Duration::from_secs(5);
/// An answer must be taken within this time.
const WRITE_TIME: Duration = Duration::from_secs(5);
/// Longest wait for the model: its queue and a slow board.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// After an early refusal this much of the body is still read, so that a client in the middle
/// of sending gets the answer and not a reset connection.
const DRAINED: usize = 256 * 1024;
/// And for this long.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Listens on the address, so that a wrong one is known before ready. A socket that the process was
/// started with for that port is taken instead: it was there before any other program.
pub fn open(config: &Config) -> Result<Option<TcpListener>, Error> {
    let Some(address) = &config.source.http else { return Ok(None) };
    let port = address.parse::<SocketAddr>().map(|address| address.port()).ok();
    let handed = sys::handed_listeners()
        .into_iter()
        .find(|listener| port.is_some() && listener.local_addr().map(|at| at.port()).ok() == port);
    if let Some(listener) = handed {
        return Ok(Some(listener));
    }
    TcpListener::bind(address).map(Some).map_err(|e| {
        Error::new(
            Exit::Source,
            format!(
                "source.http {address}: {}; expected address:port that is free",
                error::plain(&e)
            ),
        )
    })
}

/// Serves in a thread of its own until the process ends. `room`: bytes that all bodies together may
/// have.
pub fn serve(
    listener: TcpListener,
    preparer: Arc<Preparer>,
    events: SyncSender<Event>,
    metrics: Arc<Metrics>,
    room: u64,
) -> Result<(), Error> {
    let gate = Gate::new(room.min(MAX_WAITING as u64 * MAX_INPUT));
    if let Ok(address) = listener.local_addr() {
        eprintln!("runner: listening on {address}");
    }
    super::thread("http", move || {
        loop {
            let (stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors or memory: others may end and give some back.
                    eprintln!("runner: accept: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let stream = Arc::new(stream);
            let Some(place) = gate.enter(Peer::of(peer.ip()), &stream) else {
                answer(&stream, &Answer::error(503, "too many connections; try again"));
                continue;
            };
            let (events, metrics) = (events.clone(), Arc::clone(&metrics));
            let (preparer, served) = (Arc::clone(&preparer), Arc::clone(&stream));
            let started = super::thread("http-request", move || {
                connection(&served, &place, &format!("http:{peer}"), &preparer, &events, &metrics);
            });
            if let Err(error) = started {
                eprintln!("runner: {error}");
                answer(&stream, &Answer::error(503, "too many connections; try again"));
            }
        }
    })
}

struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
    /// The length is said, and nothing sent.
    head_only: bool,
}

impl Answer {
    fn json(status: u16, mut body: String) -> Self {
        body.push('\n');
        Self { status, content_type: "application/json", body, head_only: false }
    }

    fn text(body: String) -> Self {
        Self { status: 200, content_type: "text/plain; version=0.0.4", body, head_only: false }
    }

    fn without_body(self) -> Self {
        Self { head_only: true, ..self }
    }

    fn error(status: u16, text: &str) -> Self {
        Self::json(status, serde_json::json!({ "error": text }).to_string())
    }
}

fn connection(
    stream: &TcpStream,
    place: &Place,
    name: &str,
    preparer: &Preparer,
    events: &SyncSender<Event>,
    metrics: &Metrics,
) {
    let deadline = Instant::now() + REQUEST_TIME;
    let reply = match read_head(stream, deadline) {
        Ok((head, rest)) => {
            let reply = match (head.method.as_str(), head.path.as_str()) {
                ("POST", "/infer") => match read_input(stream, place, &head, rest, deadline) {
                    Ok(body) => infer(body, place, name, preparer, events),
                    Err(refusal) => refusal,
                },
                ("GET", "/healthz") => Answer::text("ok\n".into()),
                ("GET", "/metrics") => Answer::text(metrics.text()),
                ("HEAD", "/healthz") => Answer::text("ok\n".into()),
                ("HEAD", "/metrics") => Answer::text(metrics.text()),
                (_, "/infer" | "/healthz" | "/metrics") => {
                    Answer::error(405, "POST /infer, GET /healthz, GET /metrics")
                }
                _ => Answer::error(404, "there is POST /infer, GET /healthz and GET /metrics"),
            };
            if head.method == "HEAD" { reply.without_body() } else { reply }
        }
        Err(refusal) => refusal,
    };
    place.answered();
    answer(stream, &reply);
    if reply.status >= 400 {
        drain(stream, Instant::now() + DRAIN_TIME);
    }
}

/// The body, or the file in it if it is a form.
fn read_input(
    stream: &TcpStream,
    place: &Place,
    head: &Head,
    rest: Vec<u8>,
    deadline: Instant,
) -> Result<Vec<u8>, Answer> {
    let unsound = |reason: String| Answer::error(400, &reason);
    let boundary = form::boundary(&head.content_type).map_err(unsound)?;
    let mut body = body::read(stream, place, head, rest, deadline)?;
    if let Some(boundary) = boundary {
        let file = form::first_file(&body, boundary).map_err(unsound)?;
        body.truncate(file.end);
        body.drain(..file.start);
    }
    Ok(body)
}

fn infer(
    body: Vec<u8>,
    place: &Place,
    name: &str,
    preparer: &Preparer,
    events: &SyncSender<Event>,
) -> Answer {
    if !place.wait() {
        return Answer::error(503, "too many pictures wait for the model; try again");
    }
    let (reply, answered) = sync_channel(1);
    let input = preparer.receive(body);
    if preparer.consumes_input() {
        place.let_go();
    }
    if events.send(Event::Input { name: name.to_owned(), input, reply: Some(reply) }).is_err() {
        return Answer::error(503, "runner is stopping");
    }
    match answered.recv_timeout(ANSWER_TIME) {
        Ok((Verdict::Result, line)) => Answer::json(200, line),
        Ok((Verdict::Wrong, line)) => Answer::json(400, line),
        Ok((Verdict::TooLarge, line)) => Answer::json(413, line),
        Ok((Verdict::NoNumber, line)) => Answer::json(500, line),
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
                return Err(Answer::error(431, "request head is too long"));
            }
            None => {}
        }
        let n = read_until(&mut stream, &mut piece, deadline)?;
        bytes.extend_from_slice(&piece[..n]);
    }
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
    stream.set_read_timeout(Some(left.min(SILENCE))).map_err(|_| late())?;
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
        500 => "Internal Server Error",
        _ => "Service Unavailable",
    };
    let text = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        answer.status,
        answer.content_type,
        answer.body.len(),
        if answer.head_only { "" } else { &answer.body }
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
