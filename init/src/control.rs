//! The control socket: one request a connection, one line, answered with `ok` or `error <text>`
//! and a body. A client that is slow or silent costs a little memory for a little while.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use formats::boot_request::BootRequest;
use formats::{Error, Result, conf, layout};
use rustix::fs::{Gid, Mode, chmod, chown};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen,
    send, socket_with,
};

use crate::sys;
use crate::workload::log_ring::LogRing;

/// Connections served at the same time; further ones wait in the socket's queue.
const MAX_CLIENTS: usize = 8;
/// The longest request line.
pub const MAX_REQUEST: usize = 256;
/// A client must have sent its request, or read some of its answer, within this time.
const PATIENCE: u64 = 10_000;
/// What a helper works on is answered within this time: more than a helper lives.
const HELD_FOR: u64 = 60_000;

/// A request, as `ctl` and others may make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `status`, `status json`.
    Status {
        /// As JSON.
        json: bool,
    },
    /// `logs NAME`, `logs-follow NAME`.
    Logs {
        /// The workload.
        name: String,
        /// Keep the connection and send what comes.
        follow: bool,
    },
    /// `start NAME`.
    Start(String),
    /// `stop NAME`.
    Stop(String),
    /// `restart NAME`.
    Restart(String),
    /// `reboot`.
    Reboot,
    /// `poweroff`.
    PowerOff,
    /// `health`.
    Health,
    /// `signed-time SECONDS`: when the repository says it was last signed, since 1970.
    SignedTime(u64),
    /// `trial-waits REASON`: what keeps the trial from being committed.
    TrialWaits(String),
    /// `boot-…`.
    Boot(BootRequest),
}

impl Request {
    /// The word that an `ask` line of `system.conf` names it by: the first one of its line.
    pub fn verb(&self) -> &'static str {
        match self {
            Request::Status { .. } => "status",
            Request::Logs { follow: false, .. } => "logs",
            Request::Logs { follow: true, .. } => "logs-follow",
            Request::Start(_) => "start",
            Request::Stop(_) => "stop",
            Request::Restart(_) => "restart",
            Request::Reboot => "reboot",
            Request::PowerOff => "poweroff",
            Request::Health => "health",
            Request::SignedTime(_) => "signed-time",
            Request::TrialWaits(_) => "trial-waits",
            Request::Boot(request) => request.verb(),
        }
    }
}

/// Parses a request line without its line feed.
pub fn parse(line: &[u8]) -> Option<Request> {
    let line = std::str::from_utf8(line).ok()?;
    if let Some(request) = BootRequest::parse(line) {
        return Some(Request::Boot(request));
    }
    // The only request that is a sentence.
    if let Some(reason) = line.strip_prefix("trial-waits ") {
        let sound = !reason.is_empty() && !reason.chars().any(char::is_control);
        return sound.then(|| Request::TrialWaits(reason.into()));
    }
    let mut words = line.split(' ');
    let (verb, object, rest) = (words.next()?, words.next(), words.next());
    if rest.is_some() {
        return None;
    }
    let name = object.filter(|name| !name.is_empty()).map(String::from);
    match (verb, object) {
        ("status", None) => Some(Request::Status { json: false }),
        ("status", Some("json")) => Some(Request::Status { json: true }),
        ("reboot", None) => Some(Request::Reboot),
        ("poweroff", None) => Some(Request::PowerOff),
        ("health", None) => Some(Request::Health),
        ("signed-time", Some(seconds)) => conf::decimal(seconds).map(Request::SignedTime),
        ("logs", _) => Some(Request::Logs { name: name?, follow: false }),
        ("logs-follow", _) => Some(Request::Logs { name: name?, follow: true }),
        ("start", _) => name.map(Request::Start),
        ("stop", _) => name.map(Request::Stop),
        ("restart", _) => name.map(Request::Restart),
        _ => None,
    }
}

/// What a client is sent: a text, and after it a workload's log.
#[derive(Debug)]
pub struct Answer {
    /// First line and body.
    pub text: Vec<u8>,
    /// Workload whose log follows, and whether to stay for more.
    pub log: Option<(usize, bool)>,
}

impl Answer {
    /// `ok` and this body.
    pub fn ok(body: &str) -> Answer {
        Answer { text: ["ok\n", body].concat().into_bytes(), log: None }
    }

