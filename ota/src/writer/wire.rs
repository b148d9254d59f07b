//! What the two halves of `ota` say to each other: frames of a kind, a length and so many bytes, one
//! request at a time. Every length is bounded before anything is read for it.
//!
//! ```text
//! u8     kind
//! u32le  length of the body
//! ..     body
//! ```

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use formats::payload::MAX_CHUNKS;

/// Bytes of a frame's head.
const HEAD: usize = 5;
/// The longest answer: a bit for each chunk, or a sentence.
pub const MAX_ANSWER: usize = MAX_CHUNKS as usize / 8;
/// The longest sentence, in bytes.
pub const MAX_SENTENCE: usize = 1024;
/// First answer of a connection.
pub const HELLO: &[u8] = b"ferrite-writer 1";
/// A read returns after this at the latest, to let the heart beat.
const TICK: Duration = Duration::from_secs(1);
/// Nobody who is there takes longer to make room for what is written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is asked of the writer, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The slot header. The answer is empty.
    Header,
    /// The chunk table. The answer is empty.
    Table,
    /// No body. The answer has a bit for each chunk, lowest first: 1 = the medium lacks it.
    Prepare,
    /// u32le number of the chunk, then its bytes. The answer is a byte: 1 = it is the signed one.
    Put,
    /// No body, empty answer.
    Flush,
    /// A byte: boots that the trial gets. The answer is empty, and the last one.
    Finish,
}

impl Ask {
    /// Every kind, each at the place of its number less one.
    const ALL: [Ask; 6] =
        [Ask::Header, Ask::Table, Ask::Prepare, Ask::Put, Ask::Flush, Ask::Finish];

    fn of(kind: u8) -> Option<Ask> {
        Ask::ALL.get(usize::from(kind).checked_sub(1)?).copied()
    }

    fn kind(self) -> u8 {
        1 + self as u8
    }
}

/// What the writer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is at work; what was asked for follows.
    Working,
    /// It is done.
    Done(Vec<u8>),
    /// It does not take this update, now or ever. Nothing was touched.
    Refused(String),
    /// It did not work this time.
    Failed(String),
}

