//! The server: accepts, remembers what a test plans, counts what is sent.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::answer;
use crate::fault::{self, Fault, Planned};
use crate::request;
use crate::served::Served;
use crate::shared::{Content, Cut, Shared, State, TICK};

/// The host's loopback as a guest with QEMU's user-mode networking sees it.
const HOST_IN_GUEST: &str = "10.0.2.2";
/// How long a port stays taken at most by a program that is about to be started.
const GIVEN_UP: Duration = Duration::from_secs(3);
/// Listens on this port of the loopback, or on a free one if it is 0.
///
/// A port that was given up a moment ago may still be taken: a program that another thread starts
/// has this process's sockets from its fork to its exec. That is waited for.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let deadline = Instant::now() + GIVEN_UP;
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(TICK / 5);
            }
            done => return done,
        }
    }
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves the files below `root` on a free port of the loopback.
    pub fn start(root: &Path) -> io::Result<Server> {
        Server::start_on(root, 0)
    }

    /// Like [`Server::start`], on this port: for a device whose image names the URL.
    pub fn start_on(root: &Path, port: u16) -> io::Result<Server> {
        Server::serve(Content::Folder(root.to_owned()), port)
    }

    /// Serves these files, by path without a leading slash, on a free port of the loopback.
    pub fn of_files(files: BTreeMap<String, Vec<u8>>) -> io::Result<Server> {
        Server::serve(Content::Files(files), 0)
    }

    fn serve(content: Content, port: u16) -> io::Result<Server> {
        let listener = listen(port)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on port {port}: {e}")))?;
        let address = listener.local_addr()?;
        let state = State {
            content,
            faults: Vec::new(),
            served: BTreeMap::new(),
            requests: Vec::new(),
            sent: 0,
            cut: None,
            down: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), gone: AtomicBool::new(false) });
        let own = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.is_gone() {
                    break;
                }
                let (Ok(stream), shared) = (stream, own.clone()) else { continue };
                // The client sees a broken connection; that is all there is to say.
                std::thread::spawn(move || drop(connection(&stream, &shared)));
            }
        });
        Ok(Server { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL for a guest, with a slash at the end.
    pub fn url_in_guest(&self) -> String {
        format!("http://{HOST_IN_GUEST}:{}/", self.address.port())
    }

    /// Its URL for this machine, with a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Serves these files from now on.
    pub fn put(&self, files: BTreeMap<String, Vec<u8>>) {
        self.shared.state().content = Content::Files(files);
    }

    /// Answers requests whose path contains `path` with `fault`, until [`Server::heal`].
    pub fn spoil(&self, path: &str, fault: Fault) {
        self.plan(path, fault, None);
    }

    /// Like [`Server::spoil`], for the next `times` requests only.
    pub fn spoil_times(&self, path: &str, fault: Fault, times: usize) {
        self.plan(path, fault, Some(times));
    }

    /// Calls `then` when so many bytes of bodies were sent in all; from then on every connection is
    /// closed, until [`Server::heal`].
    pub fn cut_at(&self, sent: u64, then: impl FnOnce() + Send + 'static) {
        self.shared.state().cut = Some(Cut { at: sent, then: Box::new(then) });
    }

    /// Answers everything rightly again.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.faults.clear();
        state.cut = None;
        state.down = false;
    }

    /// What was served so far, by path.
    pub fn served(&self) -> BTreeMap<String, Served> {
        self.shared.state().served.clone()
    }

    /// What was served so far, of all paths that contain `path` together.
    pub fn served_of(&self, path: &str) -> Served {
        let mut sum = Served::default();
        for (_, served) in self.served().into_iter().filter(|(name, _)| name.contains(path)) {
            sum.requests += served.requests;
            sum.bytes += served.bytes;
            sum.ranges.extend(served.ranges);
            sum.ranges_each.extend(served.ranges_each);
        }
        sum
    }

    /// Bytes of bodies sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.state().sent
    }

    /// The paths that were asked for since the last call, in order.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().requests)
    }

    fn plan(&self, path: &str, fault: Fault, times: Option<usize>) {
        self.shared.state().faults.push(Planned { path: path.to_owned(), fault, times });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection, one request: `Connection: close` keeps a fault to the request it was meant for.
fn connection(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let Some(request) = request::read(stream) else { return Ok(()) };
    let fault = {
        let mut state = shared.state();
        if state.down {
            return Ok(());
        }
        state.requests.push(request.path.clone());
        let served = state.served.entry(request.path.clone()).or_default();
        served.requests += 1;
        served.ranges_each.push(request.ranges.len());
        let end = |last: Option<u64>| last.map_or(u64::MAX, |last| last.saturating_add(1));
        served.ranges.extend(request.ranges.iter().map(|(first, last)| *first..end(*last)));
        fault::take(&mut state.faults, &request.path)
    };
    answer::answer(stream, shared, &request, fault)
}

#[cfg(test)]
mod tests;
