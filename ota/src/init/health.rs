//! Requests to `init` over its control socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use formats::conf;

use crate::device::Device;
use crate::{Error, Result};

/// `init` answers at once; longer than this it is not turning over.
const TIMEOUT: Duration = Duration::from_secs(5);

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
pub fn ask(device: &Device) -> Result<Health> {
    let answer = request(device, "health", TIMEOUT)?;
    parse(&answer).map_err(|e| Error::at(&device.ctl_socket(), e))
}

/// Asks `init` to reboot.
pub fn reboot(device: &Device) -> Result<()> {
    request(device, "reboot", TIMEOUT).map(|_| ())
}

/// Tells `init` when the repository says that it was last signed: a witness for its clock, beside
/// what time servers say.
pub fn tell_signed_time(device: &Device, seconds: u64) -> Result<()> {
    request(device, &format!("signed-time {seconds}"), TIMEOUT).map(|_| ())
}

/// Tells `init` what keeps the trial from being committed: its reason, if it comes to a reset.
pub fn say_trial_waits(device: &Device, reason: &str) -> Result<()> {
    request(device, &format!("trial-waits {reason}"), TIMEOUT).map(|_| ())
}

/// Sends a line and gives the whole answer, which `init` may take this long for.
pub(crate) fn request(device: &Device, line: &str, timeout: Duration) -> Result<Vec<u8>> {
    let path = device.ctl_socket();
    let mut answer = Vec::new();
    let mut ask = || {
        let mut socket = UnixStream::connect(&path)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
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
