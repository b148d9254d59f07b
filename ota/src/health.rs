//! Asking `init` over its control socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use formats::conf;

use crate::paths::Paths;
use crate::{Error, Result};

/// `init` answers at once; longer than this it is not turning over.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the vital workloads are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// All of them are ready and healthy.
    pub healthy: bool,
    /// For how long without a break.
    pub since: Duration,
    /// What is wrong, when something is.
    pub reason: String,
}

/// Asks how the vital workloads are.
pub fn ask(paths: &Paths) -> Result<Health> {
    let answer = request(paths, "health", PATIENCE)?;
    parse(&answer).map_err(|e| Error::at(&paths.ctl_socket(), e))
}

/// Asks `init` to reboot.
pub fn reboot(paths: &Paths) -> Result<()> {
    request(paths, "reboot", PATIENCE).map(|_| ())
}

/// Tells `init` when the repository says that it was last signed: a witness for its clock, beside
/// what time servers say.
pub fn tell_signed_time(paths: &Paths, seconds: u64) -> Result<()> {
    request(paths, &format!("signed-time {seconds}"), PATIENCE).map(|_| ())
}

/// Tells `init` what keeps the trial from being committed: its reason, if it comes to a reset.
pub fn say_trial_waits(paths: &Paths, reason: &str) -> Result<()> {
    request(paths, &format!("trial-waits {reason}"), PATIENCE).map(|_| ())
}

/// Sends a line and gives the whole answer, which `init` may take this long for.
pub(crate) fn request(paths: &Paths, line: &str, patience: Duration) -> Result<Vec<u8>> {
    let path = paths.ctl_socket();
    let mut answer = Vec::new();
    let mut ask = || {
        let mut socket = UnixStream::connect(&path)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.write_all(format!("{line}\n").as_bytes())?;
        socket.take(conf::MAX_BYTES as u64).read_to_end(&mut answer)
    };
    ask().map_err(|e| Error::at(&path, e))?;
    match answer.strip_prefix(b"error ") {
        None => Ok(answer),
        Some(text) => Err(Error::at(&path, String::from_utf8_lossy(text).trim())),
    }
}

fn parse(answer: &[u8]) -> formats::Result<Health> {
    let head = conf::parse(answer, "ok")?.head;
    Ok(Health {
        healthy: conf::one(&head, "vital")?.value == "healthy",
        since: Duration::from_secs(conf::one(&head, "healthy-for")?.number()?),
        reason: conf::one(&head, "reason").map_or_else(|_| String::new(), |l| l.value.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let health = parse(b"ok\nvital healthy\nhealthy-for 31\nreason\n").unwrap();
        assert!(health.healthy && health.since == Duration::from_secs(31));
        let health = parse(b"ok\nvital starting\nhealthy-for 0\nreason face: starting\n").unwrap();
        assert!(!health.healthy && health.reason == "face: starting");
        assert!(parse(b"ok\n").is_err() && parse(b"").is_err());
    }
}
