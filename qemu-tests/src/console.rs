//! The guest's serial console: its lines as they come, in memory and in a log file.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::patience::stretched;

/// Lines of the log that an error shows.
const SHOWN: usize = 25;
/// A longer line is cut here: a guest that prints garbage must not fill the memory.
const MAX_LINE: usize = 16 << 10;

/// A line the guest printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Time since the machine was started.
    pub at: Duration,
    /// Its text, without line end and escape sequences.
    pub text: String,
}

#[derive(Default)]
struct Heard {
    lines: Vec<Line>,
    /// What came after the last line end: a prompt, perhaps.
    partial: Vec<u8>,
    /// The machine has closed the console.
    closed: bool,
}

struct Shared {
    heard: Mutex<Heard>,
    news: Condvar,
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A console. It has a place it has been read up to, which [`Console::wait_for`] moves on.
pub struct Console {
    stream: UnixStream,
    shared: Arc<Shared>,
    read_up_to: usize,
    log: PathBuf,
    commands: usize,
}

impl Console {
    /// Listens to `stream` and writes what it hears to the file `log`, each line with its time
    /// since `start`.
    pub fn new(stream: UnixStream, log: &Path, start: Instant) -> Result<Console> {
        let shared = Arc::new(Shared { heard: Mutex::default(), news: Condvar::new() });
        let file =
            File::create(log).with_context(|| format!("{} cannot be made", log.display()))?;
        let reader = stream.try_clone().context("console socket")?;
        let listener = Listener { shared: shared.clone(), file, start };
        std::thread::spawn(move || listener.listen(reader));
        Ok(Console { stream, shared, read_up_to: 0, log: log.to_owned(), commands: 0 })
    }

    /// Waits until the guest prints a line with `text` in it, after the lines that earlier waits
    /// passed, and gives that line.
    ///
    /// Fails after `timeout` (stretched by the load), or when the machine ends first.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<Line> {
        self.wait_for_any(&[text], timeout).map(|(_, line)| line)
    }

    /// Like [`Console::wait_for`] for the first line with one of `texts`: which one, and the line.
    pub fn wait_for_any(&mut self, texts: &[&str], timeout: Duration) -> Result<(usize, Line)> {
        self.wait(texts, timeout, false)
    }

    /// Like [`Console::wait_for`] for a line with each of `texts`, in whatever order they come.
    pub fn wait_for_all(&mut self, texts: &[&str], timeout: Duration) -> Result<()> {
        let mut missing = texts.to_vec();
        while !missing.is_empty() {
            let (which, _) = self.wait_for_any(&missing, timeout)?;
            missing.remove(which);
        }
        Ok(())
    }

    /// Like [`Console::wait_for`], but an unfinished line, as a prompt is, counts too.
    pub fn wait_for_prompt(&mut self, text: &str, timeout: Duration) -> Result<()> {
        self.wait(&[text], timeout, true).map(drop)
    }

