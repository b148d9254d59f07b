//! The half of `ota` that writes, as a thread of its own behind its socket.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ota::context::Context;
use ota::device::Device;
use ota::device::WriterDoor;
use ota::writer::listen;
use ota::writer::session::{SessionTimeouts, serve};

/// Serves until it is dropped.
#[derive(Debug)]
pub struct WriterThread {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WriterThread {
    /// Starts it for a device, and gives the handle of the half that fetches.
    pub fn start(handle: &Device) -> (WriterThread, Device) {
        let path = handle.writer_socket();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = listen(&path).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (writer, stopped) = (handle.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // What is wrong with it is the other half's to tell.
                let _ = serve(&Context::load(&writer).unwrap(), &stream, short(), &|| ());
            }
        });
        let fetching = handle.clone().writing(WriterDoor::Socket);
        (WriterThread { path, stop, thread: Some(thread) }, fetching)
    }
}

/// Impatient enough for a test.
pub fn short() -> SessionTimeouts {
    SessionTimeouts { request: Duration::from_secs(20), rest: Duration::from_secs(2) }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