    /// `error` and this text.
    pub fn error(text: &str) -> Answer {
        Answer { text: ["error ", text, "\n"].concat().into_bytes(), log: None }
    }
}

#[derive(Debug)]
struct Client {
    fd: OwnedFd,
    /// No other connection has it until the next boot.
    number: u64,
    /// The user on the other end when it connected. `None` when the kernel does not say.
    peer: Option<u32>,
    /// A helper works on its request.
    held: bool,
    request: Vec<u8>,
    answer: Option<Answer>,
    sent: usize,
    /// Absolute position in the log ring.
    position: u64,
    deadline: u64,
    done: bool,
}

/// The socket and its clients.
#[derive(Debug)]
pub struct Control {
    listener: OwnedFd,
    clients: Vec<Client>,
    accepted: u64,
}

/// Opens the socket.
pub fn open() -> Result<Control> {
    let path = layout::CTL_SOCKET;
    let error = |e: rustix::io::Errno| Error::new([path, ": ", &e.to_string()].concat());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(error)?;
    // Nobody but root can reach it until group and mode are set.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = SocketAddrUnix::new(path).and_then(|address| bind(&listener, &address));
    rustix::process::umask(mask);
    bound.map_err(error)?;
    chown(path, None, Some(Gid::from_raw(layout::GROUP_CTL))).map_err(error)?;
    chmod(path, Mode::from_raw_mode(0o660)).map_err(error)?;
    listen(&listener, MAX_CLIENTS as i32).map_err(error)?;
    Ok(Control { listener, clients: Vec::new(), accepted: 0 })
}

impl Control {
    /// What to wait for: the listener (index `None`) and each client, with whether to wait for
    /// room to write instead of for something to read.
    pub fn descriptors<'a>(
        &'a self,
        rings: impl Fn(usize) -> Option<&'a LogRing>,
        mut add: impl FnMut(Option<usize>, BorrowedFd<'a>, bool),
    ) {
        if self.clients.len() < MAX_CLIENTS {
            add(None, self.listener.as_fd(), false);
        }
        for (index, client) in self.clients.iter().enumerate() {
            add(Some(index), client.fd.as_fd(), client.has_news(&rings));
        }
    }

    /// Takes new connections in.
    pub fn accept(&mut self, now: u64) {
        while self.clients.len() < MAX_CLIENTS {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(fd) = accept_with(&self.listener, flags) else { return };
            self.accepted += 1;
            self.clients.push(Client {
                number: self.accepted,
                peer: socket_peercred(&fd).ok().map(|peer| peer.uid.as_raw()),
                held: false,
                fd,
                request: Vec::new(),
                answer: None,
                sent: 0,
                position: 0,
                deadline: now + PATIENCE,
                done: false,
            });
        }
    }

    /// A client's descriptor is ready: reads its request. Returns it once it is complete; the
    /// caller then gives the answer to [`Control::answer`].
    pub fn on_readable(&mut self, index: usize) -> Option<std::result::Result<Request, Answer>> {
        let client = self.clients.get_mut(index)?;
        let mut buffer = [0; MAX_REQUEST + 1];
        match sys::read_ready(&client.fd, &mut buffer) {
            None => return None,
            Some(0) => {
                // Gone, or half closed after a whole request; only the first matters here.
                client.done = client.answer.is_none() || client.is_following();
                return None;
            }
            Some(_) if client.answer.is_some() || client.held => return None,
            Some(n) => client.request.extend_from_slice(&buffer[..n]),
        }
        let end = client.request.iter().position(|byte| *byte == b'\n');
        match end {
            Some(end) if end <= MAX_REQUEST => {
                Some(parse(&client.request[..end]).ok_or_else(|| Answer::error("unknown request")))
            }
            None if client.request.len() <= MAX_REQUEST => None,
            _ => Some(Err(Answer::error("request too long"))),
        }
    }

    /// Who is at the other end, and the number that tells this connection from all others.
    pub fn client(&self, index: usize) -> Option<(u64, Option<u32>)> {
        self.clients.get(index).map(|client| (client.number, client.peer))
    }

    /// Lets a client wait for a helper.
    pub fn hold(&mut self, index: usize, now: u64) {
        if let Some(client) = self.clients.get_mut(index) {
            client.held = true;
            client.deadline = now + HELD_FOR;
        }
    }

