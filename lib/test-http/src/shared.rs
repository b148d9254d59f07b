//! What the connections of a server share: what it serves, what a test plans, what was sent.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::fault::Planned;
use crate::served::Served;

/// How often a connection that waits looks whether the server is gone.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// Bytes written between two looks at the counters: what is counted is what a client can have got.
const COUNTED: usize = 512;

/// Called once so many bytes of bodies were sent in all.
pub(crate) struct Cut {
    pub(crate) at: u64,
    pub(crate) then: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cut").field("at", &self.at).finish_non_exhaustive()
    }
}

/// What is served.
#[derive(Debug)]
pub(crate) enum Content {
    Folder(PathBuf),
    Files(BTreeMap<String, Vec<u8>>),
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) content: Content,
    pub(crate) faults: Vec<Planned>,
    pub(crate) served: BTreeMap<String, Served>,
    pub(crate) requests: Vec<String>,
    pub(crate) sent: u64,
    pub(crate) cut: Option<Cut>,
    pub(crate) down: bool,
}

/// What the connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) gone: AtomicBool,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server is being dropped.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// The file that a path names; `..` leads nowhere.
    pub(crate) fn file(&self, path: &str) -> Option<Vec<u8>> {
        match &self.state().content {
            Content::Files(files) => files.get(path.trim_start_matches('/')).cloned(),
            Content::Folder(root) => {
                let parts = Path::new(path).components();
                let plain = parts.filter(|part| matches!(part, Component::Normal(_)));
                std::fs::read(root.join(plain.collect::<PathBuf>())).ok()
            }
        }
    }

    /// Sends bytes of a body and counts them. Fails when the link is down.
    pub(crate) fn send(&self, mut stream: &TcpStream, path: &str, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(COUNTED) {
            if self.state().down {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            stream.write_all(piece)?;
            let mut state = self.state();
            let sent = piece.len() as u64;
            state.served.entry(path.to_owned()).or_default().bytes += sent;
            state.sent += sent;
            let all = state.sent;
            if let Some(cut) = state.cut.take_if(|cut| all >= cut.at) {
                // Before anybody can see that more was sent.
                (cut.then)();
                state.down = true;
            }
        }
        Ok(())
    }
}
