//! Parts of a file, read as one stream over as many requests and connections as it takes.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ureq::http::{Response, StatusCode, header};
use ureq::{Body, BodyReader, Timeout};

use crate::fetch::byteranges::{Parts, boundary, content_range};
use crate::fetch::deadline::{DRAIN_TIME, Timed, drain, within};
use crate::fetch::http::{Client, answered};
use crate::fetch::range_support::RangeRequest;
use crate::fetch::rate_limiter::RateLimiter;
use crate::heart;
use crate::random;

/// The longest wait between two attempts.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A connection that brought at least so many bytes was worth it: attempts are counted anew.
const MIN_PROGRESS: u64 = 64 << 10;
/// The most ranges in one request: well below the 8 KiB that servers take for a header (22 bytes
/// each) and the 200 ranges that Apache takes.
const MOST_RANGES: usize = 64;
/// The most bytes one request asks for. What is on its way when the power goes is fetched again.
const MOST_BYTES: u64 = 256 << 10;
/// Ranges this close are asked for as one: a part of its own costs a server some 100 bytes.
const COALESCE_GAP: u64 = 256;
/// What is said of a server that makes much of little.
const SHORTER: &str = "the answer is shorter than what was asked for";

/// Ranges of a file as one stream, one after another. A connection that drops is made again, and
/// the stream goes on where it was.
pub struct RangeReader<'a> {
    client: &'a Client,
    url: &'a str,
    fetched: &'a AtomicU64,
    /// What the stream still has to give; none is empty.
    wanted: VecDeque<Range<u64>>,
    answer: Option<Answer>,
    limiter: RateLimiter,
    attempts: u32,
    since_connected: u64,
    /// Bytes that the answer was asked for.
    asked: u64,
    /// Why the connection that brought the last bytes is given up.
    too_slow: Option<String>,
}

/// An answer that is being read.
struct Answer {
    body: Content,
    /// Where in the file the next byte of the body lies, and where this part of it ends.
    part: Range<u64>,
    /// Whether bytes that nobody asked for may be read over, however many.
    skips: bool,
}

enum Content {
    Plain(Timed<BodyReader<'static>>),
    Parts(Box<Parts<BufReader<Timed<BodyReader<'static>>>>>),
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Content::Plain(body) => body.read(buffer),
            Content::Parts(parts) => parts.read(buffer),
        }
    }
}

/// How one attempt to read went wrong.
enum Failure {
    /// Another attempt may help.
    Transient(String),
    /// It will not.
    Permanent(String),
    /// Asking for less at once will.
    Downgrade(RangeRequest),
}

/// What an attempt came to.
enum Step {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// An answer is over; ask for the next ranges.
    Again,
}

