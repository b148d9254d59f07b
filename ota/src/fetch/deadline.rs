//! No read waits longer than its caller does.
//!
//! One read of a body may take any number of reads of the socket: a server that sends a TLS record,
//! the length of a chunk, a trailer or a proxy's answer byte by byte renews a limit per read with
//! each byte, and the caller, who counts how fast the body comes, never hears of it. So whoever
//! waits says until when ([`within`]), and every connection ends its own reads by then.

use std::cell::Cell;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::Timeout;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How long a body that nobody wants may take to end, so that its connection can be used again.
pub const DRAIN_TIME: Duration = Duration::from_secs(1);
/// How long it may be, in bytes. Beyond either the connection is closed.
const DRAIN_BYTES: usize = 4096;

thread_local! {
    /// Until when the work of this thread may wait, and what it waits for. A connection does all its
    /// reading on the thread of whoever reads from it.
    static UNTIL: Cell<Option<(Instant, Timeout)>> = const { Cell::new(None) };
}

/// Does `work`, in which nothing that comes over a connection is waited for longer than `longest`
/// in all; then it fails with a timeout of the kind `reason`. Within another one, the nearer end
/// counts.
pub fn within<T>(longest: Duration, reason: Timeout, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<(Instant, Timeout)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            UNTIL.set(self.0);
        }
    }
    let before = UNTIL.get();
    let end = Instant::now() + longest;
    let _restore = Restore(before);
    if before.is_none_or(|(earlier, _)| end < earlier) {
        UNTIL.set(Some((end, reason)));
    }
    work()
}

/// Reads a body that nobody wants to its end, if that comes at once: then the connection serves the
/// next request. If not, dropping it closes the connection.
pub fn drain(mut body: impl Read) {
    within(DRAIN_TIME, Timeout::PerRead, || {
        let (mut buffer, mut left) = ([0; 512], DRAIN_BYTES);
        while let Ok(length @ 1..) = body.read(&mut buffer) {
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    });
}

/// A reader each of whose reads brings something within a time, or fails.
#[derive(Debug)]
pub struct Timed<R> {
    inner: R,
    longest: Duration,
}

impl<R> Timed<R> {
    /// `longest`: for one read, however many reads of the connection it takes.
    pub fn new(inner: R, longest: Duration) -> Timed<R> {
        Timed { inner, longest }
    }
}

impl<R: Read> Read for Timed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        within(self.longest, Timeout::PerRead, || self.inner.read(buffer))
    }
}

/// Puts the limit of [`within`] on every connection. The last of a chain: what is below it, TLS and
/// tunnels too, is waited for no longer.
#[derive(Debug)]
pub struct DeadlineConnector;

/// A connection with the limit.
#[derive(Debug)]
pub struct Limited<T>(T);

impl<In: Transport> Connector<In> for DeadlineConnector {
    type Out = Limited<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(Limited))
    }
}

/// `timeout`, or what is left of this thread's time if that is less.
fn limited(mut timeout: NextTimeout) -> Result<NextTimeout, ureq::Error> {
    let Some((end, reason)) = UNTIL.get() else { return Ok(timeout) };
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ureq::Error::Timeout(reason));
    }
    if left < *timeout.after {
        timeout.after = left.into();
        timeout.reason = reason;
    }
    Ok(timeout)
}

impl<T: Transport> Transport for Limited<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.0.transmit_output(amount, limited(timeout)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.0.await_input(limited(timeout)?)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left() -> Option<(Duration, Timeout)> {
        let timeout = limited(NextTimeout::default()).ok()?;
        (!timeout.after.is_not_happening()).then(|| (*timeout.after, timeout.reason))
    }

    #[test]
    fn the_nearest_end_counts_and_is_over_with_its_work() {
        let minute = Duration::from_secs(60);
        assert_eq!(left(), None);
        within(minute, Timeout::RecvResponse, || {
            within(Duration::from_secs(1), Timeout::PerRead, || {
                let (left, reason) = left().unwrap();
                assert!(left <= Duration::from_secs(1) && reason == Timeout::PerRead);
            });
            within(minute * 2, Timeout::PerRead, || {
                let (left, reason) = left().unwrap();
                assert!(left <= minute && reason == Timeout::RecvResponse);
            });
            within(Duration::ZERO, Timeout::PerRead, || {
                assert!(limited(NextTimeout::default()).is_err());
            });
            assert!(left().is_some());
        });
        assert_eq!(left(), None);
    }

    #[test]
    fn what_is_endless_is_not_drained_for_ever() {
        struct Endless(usize);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += buffer.len();
                Ok(buffer.len())
            }
        }
        let mut body = Endless(0);
        drain(&mut body);
        assert!(body.0 <= DRAIN_BYTES + 512, "{}", body.0);
    }
}
