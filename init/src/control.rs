//! The control socket: one request a connection, one line, answered with `ok` or `error <text>`
//! and a body. A client that is slow or silent costs a little memory for a little while.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use formats::control::{MAX_REQUEST, Request, answer};
use formats::{Error, Result, layout};
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
/// A client must have sent its request, or read some of its answer, within this time.
const PATIENCE: u64 = 10_000;
/// What a helper works on is answered within this time: more than a helper lives.
const HELD_FOR: u64 = 60_000;

/// What a client is sent: a text, and after it a workload's log.
#[derive(Debug)]
pub struct Answer {
    /// First line and body.
    pub text: Vec<u8>,
    /// Workload whose log follows, and whether to stay for more.
    pub log: Option<(usize, bool)>,
}

impl Answer {
    /// Granted, with this body.
    pub fn ok(body: &str) -> Answer {
        Answer { text: answer::granted(body).into_bytes(), log: None }
    }

    /// Refused, for this reason.
    pub fn error(text: &str) -> Answer {
        Answer { text: answer::refused(text).into_bytes(), log: None }
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
            Some(end) if end <= MAX_REQUEST => Some(
                Request::parse(&client.request[..end])
                    .ok_or_else(|| Answer::error("unknown request")),
            ),
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