/// Reads all of `buffer`, and lets the heart beat before each read: data that keeps coming leaves
/// none of them waiting. The first byte may take `first`, all others together `rest`. False: the other end closed instead of sending the first byte.
fn fill(
    mut stream: &UnixStream,
    buffer: &mut [u8],
    first: Duration,
    rest: Duration,
    beat: &dyn Fn(),
) -> io::Result<bool> {
    let (mut filled, mut end) = (0, Instant::now() + first);
    while filled < buffer.len() {
        beat();
        match stream.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                if filled == 0 {
                    end = Instant::now() + rest;
                }
                filled += n;
                if filled < buffer.len() {
                    in_time(end)?;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                in_time(end)?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

fn in_time(end: Instant) -> io::Result<()> {
    match Instant::now() < end {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came in time")),
    }
}

/// Makes reads return often and writes end.
pub fn prepare(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))
}

fn send(mut stream: &UnixStream, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut head = [kind, 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_le_bytes());
    stream.write_all(&head)?;
    parts.iter().try_for_each(|part| stream.write_all(part))
}

/// Asks for something; the body is these parts.
pub fn send_ask(stream: &UnixStream, ask: Ask, body: &[&[u8]]) -> io::Result<()> {
    send(stream, ask.kind(), body)
}

/// The head of the next request: its kind and the length of its body, which is still to be read.
/// `None` when the other end is done.
pub fn read_ask(
    stream: &UnixStream,
    (first, rest): (Duration, Duration),
    beat: &dyn Fn(),
) -> io::Result<Option<(Ask, usize)>> {
    let mut head = [0; HEAD];
    if !fill(stream, &mut head, first, rest, beat)? {
        return Ok(None);
    }
    let ask = Ask::of(head[0]).ok_or_else(|| invalid("nothing is asked for like this"))?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    Ok(Some((ask, length as usize)))
}

/// The next bytes of a body.
pub fn read_body(
    stream: &UnixStream,
    buffer: &mut [u8],
    patience: Duration,
    beat: &dyn Fn(),
) -> io::Result<()> {
    match fill(stream, buffer, patience, patience, beat)? || buffer.is_empty() {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Answers.
pub fn send_answer(stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let cut = |text: &str| text.bytes().take(MAX_SENTENCE).collect::<Vec<u8>>();
    match answer {
        Answer::Working => send(stream, 1, &[]),
        Answer::Done(body) => send(stream, 2, &[body]),
        Answer::Refused(text) => send(stream, 3, &[&cut(text)]),
        Answer::Failed(text) => send(stream, 4, &[&cut(text)]),
    }
}

/// The next answer; the writer may be silent for so long.
pub fn read_answer(stream: &UnixStream, silence: Duration, beat: &dyn Fn()) -> io::Result<Answer> {
    let mut head = [0; HEAD];
    if !fill(stream, &mut head, silence, silence, beat)? {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the writer hung up"));
    }
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > MAX_ANSWER {
        return Err(invalid("an answer is too long"));
    }
    let mut body = vec![0; length];
    read_body(stream, &mut body, silence, beat)?;
    // What goes to a terminal later has no commands for one in it.
    let text = |body: &[u8]| -> String {
        let text = String::from_utf8_lossy(&body[..body.len().min(MAX_SENTENCE)]);
        text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    };
    match head[0] {
        1 => Ok(Answer::Working),
        2 => Ok(Answer::Done(body)),
        3 => Ok(Answer::Refused(text(&body))),
        4 => Ok(Answer::Failed(text(&body))),
        _ => Err(invalid("nothing is answered like this")),
    }
}

/// A bit for each of `chunks` chunks: 1 for those that are named.
pub fn to_bits(named: &[usize], chunks: usize) -> Vec<u8> {
    let mut bits = vec![0; chunks.div_ceil(8)];
    for chunk in named.iter().filter(|chunk| **chunk < chunks) {
        bits[chunk / 8] |= 1 << (chunk % 8);
    }
    bits
}

/// The chunks that are named by [`to_bits`]; `None` when these bits are not of so many chunks.
pub fn from_bits(bits: &[u8], chunks: usize) -> Option<Vec<usize>> {
    let is_set = |chunk: &usize| bits[chunk / 8] & (1 << (chunk % 8)) != 0;
    (bits.len() == chunks.div_ceil(8)).then(|| (0..chunks).filter(is_set).collect())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn pair() -> (UnixStream, UnixStream) {
        let (a, b) = UnixStream::pair().unwrap();
        for stream in [&a, &b] {
            prepare(stream).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        }
        (a, b)
    }

    #[test]
    fn what_is_asked_and_answered_comes_through() {
        let (a, b) = pair();
        for ask in Ask::ALL {
            send_ask(&a, ask, &[b"ab", b"c"]).unwrap();
            assert_eq!(read_ask(&b, (SHORT, SHORT), &|| ()).unwrap(), Some((ask, 3)));
            let mut body = [0; 3];
            read_body(&b, &mut body, SHORT, &|| ()).unwrap();
            assert_eq!(&body, b"abc");
        }
        for answer in [
            Answer::Working,
            Answer::Done(vec![1, 2]),
            Answer::Refused("no".into()),
            Answer::Failed("bad".into()),
        ] {
            send_answer(&b, &answer).unwrap();
            assert_eq!(read_answer(&a, SHORT, &|| ()).unwrap(), answer);
        }
        drop(a);
        assert_eq!(read_ask(&b, (SHORT, SHORT), &|| ()).unwrap(), None);
    }

    #[test]
    fn silence_has_an_end_and_the_heart_beats_meanwhile() {
        let (_a, b) = pair();
        let beats = std::cell::Cell::new(0);
        let error = read_answer(&b, SHORT, &|| beats.set(beats.get() + 1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(beats.get() >= 2, "{}", beats.get());
    }

    #[test]
    fn a_request_that_trickles_has_an_end_too_and_the_heart_beats_meanwhile() {
        let (a, b) = pair();
        let sender = std::thread::spawn(move || {
            while (&a).write_all(&[7]).is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let beats = std::cell::Cell::new(0);
        let mut body = [0; 5000];
        let error = read_body(&b, &mut body, SHORT, &|| beats.set(beats.get() + 1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(beats.get() >= 2, "{}", beats.get());
        drop(b);
        sender.join().unwrap();
    }

    #[test]
    fn an_answer_is_bounded_and_has_no_commands_in_it() {
        let (a, b) = pair();
        (&a).write_all(&[2, 0xff, 0xff, 0xff, 0xff]).unwrap();
        assert!(read_answer(&b, SHORT, &|| ()).unwrap_err().to_string().contains("too long"));
        let (a, b) = pair();
        send_answer(&a, &Answer::Failed(format!("\u{1b}[2J{}", "x".repeat(5000)))).unwrap();
        let Answer::Failed(text) = read_answer(&b, SHORT, &|| ()).unwrap() else { panic!() };
        assert!(text.starts_with("?[2Jx") && text.len() <= MAX_SENTENCE);
    }

    proptest! {
        #[test]
        fn bits_come_back(chunks in 0usize..300, seed: u64) {
            let named: Vec<usize> = (0..chunks).filter(|n| seed >> (n % 64) & 1 == 1).collect();
            prop_assert_eq!(from_bits(&to_bits(&named, chunks), chunks), Some(named));
            prop_assert_eq!(from_bits(&vec![0; chunks.div_ceil(8) + 1], chunks), None);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let (a, b) = pair();
            (&a).write_all(&bytes).unwrap();
            drop(a);
            let _ = read_ask(&b, (SHORT, SHORT), &|| ());
            let _ = read_answer(&b, SHORT, &|| ());
        }
    }
}
