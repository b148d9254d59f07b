//! The console: one line a message, never waited for.
//!
//! A serial line can be stuck (flow control, a dead USB adapter) and PID 1 must not be stuck with
//! it: what the terminal does not take is kept in a small buffer, and beyond that dropped and
//! counted. Workloads' lines get no more than half of that buffer: what `init` has to say comes
//! through beside any flood.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use crate::printable;

/// Bytes kept while the terminal takes none.
const PENDING: usize = 16 * 1024;

struct Console {
    fd: Option<OwnedFd>,
    pending: Vec<u8>,
    dropped: u64,
}

thread_local! {
    // This process has one thread; a thread-local is the language's word for such a global.
    static CONSOLE: RefCell<Console> =
        const { RefCell::new(Console { fd: None, pending: Vec::new(), dropped: 0 }) };
}

/// Opens `/dev/console`. Called again after `/dev` has been mounted or moved.
pub fn open() {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open("/dev/console", flags, Mode::empty()).ok();
    CONSOLE.with_borrow_mut(|console| {
        if fd.is_some() {
            console.fd = fd;
        }
    });
}

/// Writes `ferrite: ` and the parts as one line. Parts may quote what others said.
pub fn say(parts: &[&str]) {
    let mut line = Vec::with_capacity(96);
    line.extend_from_slice(b"ferrite: ");
    for part in parts {
        printable::escape_line(part.as_bytes(), &mut line);
    }
    line.push(b'\n');
    write(&line);
}

/// Bytes that a workload's line takes beside itself, while nothing in it has to be escaped.
pub fn quoting_costs(name: &str) -> usize {
    name.len() + 3
}

/// Writes a workload's line behind its name, and says how many bytes that took. `None` when the
/// terminal has enough to do already.
pub fn quote(name: &str, line: &[u8]) -> Option<usize> {
    let mut bytes = Vec::with_capacity(line.len() + quoting_costs(name));
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(b": ");
    // Lines that end as DOS ends them.
    printable::escape_line(line.strip_suffix(b"\r").unwrap_or(line), &mut bytes);
    bytes.push(b'\n');
    let full = CONSOLE.with_borrow_mut(|console| {
        console.flush();
        console.pending.len() + bytes.len() > PENDING / 2
    });
    if full {
        return None;
    }
    write(&bytes);
    Some(bytes.len())
}

/// Writes bytes as they are.
fn write(bytes: &[u8]) {
    CONSOLE.with_borrow_mut(|console| {
        console.flush();
        if console.pending.is_empty() && console.dropped > 0 {
            let dropped = std::mem::take(&mut console.dropped).to_string();
            for part in ["ferrite: console was stuck, ", &dropped, " bytes lost\n"] {
                console.pending.extend_from_slice(part.as_bytes());
            }
        }
        if console.pending.len() + bytes.len() > PENDING {
            console.dropped += bytes.len() as u64;
        } else {
            console.pending.extend_from_slice(bytes);
        }
        console.flush();
    });
}

/// Tries to write what is kept back.
pub fn flush() {
    CONSOLE.with_borrow_mut(Console::flush);
}

/// The terminal, to wait until it takes more, when something is kept back.
pub fn duplicate_if_pending() -> Option<OwnedFd> {
    CONSOLE.with_borrow(|console| {
        if console.pending.is_empty() {
            return None;
        }
        rustix::io::fcntl_dupfd_cloexec(console.fd.as_ref()?, 3).ok()
    })
}

impl Console {
    fn flush(&mut self) {
        let mut written = 0;
        while written < self.pending.len() {
            let rest = &self.pending[written..];
            match self.fd.as_ref().map(|fd| rustix::io::write(fd, rest)) {
                Some(Ok(n)) if n > 0 => written += n,
                Some(Err(rustix::io::Errno::INTR)) => {}
                _ => break,
            }
        }
        self.pending.drain(..written);
        if self.pending.is_empty() && self.pending.capacity() > 1024 {
            self.pending = Vec::new();
        }
    }
}