impl<'a> RangeReader<'a> {
    /// Reads `wanted`, in growing order and without overlaps, of the file at `url`; asks for
    /// nothing yet. What comes is counted in `fetched`.
    pub fn new(
        client: &'a Client,
        url: &'a str,
        wanted: impl IntoIterator<Item = Range<u64>>,
        fetched: &'a AtomicU64,
    ) -> RangeReader<'a> {
        let limiter = RateLimiter::new(&client.timeouts, client.max_rate);
        RangeReader {
            client,
            url,
            fetched,
            wanted: wanted.into_iter().filter(|range| range.start < range.end).collect(),
            answer: None,
            limiter,
            attempts: 0,
            since_connected: 0,
            asked: 0,
            too_slow: None,
        }
    }

    fn connect(&mut self) -> std::result::Result<Answer, Failure> {
        let request = self.client.ranges.request();
        let spans = spans(&self.wanted, request);
        let range = (request != RangeRequest::WholeFile).then(|| range_header(&spans));
        let response = self.client.get(self.url, range.as_deref()).map_err(Failure::Transient)?;
        self.limiter = RateLimiter::new(&self.client.timeouts, self.client.max_rate);
        // Who answers several ranges with one is held to the first.
        self.asked = spans.first().map_or(0, |span| span.end - span.start);
        match response.status() {
            StatusCode::PARTIAL_CONTENT => self.partial(response, spans.len()),
            // It takes one range at a time. Hanging up costs less than what it is about to send.
            StatusCode::OK if spans.len() > 1 => Err(Failure::Downgrade(RangeRequest::Single)),
            // It knows no ranges: read up to the place.
            StatusCode::OK => {
                self.client.ranges.downgrade_to(RangeRequest::WholeFile);
                let body = Content::Plain(self.timed(response));
                Ok(Answer { body, part: 0..u64::MAX, skips: true })
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Err(Failure::Permanent("the server has no such file".into()))
            }
            StatusCode::RANGE_NOT_SATISFIABLE if spans.len() > 1 => {
                Err(Failure::Downgrade(RangeRequest::Single))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(Failure::Permanent("the file is shorter than its signed length".into()))
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Transient(answered(status)))
            }
            status if spans.len() > 1 && status.is_client_error() => {
                Err(Failure::Downgrade(RangeRequest::Single))
            }
            status => Err(Failure::Permanent(answered(status))),
        }
    }

    fn timed(&self, response: Response<Body>) -> Timed<BodyReader<'static>> {
        Timed::new(response.into_body().into_reader(), self.client.timeouts.idle)
    }

    fn partial(
        &self,
        response: Response<Body>,
        asked: usize,
    ) -> std::result::Result<Answer, Failure> {
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        if let Some(boundary) = text(header::CONTENT_TYPE).and_then(boundary) {
            let boundary = boundary.to_string();
            if asked == 1 {
                return Err(another_part());
            }
            let reader = BufReader::with_capacity(4096, self.timed(response));
            let body = Content::Parts(Box::new(Parts::new(reader, &boundary)));
            return Ok(Answer { body, part: 0..0, skips: false });
        }
        let range = text(header::CONTENT_RANGE).and_then(content_range);
        match range.filter(|range| range.start == self.wanted[0].start) {
            Some(part) => {
                let body = Content::Plain(self.timed(response));
                Ok(Answer { body, part, skips: false })
            }
            None if asked > 1 => Err(Failure::Downgrade(RangeRequest::Single)),
            None => Err(another_part()),
        }
    }

    fn attempt(&mut self, buffer: &mut [u8]) -> std::result::Result<Step, Failure> {
        if let Some(reason) = self.too_slow.take() {
            return Err(Failure::Transient(reason));
        }
        let mut answer = match self.answer.take() {
            Some(answer) => answer,
            None => {
                self.since_connected = 0;
                self.connect()?
            }
        };
        let want = self.wanted[0].clone();
        if answer.part.start == answer.part.end {
            match self.next_part(&mut answer)? {
                Some(part) => answer.part = part,
                None if self.made_progress() => return Ok(Step::Again),
                None => return Err(Failure::Transient(SHORTER.into())),
            }
        }
        if answer.part.start > want.start || answer.part.end <= want.start {
            return Err(Failure::Downgrade(RangeRequest::Single));
        }
        let gap = want.start - answer.part.start;
        if gap > COALESCE_GAP && !answer.skips {
            return Err(Failure::Downgrade(RangeRequest::Single));
        }
        let mut over = [0; 4096];
        let target = match gap {
            0 => {
                let most = (want.end - want.start).min(answer.part.end - want.start);
                let most = buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                &mut buffer[..most]
            }
            gap => &mut over[..usize::try_from(gap).unwrap_or(usize::MAX).min(4096)],
        };
        let begun = Instant::now();
        let length = match answer.body.read(target) {
            Ok(0) if answer.skips && gap > 0 => {
                return Err(Failure::Permanent(
                    "the file is shorter than its signed length".into(),
                ));
            }
            Ok(0) => return Err(Failure::Transient("the connection ended early".into())),
            Ok(length) => length,
            Err(error) => return Err(self.broken(error)),
        };
        self.count(length);
        answer.part.start += length as u64;
        if gap == 0 {
            self.wanted[0].start += length as u64;
            if self.wanted[0].start == self.wanted[0].end {
                self.wanted.pop_front();
            }
        }
        self.keep(answer);
        // Too slow, yet something came: those bytes are in the buffer and count.
        let slow = self.limiter.passed(length, begun.elapsed()).err();
        self.too_slow = slow.or(self.too_slow.take());
        match gap {
            0 => Ok(Step::Bytes(length)),
            _ => Ok(Step::Again),
        }
    }

    fn next_part(&self, answer: &mut Answer) -> std::result::Result<Option<Range<u64>>, Failure> {
        match &mut answer.body {
            Content::Plain(_) => Ok(None),
            Content::Parts(parts) => match self.soon(|| parts.next_part()) {
                Ok(None) => {
                    // Only then can the connection be used again; if not, a new one is made.
                    let _ = within(DRAIN_TIME, Timeout::PerRead, || parts.finish());
                    Ok(None)
                }
                Ok(part) => Ok(part),
                Err(error) => Err(self.broken(error)),
            },
        }
    }

    /// All the lines between two parts come within the time of one read.
    fn soon<T>(&self, work: impl FnOnce() -> T) -> T {
        within(self.client.timeouts.idle, Timeout::PerRead, work)
    }

    /// Whether an answer that is over brought what it was asked for, or enough to ask on. A server
    /// that gives a byte at a time, each in an answer of its own, is slower than its rate says.
    fn made_progress(&self) -> bool {
        self.since_connected >= self.asked.clamp(1, MIN_PROGRESS)
    }

    /// Keeps an answer that has more to say.
    fn keep(&mut self, mut answer: Answer) {
        if let (true, Content::Plain(body)) = (answer.part.is_empty(), &mut answer.body) {
            // Its end gives the connection back for the next request.
            drain(body);
            if !self.made_progress() && !self.wanted.is_empty() {
                self.too_slow = Some(SHORTER.into());
            }
            return;
        }
        if self.wanted.is_empty() {
            if answer.part.is_empty() {
                let _ = within(DRAIN_TIME, Timeout::PerRead, || self.next_part(&mut answer));
            }
            return;
        }
        self.answer = Some(answer);
    }

    fn count(&mut self, length: usize) {
        self.fetched.fetch_add(length as u64, Ordering::Relaxed);
        self.since_connected += length as u64;
        if self.since_connected >= MIN_PROGRESS {
            self.attempts = 0;
        }
    }

    /// What the server wrote is no multipart answer, or the connection broke.
    fn broken(&self, error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::InvalidData => Failure::Downgrade(RangeRequest::Single),
            io::ErrorKind::UnexpectedEof => Failure::Transient("the connection ended early".into()),
            _ => Failure::Transient(self.client.explain_io(error)),
        }
    }
}

