//! The body of a request: of a length that was announced, or in chunks (RFC 9112, 7.1).

use super::gate::Place;
use super::request_head::{Head, Length};
use super::{Answer, MAX_HEAD, MAX_INPUT, read_until};
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

/// Longest line before a chunk: its length in hex, and extensions, which mean nothing here.
const MAX_CHUNK_LINE: usize = 256;

/// Reads the body; `rest` is what of it came with the head.
pub fn read(
    mut stream: &TcpStream,
    place: &Place,
    head: &Head,
    rest: Vec<u8>,
    deadline: Instant,
) -> Result<Vec<u8>, Answer> {
    let most = place.room().min(MAX_INPUT);
    match head.length {
        None => return Err(Answer::error(411, "Content-Length is missing")),
        Some(Length::Bytes(0)) => return Err(empty()),
        Some(Length::Bytes(length)) if length > most => return Err(too_long(most)),
        _ => {}
    }
    if head.expects_continue && rest.is_empty() {
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .map_err(|_| Answer::error(408, "connection lost"))?;
    }
    let most = most as usize;
    let mut arriving = Arriving { stream, place, deadline, came: rest, body: Vec::new(), most };
    match head.length {
        Some(Length::Bytes(length)) => {
            arriving.most = length as usize;
            arriving.take(length as usize)?;
        }
        _ => arriving.take_chunks()?,
    }
    match arriving.body {
        body if body.is_empty() => Err(empty()),
        body => Ok(body),
    }
}

fn empty() -> Answer {
    Answer::error(400, "the body is empty; send an input: curl --data-binary @photo.jpg")
}

fn too_long(most: u64) -> Answer {
    Answer::error(413, &format!("the body may have {most} bytes"))
}

struct Arriving<'a> {
    stream: &'a TcpStream,
    place: &'a Place,
    deadline: Instant,
    /// What was read and not looked at.
    came: Vec<u8>,
    body: Vec<u8>,
    /// Bytes that the body may have.
    most: usize,
}

impl Arriving<'_> {
    fn receive(&mut self) -> Result<(), Answer> {
        let mut piece = vec![0; 16 * 1024];
        let n = read_until(&mut self.stream, &mut piece, self.deadline)?;
        self.came.extend_from_slice(&piece[..n]);
        Ok(())
    }

    /// Moves the next `length` bytes into the body.
    fn take(&mut self, mut length: usize) -> Result<(), Answer> {
        loop {
            let n = length.min(self.came.len());
            // Grows with what really comes, not with what was announced.
            if !self.place.hold(n as u64) {
                return Err(Answer::error(503, "too many pictures are being sent; try again"));
            }
            if self.body.capacity() - self.body.len() < n {
                // By an eighth, not by doubling, which would take twice of what was reckoned with.
                let more = (self.body.len() / 8).min(self.most - self.body.len()).max(n);
                self.body.reserve_exact(more);
            }
            self.body.extend(self.came.drain(..n));
            length -= n;
            if length == 0 {
                return Ok(());
            }
            self.receive()?;
        }
    }

    fn take_chunks(&mut self) -> Result<(), Answer> {
        let unsound = || Answer::error(400, "the chunks of the body are not sound");
        loop {
            let length = loop {
                match httparse::parse_chunk_size(&self.came) {
                    Ok(httparse::Status::Complete((line, length))) => {
                        self.came.drain(..line);
                        break length;
                    }
                    Ok(httparse::Status::Partial) if self.came.len() < MAX_CHUNK_LINE => {
                        self.receive()?;
                    }
                    _ => return Err(unsound()),
                }
            };
            if length == 0 {
                return self.skip_trailers();
            }
            if length > (self.most - self.body.len()) as u64 {
                return Err(too_long(self.most as u64));
            }
            self.take(length as usize)?;
            while self.came.len() < 2 {
                self.receive()?;
            }
            if !self.came.starts_with(b"\r\n") {
                return Err(unsound());
            }
            self.came.drain(..2);
        }
    }

    /// Header lines behind the last chunk, and the empty line that ends the request.
    fn skip_trailers(&mut self) -> Result<(), Answer> {
        while !self.came.starts_with(b"\r\n") && !self.came.windows(4).any(|w| w == b"\r\n\r\n") {
            if self.came.len() > MAX_HEAD {
                return Err(Answer::error(431, "what follows the body is too long"));
            }
            self.receive()?;
        }
        Ok(())
    }
}
