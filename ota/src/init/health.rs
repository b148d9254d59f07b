//! Requests to `init` over its control socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use formats::conf;
use formats::control::answer;
use formats::control::{self, Request, Vital};

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
    let answer = request(device, &Request::Health, TIMEOUT)?;
    let told = control::Health::parse(&answer).map_err(|e| Error::at(&device.ctl_socket(), e))?;
    Ok(Health {
        healthy: told.vital == Vital::Healthy,
        since: Duration::from_secs(told.healthy_for),
        reason: told.reason,
    })
}

/// Asks `init` to reboot.
pub fn reboot(device: &Device) -> Result<()> {
    request(device, &Request::Reboot, TIMEOUT).map(|_| ())
}

/// Tells `init` when the repository says that it was last signed: a witness for its clock, beside
/// what time servers say.
pub fn tell_signed_time(device: &Device, seconds: u64) -> Result<()> {
    request(device, &Request::SignedTime(seconds), TIMEOUT).map(|_| ())
}

/// Tells `init` what keeps the trial from being committed: its reason, if it comes to a reset.
pub fn say_trial_waits(device: &Device, reason: &str) -> Result<()> {
    request(device, &Request::TrialWaits(reason.into()), TIMEOUT).map(|_| ())
}

/// Sends a request and gives the whole answer, which `init` may take this long for.
pub(crate) fn request(device: &Device, request: &Request, timeout: Duration) -> Result<Vec<u8>> {
    let path = device.ctl_socket();
    let mut answer = Vec::new();
    let mut ask = || {
        let mut socket = UnixStream::connect(&path)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        socket.write_all(format!("{}\n", request.to_line()).as_bytes())?;
        socket.take(conf::MAX_BYTES as u64).read_to_end(&mut answer)
    };
    ask().map_err(|e| Error::at(&path, e))?;
    answer::check(&answer).map_err(|e| Error::at(&path, e))?;
    Ok(answer)
}