fn another_part() -> Failure {
    Failure::Permanent("the server answered with another part of the file".into())
}

/// What the next request asks for, out of what is wanted.
fn spans(wanted: &VecDeque<Range<u64>>, request: RangeRequest) -> Vec<Range<u64>> {
    let most = match request {
        RangeRequest::Multiple => MOST_RANGES,
        RangeRequest::Single | RangeRequest::WholeFile => 1,
    };
    let mut spans: Vec<Range<u64>> = Vec::new();
    let mut left = MOST_BYTES;
    for range in wanted {
        let start = match spans.last() {
            Some(last) if range.start - last.end <= COALESCE_GAP => last.end,
            _ if spans.len() == most => break,
            _ => range.start,
        };
        let end = range.end.min(start.saturating_add(left));
        if end <= range.start {
            break;
        }
        match spans.last_mut() {
            Some(last) if start == last.end => last.end = end,
            _ => spans.push(start..end),
        }
        left -= end - start;
        if left == 0 {
            break;
        }
    }
    spans
}

/// The value of a `Range` header (RFC 9110, section 14.2).
fn range_header(spans: &[Range<u64>]) -> String {
    let spans: Vec<String> =
        spans.iter().map(|span| format!("{}-{}", span.start, span.end - 1)).collect();
    format!("bytes={}", spans.join(","))
}