    fn wait(
        &mut self,
        texts: &[&str],
        timeout: Duration,
        unfinished: bool,
    ) -> Result<(usize, Line)> {
        let timeout = stretched(timeout);
        let start = Instant::now();
        let mut heard = self.shared.heard();
        loop {
            while let Some(line) = heard.lines.get(self.read_up_to) {
                self.read_up_to += 1;
                if let Some(which) = texts.iter().position(|text| line.text.contains(text)) {
                    return Ok((which, line.clone()));
                }
            }
            let partial = plain(&heard.partial);
            let which = texts.iter().position(|text| partial.contains(text));
            if let Some(which) = which.filter(|_| unfinished) {
                heard.partial.clear();
                return Ok((which, Line { at: Duration::ZERO, text: partial }));
            }
            let left = timeout.saturating_sub(start.elapsed());
            let why = if heard.closed {
                "the machine ended".to_owned()
            } else if left.is_zero() {
                format!("nothing for {:.0} s", timeout.as_secs_f64())
            } else {
                heard = self
                    .shared
                    .news
                    .wait_timeout(heard, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            };
            let last = heard.lines.len().saturating_sub(SHOWN);
            let shown: Vec<_> = heard.lines[last..].iter().map(|line| line.text.as_str()).collect();
            bail!(
                "waiting for {texts:?} on the console: {why}; the last lines of {} were:\n{}\n{partial}",
                self.log.display(),
                shown.join("\n")
            );
        }
    }

    /// Every line so far, whether waited for or not.
    pub fn lines(&self) -> Vec<Line> {
        self.shared.heard().lines.clone()
    }

    /// Whether a line with `text` was printed so far.
    pub fn has(&self, text: &str) -> bool {
        self.shared.heard().lines.iter().any(|line| line.text.contains(text))
    }

    /// Types a line.
    pub fn type_line(&mut self, text: &str) -> Result<()> {
        self.stream
            .write_all(format!("{text}\n").as_bytes())
            .context("typing on the console; has the machine ended?")
    }

    /// A number no earlier command of this console had.
    pub(crate) fn next_number(&mut self) -> usize {
        self.commands += 1;
        self.commands
    }

    /// The log file.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

struct Listener {
    shared: Arc<Shared>,
    file: File,
    start: Instant,
}

impl Listener {
    fn listen(mut self, mut stream: UnixStream) {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(length) => self.take(&buffer[..length]),
            }
        }
        let mut heard = self.shared.heard();
        heard.closed = true;
        self.shared.news.notify_all();
    }

    fn take(&mut self, bytes: &[u8]) {
        let at = self.start.elapsed();
        let mut heard = self.shared.heard();
        for byte in bytes {
            if *byte != b'\n' && heard.partial.len() < MAX_LINE {
                heard.partial.push(*byte);
                continue;
            }
            let text = plain(&std::mem::take(&mut heard.partial));
            // A full disk on the host must not stop the test from hearing the guest.
            let _ = writeln!(self.file, "{:9.3} {text}", at.as_secs_f64());
            heard.lines.push(Line { at, text });
        }
        self.shared.news.notify_all();
    }
}

/// The text of a raw line: no carriage returns, no terminal escape sequences (ECMA-48 CSI), no
/// other control characters.
fn plain(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            if chars.next_if_eq(&'[').is_some() {
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
        } else if !c.is_control() || c == '\t' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> (UnixStream, Console, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (guest, host) = UnixStream::pair().unwrap();
        let console = Console::new(host, &dir.path().join("log"), Instant::now()).unwrap();
        (guest, console, dir)
    }

    #[test]
    fn lines_are_waited_for_in_order() {
        let (mut guest, mut console, _dir) = console();
        guest.write_all(b"one\r\ntwo\r\n\x1b[1mthree\x1b[0m\r\nlogin: ").unwrap();
        let wait = Duration::from_secs(5);
        assert_eq!(console.wait_for("two", wait).unwrap().text, "two");
        assert_eq!(console.wait_for_any(&["one", "three"], wait).unwrap().0, 1);
        assert!(console.wait_for("login:", Duration::from_millis(1)).is_err(), "it is not a line");
        console.wait_for_prompt("login:", wait).unwrap();
        assert!(console.has("one") && !console.has("four"));
        console.type_line("root").unwrap();
        let mut typed = [0; 5];
        guest.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"root\n");
    }

    #[test]
    fn silence_and_an_end_are_told_with_the_last_lines() {
        let (mut guest, mut console, _dir) = console();
        guest.write_all(b"Kernel panic\n").unwrap();
        console.wait_for("panic", Duration::from_secs(5)).unwrap();
        let error = console.wait_for("x", Duration::from_millis(1)).unwrap_err().to_string();
        assert!(error.contains("Kernel panic") && error.contains("nothing for"), "{error}");
        drop(guest);
        let error = console.wait_for("x", Duration::from_secs(60)).unwrap_err().to_string();
        assert!(error.contains("the machine ended"), "{error}");
        assert!(std::fs::read_to_string(console.log()).unwrap().contains(" Kernel panic\n"));
    }
}
