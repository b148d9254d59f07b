//! Asking `init` over its control socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use formats::conf;
use formats::control::answer;
use formats::control::{self, Request, Vital};

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
    let answer = request(paths, &Request::Health, PATIENCE)?;
    let told = control::Health::parse(&answer).map_err(|e| Error::at(&paths.ctl_socket(), e))?;
    Ok(Health {
        healthy: told.vital == Vital::Healthy,
        since: Duration::from_secs(told.healthy_for),
        reason: told.reason,
    })
}

/// Asks `init` to reboot.
pub fn reboot(paths: &Paths) -> Result<()> {
    request(paths, &Request::Reboot, PATIENCE).map(|_| ())
}

/// Tells `init` when the repository says that it was last signed: a witness for its clock, beside
/// what time servers say.
pub fn tell_signed_time(paths: &Paths, seconds: u64) -> Result<()> {
    request(paths, &Request::SignedTime(seconds), PATIENCE).map(|_| ())
}

/// Tells `init` what keeps the trial from being committed: its reason, if it comes to a reset.
pub fn say_trial_waits(paths: &Paths, reason: &str) -> Result<()> {
    request(paths, &Request::TrialWaits(reason.into()), PATIENCE).map(|_| ())
}

/// Sends a request and gives the whole answer, which `init` may take this long for.
pub(crate) fn request(paths: &Paths, request: &Request, patience: Duration) -> Result<Vec<u8>> {
    let path = paths.ctl_socket();
    let mut answer = Vec::new();
    let mut ask = || {
        let mut socket = UnixStream::connect(&path)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.write_all(format!("{}\n", request.to_line()).as_bytes())?;
        socket.take(conf::MAX_BYTES as u64).read_to_end(&mut answer)
    };
    ask().map_err(|e| Error::at(&path, e))?;
    answer::check(&answer).map_err(|e| Error::at(&path, e))?;
    Ok(answer)
}
