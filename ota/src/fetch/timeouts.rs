//! How long a server may take.

use std::time::Duration;

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
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

impl Timeouts {
    /// From looking up a name to the head of the answer: the connection (to a proxy, then through
    /// it), TLS and the answer, however slowly their bytes come.
    pub fn exchange(&self) -> Duration {
        self.connect * 3 + self.answer
    }
}

impl Default for Timeouts {
    /// For a mobile link with a bad day: 1 KiB/s is still taken, a minute of silence is not.
    fn default() -> Timeouts {
        Timeouts {
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
