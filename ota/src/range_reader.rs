//! A part of a file, read as one stream over as many connections as it takes.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::http::{header, StatusCode};
use ureq::BodyReader;

use crate::http::{answered, Client};
use crate::pace::Pace;
use crate::random;

/// The longest wait between two attempts.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A connection that brought at least so many bytes was worth it: attempts are counted anew.
const WORTH: u64 = 64 << 10;

/// Bytes `first..end` of a file, as one stream. A connection that drops is made again, and the
/// stream goes on where it was.
pub struct RangeReader<'a> {
    client: &'a Client,
    url: &'a str,
    next: u64,
    end: u64,
    body: Option<BodyReader<'static>>,
    partial: bool,
    pace: Pace,
    attempts: u32,
    since_connected: u64,
}

/// How one attempt to read went wrong.
enum Trouble {
    /// Another attempt may help.
    Passing(String),
    /// It will not.
    Lasting(String),
}

impl<'a> RangeReader<'a> {
    /// Reads `first..end` of the file at `url`; asks for nothing yet.
    pub fn new(client: &'a Client, url: &'a str, first: u64, end: u64) -> RangeReader<'a> {
        let pace = Pace::new(&client.patience, client.max_rate);
        RangeReader {
            client,
            url,
            next: first,
            end,
            body: None,
            partial: false,
            pace,
            attempts: 0,
            since_connected: 0,
        }
    }

    fn connect(&mut self) -> std::result::Result<(), Trouble> {
        let range = Some((self.next, self.end));
        let response = self.client.get(self.url, range).map_err(Trouble::Passing)?;
        self.pace = Pace::new(&self.client.patience, self.client.max_rate);
        let status = response.status();
        self.partial = status == StatusCode::PARTIAL_CONTENT;
        match status {
            StatusCode::PARTIAL_CONTENT => {
                let value = response.headers().get(header::CONTENT_RANGE);
                let first = value.and_then(|v| v.to_str().ok()).and_then(first_of_content_range);
                if first != Some(self.next) {
                    return Err(Trouble::Lasting(
                        "the server answered with another part of the file".into(),
                    ));
                }
                self.body = Some(response.into_body().into_reader());
                Ok(())
            }
            // The server knows no ranges: read up to the place.
            StatusCode::OK => {
                let mut reader = response.into_body().into_reader();
                self.skip(&mut reader)?;
                self.body = Some(reader);
                Ok(())
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Err(Trouble::Lasting("the server has no such file".into()))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(Trouble::Lasting("the file is shorter than its signed length".into()))
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Trouble::Passing(answered(status)))
            }
            status => Err(Trouble::Lasting(answered(status))),
        }
    }

    fn skip(&mut self, reader: &mut impl Read) -> std::result::Result<(), Trouble> {
        let mut left = self.next;
        let mut buffer = [0; 4096];
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let begun = Instant::now();
            match reader.read(&mut buffer[..most]) {
                Ok(0) => {
                    return Err(Trouble::Lasting(
                        "the file is shorter than its signed length".into(),
                    ))
                }
                Ok(length) => {
                    left -= length as u64;
                    self.pace.passed(length, begun.elapsed()).map_err(Trouble::Passing)?;
                }
                Err(error) => return Err(Trouble::Passing(self.client.explain_io(error))),
            }
        }
        Ok(())
    }

    fn attempt(&mut self, buffer: &mut [u8]) -> std::result::Result<usize, Trouble> {
        if self.body.is_none() {
            self.since_connected = 0;
            self.connect()?;
        }
        let Some(body) = &mut self.body else { return Ok(0) };
        let begun = Instant::now();
        match body.read(buffer) {
            Ok(0) => Err(Trouble::Passing("the connection ended early".into())),
            Ok(length) => {
                self.next += length as u64;
                if self.next == self.end {
                    // Reading its end gives the connection back for the next request. What a
                    // server without ranges still has to say is not worth that.
                    let mut rest = [0; 1];
                    if !self.partial || body.read(&mut rest).is_ok_and(|length| length > 0) {
                        self.body = None;
                    }
                }
                self.since_connected += length as u64;
                if self.since_connected >= WORTH {
                    self.attempts = 0;
                }
                self.pace.passed(length, begun.elapsed()).map_err(Trouble::Passing)?;
                Ok(length)
            }
            Err(error) => Err(Trouble::Passing(self.client.explain_io(error))),
        }
    }
}

impl Read for RangeReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        if most == 0 {
            return Ok(0);
        }
        loop {
            let before = self.next;
            let reason = match self.attempt(&mut buffer[..most]) {
                Ok(length) => return Ok(length),
                Err(Trouble::Lasting(reason)) => {
                    return Err(io::Error::other(format!("{}: {reason}", self.url)))
                }
                Err(Trouble::Passing(reason)) => reason,
            };
            self.body = None;
            self.attempts += 1;
            if self.attempts >= self.client.patience.attempts {
                return Err(io::Error::other(format!(
                    "{}: {reason} ({} attempts; what came so far is kept)",
                    self.url, self.attempts
                )));
            }
            let wait = self.client.patience.first_retry * 2u32.pow((self.attempts - 1).min(16));
            let wait = wait.min(LONGEST_RETRY);
            std::thread::sleep(wait / 2 + random::up_to(wait / 2));
            // Too slow, yet something came: those bytes are in the buffer and count.
            if self.next > before {
                return Ok((self.next - before) as usize);
            }
        }
    }
}

/// The first byte's position of `bytes FIRST-LAST/SIZE`.
fn first_of_content_range(value: &str) -> Option<u64> {
    value.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(first_of_content_range("bytes 7-9/10"), Some(7));
        for bad in ["", "bytes */10", "bytes -9/10", "lines 7-9/10"] {
            assert_eq!(first_of_content_range(bad), None, "{bad}");
        }
    }
}
