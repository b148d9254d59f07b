//! The half of `ota` that writes: it has the devices and no network, and takes nothing on trust.
//!
//! The other half fetches; it has the network and no device that it can write. It hands a signed
//! header, the chunk table and then chunks over a Unix socket ([`wire`], [`remote`]); this half
//! ([`session`]) verifies each of them by itself before it touches the medium ([`admission`],
//! [`local`]), reads everything back, writes the header last, and asks PID 1 to arm the trial. An
//! install is the same code whether the slot is in this process or behind the socket: [`IdleSlot`].

pub mod admission;
pub mod floor;
pub mod idle_slot;
pub mod local;
pub mod remote;
pub mod session;
pub mod wire;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::idle_slot::{Accepted, IdleSlot};
use self::local::LocalSlot;
use self::remote::RemoteSlot;
use crate::console::say;
use crate::context::Context;
use crate::device::{Device, WriterDoor};
use crate::heart::Heart;
use crate::{Error, Result};

/// How long a writer that is being started again is waited for.
const RESTART: Duration = Duration::from_secs(10);
/// The longest sleep between two heartbeats, in seconds.
const LONGEST_SLEEP: i64 = 10;

/// Opens the idle slot for an update. Writes nothing.
pub fn open<'a>(
    context: &'a Context,
    update: &'a Accepted,
    beat: &dyn Fn(),
) -> Result<Box<dyn IdleSlot + 'a>> {
    let here =
        || LocalSlot::open(context, update).map(|slot| -> Box<dyn IdleSlot> { Box::new(slot) });
    let device = &context.device;
    let path = device.writer_socket();
    let door = device.writer_door();
    if door == WriterDoor::Here {
        return here();
    }
    match connect(&path, door, beat) {
        Ok(stream) => Ok(Box::new(RemoteSlot::open(context, stream, update, beat)?)),
        Err(error) if door == WriterDoor::SocketOrHere && nobody_listens(&error) => here(),
        Err(error) => Err(Error::failed(format!(
            "{}: {error}; does the workload ota-writer run (`ctl status`)?",
            path.display()
        ))),
    }
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn connect(path: &Path, door: WriterDoor, beat: &dyn Fn()) -> io::Result<UnixStream> {
    let end = Instant::now() + RESTART;
    loop {
        match UnixStream::connect(path) {
            Err(error)
                if door == WriterDoor::Socket && nobody_listens(&error) && Instant::now() < end =>
            {
                beat();
                std::thread::sleep(Duration::from_millis(250));
            }
            result => return result,
        }
    }
}

/// The workload: serves one installer after another, until the device reboots.
pub fn run(device: &Device) -> Result<()> {
    let path = device.writer_socket();
    let listener = listen(&path).map_err(|e| Error::at(&path, e))?;
    let heart = Heart::new().of_process();
    let context = Context::load(device)?;
    loop {
        heart.beat();
        let timeout = Timespec { tv_sec: LONGEST_SLEEP, tv_nsec: 0 };
        let mut ready = [PollFd::new(&listener, PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(Error::at(&path, error)),
        }
        let (stream, _) = listener.accept().map_err(|e| Error::at(&path, e))?;
        match session::serve(&context, &stream, session::SessionTimeouts::default(), &|| {
            heart.beat()
        }) {
            Ok(Some(version)) => say(&format!("wrote {version} and had its trial armed")),
            Ok(None) => {}
            Err(error) => say(&error.to_string()),
        }
    }
}

/// Opens the socket. Its folder lets nobody in but root and the fetching half.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}
