//! Fetching from a server that may be slow, broken or hostile.
//!
//! Every wait is bounded, so is every length. What a connection that drops has brought is kept:
//! [`RangeReader`] goes on at the next byte.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use repository::{Fetch, FetchError};
use ureq::http::{header, Response, StatusCode};
use ureq::{Agent, Body, BodyReader};

use crate::{random, Error, Result};

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the head of an answer.
    pub answer: Duration,
    /// For the next byte of its body.
    pub idle: Duration,
    /// Below so many bytes a second …
    pub least_rate: u64,
    /// … over so long a time a server counts as broken.
    pub rate_window: Duration,
    /// Connections in a row that bring nothing to speak of, until giving up.
    pub attempts: u32,
    /// Before the second of them; doubles for each later one, with jitter.
    pub first_retry: Duration,
}

impl Default for Patience {
    /// For a mobile link with a bad day: 1 KiB/s is still taken, a minute of silence is not.
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(20),
            idle: Duration::from_secs(20),
            least_rate: 1024,
            rate_window: Duration::from_secs(20),
            attempts: 6,
            first_retry: Duration::from_secs(1),
        }
    }
}

/// The longest wait between two attempts.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A connection that brought at least so many bytes was worth it: attempts are counted anew.
const WORTH: u64 = 64 << 10;

/// Talks to one server.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    patience: Patience,
    max_rate: Option<u64>,
}

impl Client {
    /// `max_rate`: bytes a second that a download may take of the link.
    pub fn new(patience: Patience, max_rate: Option<u64>) -> Client {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(4)
            .max_response_header_size(16 << 10)
            .input_buffer_size(64 << 10)
            .max_idle_connections(1)
            .timeout_connect(Some(patience.connect))
            .timeout_resolve(Some(patience.connect))
            .timeout_recv_response(Some(patience.answer))
            .timeout_per_read(Some(patience.idle))
            .timeout_per_write(Some(patience.idle))
            .user_agent("ferrite-ota")
            .accept_encoding("identity")
            .build()
            .new_agent();
        Client { agent, patience, max_rate }
    }

    fn get(
        &self,
        url: &str,
        range: Option<(u64, u64)>,
    ) -> std::result::Result<Response<Body>, String> {
        let mut request = self.agent.get(url);
        if let Some((first, end)) = range {
            request = request.header(header::RANGE, format!("bytes={first}-{}", end - 1));
        }
        request.call().map_err(|error| self.explain(&error))
    }

    /// A whole file of at most `max` bytes.
    fn whole(&self, url: &str, max: u64) -> std::result::Result<Vec<u8>, FetchError> {
        let response = self.get(url, None).map_err(FetchError::Failed)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(FetchError::NotFound),
            other => return Err(FetchError::Failed(answered(other))),
        }
        let (_, body) = response.into_parts();
        let mut pace = Pace::new(&self.patience, None);
        let mut reader = body.into_reader();
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let begun = Instant::now();
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(bytes),
                Ok(length) => {
                    bytes.extend_from_slice(&buffer[..length]);
                    pace.passed(length, begun.elapsed()).map_err(FetchError::Failed)?;
                    if bytes.len() as u64 > max {
                        return Err(FetchError::TooLarge(max));
                    }
                }
                Err(error) => return Err(FetchError::Failed(self.explain_io(error))),
            }
        }
    }

    fn explain(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                format!("no connection within {} s", seconds(self.patience.connect))
            }
            ureq::Error::Timeout(ureq::Timeout::RecvResponse) => {
                format!("no answer within {} s", seconds(self.patience.answer))
            }
            ureq::Error::Timeout(_) => {
                format!("nothing came for {} s", seconds(self.patience.idle))
            }
            ureq::Error::HostNotFound => "the server's name is not known".into(),
            ureq::Error::Io(error) => one_line(&error.to_string()),
            ureq::Error::Protocol(_) => "the answer is not HTTP".into(),
            other => one_line(&other.to_string()),
        }
    }

    fn explain_io(&self, error: io::Error) -> String {
        self.explain(&ureq::Error::from(error))
    }
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

fn answered(status: StatusCode) -> String {
    format!("the server answered {}", status.as_u16())
}

/// What others wrote may hold line feeds; an error is one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// A repository behind a URL.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    base: String,
}

impl Remote {
    /// The repository at `url`, which has to be `http://`.
    pub fn new(client: Client, url: &str) -> Result<Remote> {
        check_url(url)?;
        Ok(Remote { client, base: url.trim_end_matches('/').into() })
    }

    /// The URL of a file of the repository.
    pub fn url(&self, path: &str) -> String {
        let mut url = format!("{}/", self.base);
        for byte in path.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    url.push(char::from(byte));
                }
                other => url.push_str(&format!("%{other:02X}")),
            }
        }
        url
    }
}

impl Fetch for Remote {
    fn fetch(&mut self, path: &str, max: u64) -> std::result::Result<Vec<u8>, FetchError> {
        self.client.whole(&self.url(path), max)
    }
}

/// Refuses what this client cannot fetch.
pub fn check_url(url: &str) -> Result<()> {
    match url.strip_prefix("http://") {
        Some(rest) if !rest.is_empty() && url.bytes().all(|b| b.is_ascii_graphic()) => Ok(()),
        _ => Err(Error::failed(format!(
            "{url}: not an http:// URL (updates are signed, so TLS is not needed to trust them)"
        ))),
    }
}

/// Keeps a transfer between the least rate and the most.
struct Pace {
    least: u64,
    window: Duration,
    most: Option<u64>,
    since: Instant,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    fn new(patience: &Patience, most: Option<u64>) -> Pace {
        Pace {
            // A limit below the least rate is the owner's wish, not the server's fault.
            least: most.map_or(patience.least_rate, |most| patience.least_rate.min(most / 2)),
            window: patience.rate_window,
            most,
            since: Instant::now(),
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Counts bytes that came after a wait; delays when they come too fast, fails when they come
    /// too slowly. Only waiting counts: the time that writing to the medium takes is not the
    /// server's.
    fn passed(&mut self, bytes: usize, waited: Duration) -> std::result::Result<(), String> {
        self.bytes += bytes as u64;
        self.waited += waited;
        if let Some(most) = self.most {
            let due = Duration::from_secs_f64(self.bytes as f64 / most as f64);
            let early = due.saturating_sub(self.since.elapsed());
            std::thread::sleep(early.min(Duration::from_secs(5)));
        }
        if self.waited < self.window {
            return Ok(());
        }
        if (self.bytes as f64) < self.least as f64 * self.waited.as_secs_f64() {
            return Err(format!("the server sends less than {} bytes a second", self.least));
        }
        (self.since, self.waited, self.bytes) = (Instant::now(), Duration::ZERO, 0);
        Ok(())
    }
}

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
    fn urls() {
        let client = Client::new(Patience::default(), None);
        let remote = Remote::new(client.clone(), "http://host:80/repo/").unwrap();
        assert_eq!(
            remote.url("targets/a+b c.update"),
            "http://host:80/repo/targets/a%2Bb%20c.update"
        );
        for bad in ["https://x", "ftp://x", "http://", "", "http://x y", "http://x\n"] {
            assert!(Remote::new(client.clone(), bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn content_ranges() {
        assert_eq!(first_of_content_range("bytes 7-9/10"), Some(7));
        for bad in ["", "bytes */10", "bytes -9/10", "lines 7-9/10"] {
            assert_eq!(first_of_content_range(bad), None, "{bad}");
        }
    }
}
