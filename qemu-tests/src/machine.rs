//! A machine in QEMU, started by `imager run` and gone when it is dropped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::json;

use crate::console::Console;
use crate::disk::Disk;
use crate::patience::stretched;
use crate::qmp::Qmp;
use crate::seat::Seat;
use crate::stick::Stick;

/// QEMU connects to our sockets before anything else.
const TO_CONNECT: Duration = Duration::from_secs(60);
/// How often another port is tried when somebody took the one that was free a moment ago.
const PORT_TRIES: usize = 5;

/// What a machine is like, beside its disk.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The board; else the one in the image's name.
    pub board: Option<String>,
    /// Memory like `1G`; else what the board file says.
    pub memory: Option<String>,
    /// TCP ports of the guest that the host wants to reach; see [`Machine::port`].
    pub ports: Vec<u16>,
    /// The folder for its logs; else `target/qemu-logs/`.
    pub logs: Option<PathBuf>,
}

/// A running machine. Dropping it cuts its power.
pub struct Machine {
    child: Child,
    /// Its serial console.
    pub console: Console,
    qmp: Qmp,
    ports: BTreeMap<u16, u16>,
    sticks: u32,
    _sockets: tempfile::TempDir,
    _seat: Seat,
}

impl Machine {
    /// Starts a machine on `disk` as soon as a seat is free. `name` names its log file,
    /// `target/qemu-logs/NAME.log` unless the options say where; what QEMU itself says goes to
    /// `NAME.qemu.log`.
    pub fn start(name: &str, disk: &Disk, options: &Options) -> Result<Machine> {
        let common = logs()?;
        let mut seat = Some(Seat::take(&common)?);
        let logs = options.logs.clone().unwrap_or(common);
        for _ in 0..PORT_TRIES {
            let ports = free_ports(&options.ports)?;
            if let Some(machine) = start(name, disk, options, ports, &logs, &mut seat)? {
                return Ok(machine);
            }
        }
        bail!("no free TCP port for {:?} after {PORT_TRIES} tries", options.ports)
    }

    /// The port on 127.0.0.1 that leads to the guest's `guest`, one of [`Options::ports`].
    pub fn port(&self, guest: u16) -> Result<u16> {
        let port = self.ports.get(&guest).copied();
        port.with_context(|| format!("port {guest} was not asked for in Options::ports"))
    }

    /// Kills QEMU: what the guest has not flushed to the host is lost, what it has written is not.
    pub fn power_cut(mut self) -> Result<()> {
        self.child.kill().context("killing QEMU")?;
        self.child.wait().context("waiting for QEMU")?;
        Ok(())
    }

    /// Presses the reset button.
    pub fn reset(&mut self) -> Result<()> {
        self.qmp.execute("system_reset", json!({})).map(drop)
    }

    /// Stops the processors: the guest stands still as if hung, watchdog included.
    pub fn pause(&mut self) -> Result<()> {
        self.qmp.execute("stop", json!({})).map(drop)
    }

    /// Lets the processors go on.
    pub fn resume(&mut self) -> Result<()> {
        self.qmp.execute("cont", json!({})).map(drop)
    }

    /// Plugs the network cable in or out.
    pub fn set_link(&mut self, up: bool) -> Result<()> {
        self.qmp.execute("set_link", json!({"name": "network", "up": up})).map(drop)
    }

    /// Plugs a USB stick in; its number pulls it out again. The board has to have a controller
    /// `usb` (`qemu-xhci,id=usb` among its devices).
    pub fn plug_in(&mut self, stick: &Stick) -> Result<u32> {
        self.sticks += 1;
        let node = format!("stick-{}", self.sticks);
        let file = json!({"driver": "file", "filename": stick.path()});
        let medium = json!({"driver": "raw", "node-name": node, "file": file});
        self.qmp.execute("blockdev-add", medium)?;
        let device = json!({"driver": "usb-storage", "id": node, "bus": "usb.0", "drive": node, "removable": true});
        self.qmp.execute("device_add", device)?;
        Ok(self.sticks)
    }

    /// Pulls a stick out, without asking the guest first.
    pub fn pull_out(&mut self, stick: u32) -> Result<()> {
        self.qmp.execute("device_del", json!({"id": format!("stick-{stick}")})).map(drop)
    }