impl Read for RangeReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() && !self.wanted.is_empty() {
            let reason = match self.attempt(buffer) {
                Ok(Step::Bytes(length)) => return Ok(length),
                Ok(Step::Again) => continue,
                Err(Failure::Downgrade(request)) if self.client.ranges.request() < request => {
                    self.answer = None;
                    self.client.ranges.downgrade_to(request);
                    continue;
                }
                Err(Failure::Downgrade(_)) => "the answer is not what was asked for".into(),
                Err(Failure::Permanent(reason)) => {
                    return Err(io::Error::other(format!("{}: {reason}", self.url)));
                }
                Err(Failure::Transient(reason)) => match self.client.barred() {
                    None => reason,
                    Some(reason) => {
                        return Err(io::Error::other(format!("{}: {reason}", self.url)));
                    }
                },
            };
            self.answer = None;
            self.attempts += 1;
            if self.attempts >= self.client.timeouts.attempts {
                return Err(io::Error::other(format!(
                    "{}: {reason} ({} attempts; what came so far is kept)",
                    self.url, self.attempts
                )));
            }
            let wait = self.client.timeouts.first_retry * 2u32.pow((self.attempts - 1).min(16));
            let wait = wait.max(self.client.asked_to_wait()).min(LONGEST_RETRY);
            heart::sleep(wait / 2 + random::up_to(wait / 2));
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(wanted: &[Range<u64>], request: RangeRequest) -> Vec<Range<u64>> {
        spans(&wanted.iter().cloned().collect(), request)
    }

    #[test]
    fn near_ranges_are_one_and_one_at_a_time_is_one() {
        let wanted = [0..10, 20..30, 30 + COALESCE_GAP..400, 5000..6000];
        assert_eq!(of(&wanted, RangeRequest::Multiple), [0..400, 5000..6000]);
        assert_eq!(of(&wanted, RangeRequest::Single).first(), Some(&(0..400)));
        assert_eq!(range_header(&of(&wanted, RangeRequest::Multiple)), "bytes=0-399,5000-5999");
        let long = 3..3 + 2 * MOST_BYTES;
        let asked = of(std::slice::from_ref(&long), RangeRequest::Single);
        assert_eq!(asked.first(), Some(&(3..3 + MOST_BYTES)));
    }

    proptest! {
        #[test]
        fn a_request_is_bounded_and_starts_with_what_is_wanted_first(
            steps in proptest::collection::vec((1u64..2000, 1u64..100_000), 1..200)
        ) {
            let mut at = 0;
            let wanted: VecDeque<_> = steps.iter().map(|(gap, length)| {
                let start = at + gap;
                at = start + length;
                start..at
            }).collect();
            let spans = spans(&wanted, RangeRequest::Multiple);
            prop_assert!(spans.len() <= MOST_RANGES);
            prop_assert!(range_header(&spans).len() < 4096);
            prop_assert_eq!(spans[0].start, wanted[0].start);
            prop_assert!(spans.iter().map(|s| s.end - s.start).sum::<u64>() <= MOST_BYTES);
            prop_assert!(spans.iter().all(|s| s.start < s.end));
            prop_assert!(spans.windows(2).all(|w| w[0].end + COALESCE_GAP < w[1].start));
            let covered = |at: u64| spans.iter().any(|s| s.contains(&at));
            let last = spans[spans.len() - 1].end;
            prop_assert!(wanted.iter().filter(|r| r.start < last).all(|r| covered(r.start)));
        }
    }
}