    /// Sets what the client of this number is sent, if it is still there.
    pub fn answer_held(&mut self, number: u64, answer: Answer, now: u64) {
        if let Some(index) = self.clients.iter().position(|client| client.number == number) {
            self.clients[index].deadline = now + PATIENCE;
            self.answer(index, answer);
        }
    }

    /// Sets what a client is sent.
    pub fn answer(&mut self, index: usize, answer: Answer) {
        if let Some(client) = self.clients.get_mut(index) {
            client.request = Vec::new();
            client.answer = Some(answer);
        }
    }

    /// Sends what the clients take, and drops those that are done or too slow.
    pub fn serve<'a>(&mut self, rings: impl Fn(usize) -> Option<&'a LogRing>, now: u64) {
        for client in &mut self.clients {
            client.send(&rings, now);
            if now >= client.deadline {
                client.done = true;
            }
        }
        self.clients.retain(|client| !client.done);
    }

    /// When the next client has been too slow.
    pub fn deadline(&self) -> Option<u64> {
        self.clients.iter().map(|client| client.deadline).min().filter(|at| *at != u64::MAX)
    }
}

impl Client {
    fn is_following(&self) -> bool {
        matches!(&self.answer, Some(Answer { log: Some((_, true)), .. }))
    }

    fn has_news<'a>(&self, rings: &impl Fn(usize) -> Option<&'a LogRing>) -> bool {
        let Some(answer) = &self.answer else { return false };
        if self.sent < answer.text.len() {
            return true;
        }
        match answer.log.and_then(|(index, _)| rings(index)) {
            Some(ring) => self.position < ring.end(),
            None => false,
        }
    }

    fn send<'a>(&mut self, rings: &impl Fn(usize) -> Option<&'a LogRing>, now: u64) {
        let Some(answer) = &self.answer else { return };
        let ring = answer.log.and_then(|(index, _)| rings(index));
        loop {
            let (start, bytes) = if self.sent < answer.text.len() {
                (0, &answer.text[self.sent..])
            } else {
                match ring {
                    Some(ring) => ring.read(self.position),
                    None => (0, &[][..]),
                }
            };
            if bytes.is_empty() {
                match answer.log {
                    // Following: silence is no fault of the client.
                    Some((_, true)) => self.deadline = u64::MAX,
                    _ => self.done = true,
                }
                return;
            }
            match send(&self.fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(n) => {
                    self.deadline = now + PATIENCE;
                    if self.sent < answer.text.len() {
                        self.sent += n;
                    } else {
                        self.position = start + n as u64;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    if self.deadline == u64::MAX {
                        self.deadline = now + PATIENCE;
                    }
                    return;
                }
                Err(_) => {
                    self.done = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_request_of_the_protocol() {
        let face = || "face".to_string();
        for (line, request) in [
            ("status", Request::Status { json: false }),
            ("status json", Request::Status { json: true }),
            ("logs face", Request::Logs { name: face(), follow: false }),
            ("logs-follow face", Request::Logs { name: face(), follow: true }),
            ("start face", Request::Start(face())),
            ("stop face", Request::Stop(face())),
            ("restart face", Request::Restart(face())),
            ("reboot", Request::Reboot),
            ("poweroff", Request::PowerOff),
            ("health", Request::Health),
            ("boot-commit", Request::Boot(BootRequest::Commit)),
            ("boot-arm b 3", Request::Boot(BootRequest::Arm { slot: formats::Slot::B, tries: 3 })),
            ("signed-time 1795659174", Request::SignedTime(1_795_659_174)),
            ("trial-waits no server", Request::TrialWaits("no server".into())),
        ] {
            assert_eq!(line.split(' ').next(), Some(request.verb()));
            assert_eq!(parse(line.as_bytes()), Some(request), "{line}");
        }
    }

    #[test]
    fn refuses_what_is_no_request() {
        for line in [
            "trial-waits",
            "trial-waits ",
            "trial-waits a\u{1b}[2J",
            "",
            "stop",
            "stop ",
            "stop a b",
            "status xml",
            "reboot now",
            "STATUS",
            "logs",
            "signed-time -1",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(line: Vec<u8>) {
            let _ = parse(&line);
        }
    }
}
