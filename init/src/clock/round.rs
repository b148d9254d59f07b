//! One round of questions: every time server once, one after another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use super::judge::Witness;
use crate::clock::sntp::{self, Answer, Question};
use crate::sys;

/// Milliseconds in which a server may answer.
const ANSWER_WAIT: u64 = 4_000;
/// Milliseconds until randomness is asked for again.
const RANDOM_WAIT: u64 = 1_000;

/// What was heard of the server that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing yet that counts.
    Nothing,
    /// The time, or that nobody is there; the next one is to be asked.
    Time,
    /// It wants to be asked less.
    AskLess(IpAddr),
    /// It does not want to be asked.
    GoAway(IpAddr),
}

/// All servers, and what they have said so far.
#[derive(Debug)]
pub struct Round {
    /// Whom to ask.
    pub servers: Vec<IpAddr>,
    /// Until when the one that is asked may answer, in milliseconds since the start.
    pub until: u64,
    /// What those have said that answered.
    pub witnesses: Vec<Witness>,
    port: u16,
    next: usize,
    asked: Option<(UdpSocket, Question, IpAddr)>,
}

impl Round {
    /// A round that has not begun, at `now` milliseconds since the start.
    pub fn new(servers: Vec<IpAddr>, port: u16, now: u64) -> Round {
        Round { servers, until: now, witnesses: Vec::new(), port, next: 0, asked: None }
    }

    /// The socket an answer comes through.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.asked.as_ref().map(|(socket, ..)| socket.as_fd())
    }

    /// Asks the next server, by our clock at `time` (microseconds since 1970). True: there is none.
    pub fn ask_next(&mut self, time: i64, now: u64) -> bool {
        self.asked = None;
        while let Some(server) = self.servers.get(self.next).copied() {
            let Some(cookie) = sys::random() else {
                // So early the kernel may have none, and the answer could be guessed.
                self.until = now.saturating_add(RANDOM_WAIT);
                return false;
            };
            self.next += 1;
            let (packet, question) = sntp::question(cookie, time);
            // No way to the server is like no answer.
            if let Ok(socket) = send(server, self.port, &packet) {
                self.asked = Some((socket, question, server));
                self.until = now.saturating_add(ANSWER_WAIT);
                return false;
            }
        }
        true
    }

    /// Reads what came, by our clock at `time`.
    pub fn on_answer(&mut self, time: i64) -> Heard {
        let mut buffer = [0; 512];
        let Some((socket, question, server)) = &self.asked else { return Heard::Nothing };
        let Some(n) = sys::read_ready(socket, &mut buffer) else { return Heard::Nothing };
        match sntp::read(question, buffer.get(..n).unwrap_or_default(), time) {
            Some(Answer::Time(witness)) => {
                self.witnesses.push(witness);
                Heard::Time
            }
            Some(Answer::AskLess) => Heard::AskLess(*server),
            Some(Answer::GoAway) => Heard::GoAway(*server),
            // The other side refuses.
            None if n == 0 => Heard::Time,
            // Somebody else's, perhaps; the server's own may still come.
            None => Heard::Nothing,
        }
    }
}

/// Sends a question from a port of its own, which the kernel picks at random.
fn send(server: IpAddr, port: u16, packet: &[u8]) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect((server, port))?;
    socket.send(packet)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::judge::{Correction, Known, judge};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    const NOW: i64 = 1_800_000_000_000_000;
    const TO_1970: i64 = 2_208_988_800;

    /// A time server on an address of the loopback, whose clock is ahead by so many seconds. It
    /// first sends an answer that somebody made up who has not seen the question.
    fn server(address: [u8; 4], port: u16, ahead: i64) -> u16 {
        let socket = UdpSocket::bind((IpAddr::from(address), port)).unwrap();
        let port = socket.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut question = [0; 48];
            while let Ok((48, from)) = socket.recv_from(&mut question) {
                let seconds = (NOW / 1_000_000 + TO_1970 + ahead) as u32;
                let stamp = (u64::from(seconds) << 32).to_be_bytes();
                let mut answer = [0; 48];
                (answer[0], answer[1]) = (0x24, 2);
                answer[24..32].copy_from_slice(&question[40..48]);
                answer[32..40].copy_from_slice(&stamp);
                answer[40..48].copy_from_slice(&stamp);
                let mut forged = answer;
                forged[24] ^= 1;
                forged[40..44].copy_from_slice(&[0xff; 4]);
                socket.send_to(&forged, from).unwrap();
                socket.send_to(&answer, from).unwrap();
            }
        });
        port
    }

    fn witnesses(servers: &[IpAddr], port: u16) -> Vec<Witness> {
        let mut round = Round::new(servers.to_vec(), port, 0);
        let mut ports = Vec::new();
        while !round.ask_next(NOW, 0) {
            ports.push(round.asked.as_ref().unwrap().0.local_addr().unwrap().port());
            while round.on_answer(NOW) == Heard::Nothing {
                let mut fds = [PollFd::from_borrowed_fd(round.socket().unwrap(), PollFlags::IN)];
                let timeout = Timespec { tv_sec: 5, tv_nsec: 0 };
                assert_eq!(poll(&mut fds, Some(&timeout)), Ok(1), "nobody answers");
            }
        }
        ports.dedup();
        assert_eq!(ports.len(), servers.len(), "each question has a port of its own");
        round.witnesses
    }

    #[test]
    fn two_of_three_servers_set_the_clock_and_the_third_lies() {
        let port = server([127, 0, 0, 1], 0, 70 * 366 * 86_400);
        server([127, 0, 0, 2], port, 30);
        server([127, 0, 0, 3], port, 30);
        let ip = |n| IpAddr::from([127, 0, 0, n]);
        // Nobody listens at the fourth.
        let said = witnesses(&[ip(1), ip(2), ip(3), ip(4)], port);
        assert_eq!(said.len(), 3);
        let known = Known { anchor: NOW, built: NOW - 1_000_000, signed: 0 };
        let judgement = judge(NOW, &said, &known).unwrap();
        assert_eq!(judgement.correction, Correction::Step(30_000_000));
        assert_eq!(judgement.servers, 2);
        // The liar alone.
        assert!(judge(NOW, &witnesses(&[ip(1)], port), &known).is_err());
    }
}