    /// Waits until the guest switches itself off.
    pub fn wait_off(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let timeout = stretched(timeout);
        let start = Instant::now();
        while start.elapsed() < timeout {
            if let Some(status) = self.child.try_wait().context("waiting for QEMU")? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!(
            "the machine is still on after {:.0} s, see {}",
            timeout.as_secs_f64(),
            self.console.log().display()
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One try to start; `None` when a port was taken in the meantime.
fn start(
    name: &str,
    disk: &Disk,
    options: &Options,
    ports: BTreeMap<u16, u16>,
    logs: &Path,
    seat: &mut Option<Seat>,
) -> Result<Option<Machine>> {
    // Socket paths are at most 108 bytes long: not below the deep target folder.
    let sockets =
        tempfile::Builder::new().prefix("ferrite").tempdir().context("temporary folder")?;
    let (serial, qmp) = (sockets.path().join("serial"), sockets.path().join("qmp"));
    let listen = |path: &Path| UnixListener::bind(path).with_context(|| path.display().to_string());
    let (serial_listener, qmp_listener) = (listen(&serial)?, listen(&qmp)?);
    let said = logs.join(format!("{name}.qemu.log"));
    let output =
        File::create(&said).with_context(|| format!("{} cannot be made", said.display()))?;

    // A test process that is killed takes its machine along.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(imager()?).arg("run").arg(disk.image());
    command.arg("--disk").arg(disk.path()).arg("--serial").arg(&serial).arg("--qmp").arg(&qmp);
    if let Some(board) = &options.board {
        command.args(["--board", board]);
    }
    if let Some(memory) = &options.memory {
        command.args(["--memory", memory]);
    }
    for (guest, host) in &ports {
        command.arg("--forward").arg(format!("{host}:{guest}"));
    }
    // Board files are found from the workspace, wherever the test runs.
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.stdin(Stdio::null()).stderr(output.try_clone().context("log")?).stdout(output);
    let begin = Instant::now();
    let mut child = command.spawn().context("setpriv cannot be started; install util-linux")?;

    let connected = accept(&serial_listener, &mut child)
        .and_then(|serial| Ok((serial, accept(&qmp_listener, &mut child)?)));
    let (serial, qmp) = match connected {
        Ok(streams) => streams,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            let why = fs::read_to_string(&said).unwrap_or_default();
            if why.contains("Could not set up host forwarding") {
                return Ok(None);
            }
            return Err(error.context(format!("`imager run` said: {}", why.trim())));
        }
    };
    let parts = Console::new(serial, &logs.join(format!("{name}.log")), begin)
        .and_then(|console| Ok((console, Qmp::new(qmp)?)));
    match (parts, seat.take()) {
        (Ok((console, qmp)), Some(seat)) => Ok(Some(Machine {
            child,
            console,
            qmp,
            ports,
            sticks: 0,
            _sockets: sockets,
            _seat: seat,
        })),
        (parts, _) => {
            let _ = child.kill();
            let _ = child.wait();
            parts.map(|_| None)
        }
    }
}

/// The connection of a QEMU that has just been started.
pub(crate) fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream> {
    listener.set_nonblocking(true).context("socket")?;
    let start = Instant::now();
    let patience = stretched(TO_CONNECT);
    while start.elapsed() < patience {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).context("socket")?;
                return Ok(stream);
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e).context("socket"),
        }
        if let Some(status) = child.try_wait().context("waiting for QEMU")? {
            bail!("QEMU ended at once ({status})");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("QEMU did not connect its console within {:.0} s", patience.as_secs_f64())
}

/// Ports of the loopback that are free now, by the guest's port that each is for. All are held
/// until all are found, so that none is taken twice.
fn free_ports(guest: &[u16]) -> Result<BTreeMap<u16, u16>> {
    let mut held = Vec::new();
    let mut ports = BTreeMap::new();
    for guest in guest {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("a free port")?;
        ports.insert(*guest, listener.local_addr().context("a free port")?.port());
        held.push(listener);
    }
    Ok(ports)
}

/// The built `imager`: $FERRITE_IMAGER, else the one beside this test's own folder.
pub fn imager() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FERRITE_IMAGER") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("cannot find this test's own folder")?;
    let built =
        own.ancestors().skip(1).take(2).map(|folder| folder.join("imager")).find(|p| p.is_file());
    built.with_context(|| {
        format!(
            "no `imager` beside {}; build it (cargo build -p imager) or name it in FERRITE_IMAGER",
            own.display()
        )
    })
}

/// The folder for logs and seats.
pub(crate) fn logs() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/qemu-logs");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let folder = folder.canonicalize().context("log folder")?;
    ensure!(folder.is_dir(), "{} is no folder", folder.display());
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_different_ones() {
        let ports = free_ports(&[80, 81, 82]).unwrap();
        let different: std::collections::BTreeSet<_> = ports.values().collect();
        assert_eq!((ports.len(), different.len()), (3, 3));
    }

    #[test]
    fn a_program_that_ends_at_once_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let mut child = Command::new("false").spawn().unwrap();
        let error = accept(&listener, &mut child).unwrap_err().to_string();
        assert!(error.contains("ended at once"), "{error}");
    }
}
