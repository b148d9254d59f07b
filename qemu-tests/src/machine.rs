//! A machine in QEMU, started by `imager run`, or as a Raspberry Pi by the harness, which plays its
//! firmware; gone when it is dropped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::console::Console;
use crate::disk::Disk;
use crate::patience::stretched;
use crate::qmp::Qmp;
use crate::stick::Stick;
use crate::videocore::{Card, Model, PiBoard};
use crate::vm_permit::VmPermit;

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
    /// A Raspberry Pi, of which `imager run` knows nothing; `board` and `memory` do not count then.
    pub pi: Option<Model>,
    /// The public key (PEM) in its flash memory, if it boots signed cards only.
    pub boot_key: Option<PathBuf>,
    /// A UEFI firmware in flash memory and the file with its variables, which the machine writes;
    /// else the board file's firmware, with none.
    pub uefi: Option<(PathBuf, PathBuf)>,
    /// Other disks that the machine finds before its own.
    pub before: Vec<PathBuf>,
    /// Other disks that it finds behind its own.
    pub behind: Vec<PathBuf>,
    /// The folder for its logs; else `target/qemu-logs/`.
    pub logs: Option<PathBuf>,
}

/// A running machine. Dropping it cuts its power.
pub struct Machine {
    /// Its serial console.
    pub console: Console,
    body: Body,
    ports: BTreeMap<u16, u16>,
    sticks: u32,
    _permit: VmPermit,
}

/// What runs it.
enum Body {
    /// `imager run`.
    Run(Run),
    /// The harness.
    Pi(PiBoard),
}

/// A running `imager run`.
struct Run {
    child: Child,
    qmp: Qmp,
    _sockets: tempfile::TempDir,
}

impl Machine {
    /// Starts a machine on `disk` as soon as a permit is free. `name` names its log file,
    /// `target/qemu-logs/NAME.log` unless the options say where; what QEMU itself says goes to
    /// `NAME.qemu.log`.
    pub fn start(name: &str, disk: &Disk, options: &Options) -> Result<Machine> {
        let common = logs()?;
        let permit = VmPermit::take(&common)?;
        let logs = options.logs.clone().unwrap_or(common);
        if let Some(model) = options.pi {
            return start_pi(name, disk, options, model, logs, permit);
        }
        let mut permit = Some(permit);
        for _ in 0..PORT_TRIES {
            let ports = free_ports(&options.ports)?;
            if let Some(machine) = start(name, disk, options, ports, &logs, &mut permit)? {
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
        match &mut self.body {
            Body::Run(run) => {
                run.child.kill().context("killing QEMU")?;
                run.child.wait().context("waiting for QEMU").map(drop)
            }
            Body::Pi(board) => board.power_cut(),
        }
    }

    /// Presses the reset button; a Raspberry Pi, which has none, loses its power for a moment.
    pub fn reset(&mut self) -> Result<()> {
        match &mut self.body {
            Body::Run(run) => run.qmp.execute("system_reset", json!({})).map(drop),
            Body::Pi(board) => board.reset(),
        }
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        match &mut self.body {
            Body::Run(run) => run.qmp.execute(command, arguments),
            Body::Pi(board) => board.execute(command, arguments),
        }
    }

    /// Stops the processors: the guest stands still as if hung, watchdog included.
    pub fn pause(&mut self) -> Result<()> {
        self.execute("stop", json!({})).map(drop)
    }

    /// Lets the processors go on.
    pub fn resume(&mut self) -> Result<()> {
        self.execute("cont", json!({})).map(drop)
    }

    /// Plugs the network cable in or out.
    pub fn set_link(&mut self, up: bool) -> Result<()> {
        self.execute("set_link", json!({"name": "network", "up": up})).map(drop)
    }

    /// Plugs a USB stick in; its number pulls it out again. A board of `imager run` has to have a
    /// controller `usb` (`qemu-xhci,id=usb` among its devices).
    pub fn plug_in(&mut self, stick: &Stick) -> Result<u32> {
        self.sticks += 1;
        let number = self.sticks;
        if let Body::Pi(board) = &self.body {
            board.plug_in(number, stick.path())?;
            return Ok(number);
        }
        let node = format!("stick-{number}");
        let file = json!({"driver": "file", "filename": stick.path()});
        let medium = json!({"driver": "raw", "node-name": node, "file": file});
        self.execute("blockdev-add", medium)?;
        let device = json!({"driver": "usb-storage", "id": node, "bus": "usb.0", "drive": node, "removable": true});
        self.execute("device_add", device)?;
        Ok(number)
    }

    /// Pulls a stick out, without asking the guest first.
    pub fn pull_out(&mut self, stick: u32) -> Result<()> {
        match &self.body {
            Body::Pi(board) => board.pull_out(stick),
            Body::Run(_) => {
                self.execute("device_del", json!({"id": format!("stick-{stick}")})).map(drop)
            }
        }
    }

    /// The partitions that a Raspberry Pi's firmware booted so far; none of another board.
    pub fn boots(&self) -> Vec<u32> {
        match &self.body {
            Body::Pi(board) => board.boots(),
            Body::Run(_) => Vec::new(),
        }
    }

    /// Waits until the guest switches itself off. A Raspberry Pi cannot.
    pub fn wait_off(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let Body::Run(run) = &mut self.body else {
            bail!("a Raspberry Pi cannot switch itself off")
        };
        let timeout = stretched(timeout);
        let start = Instant::now();
        while start.elapsed() < timeout {
            if let Some(status) = run.child.try_wait().context("waiting for QEMU")? {
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

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Raspberry Pi with its console.
fn start_pi(
    name: &str,
    disk: &Disk,
    options: &Options,
    model: Model,
    logs: PathBuf,
    permit: VmPermit,
) -> Result<Machine> {
    let (ours, guests) = UnixStream::pair().context("console")?;
    let console = Console::new(ours, &logs.join(format!("{name}.log")), Instant::now())?;
    let ports = free_ports(&options.ports)?;
    let card = Card {
        name: name.to_owned(),
        model,
        disk: disk.view(),
        key: options.boot_key.clone(),
        ports: ports.clone(),
        logs,
    };
    let body = Body::Pi(PiBoard::start(card, guests)?);
    Ok(Machine { console, body, ports, sticks: 0, _permit: permit })
}

/// One try to start; `None` when a port was taken in the meantime.
fn start(
    name: &str,
    disk: &Disk,
    options: &Options,
    ports: BTreeMap<u16, u16>,
    logs: &Path,
    permit: &mut Option<VmPermit>,
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
    if let Some((firmware, variables)) = &options.uefi {
        command.arg("--firmware").arg(firmware).arg("--variables").arg(variables);
    }
    for (option, others) in [("--disk-before", &options.before), ("--disk-behind", &options.behind)]
    {
        others.iter().for_each(|other| {
            command.arg(option).arg(other);
        });
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
    match (parts, permit.take()) {
        (Ok((console, qmp)), Some(permit)) => {
            let body = Body::Run(Run { child, qmp, _sockets: sockets });
            Ok(Some(Machine { console, body, ports, sticks: 0, _permit: permit }))
        }
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

/// A port of the loopback that is free now.
pub fn free_port() -> Result<u16> {
    free_ports(&[0])?.remove(&0).context("a free port")
}

/// The right to run one machine, for tests that start it otherwise than by [`Machine::start`].
pub fn permit() -> Result<VmPermit> {
    VmPermit::take(&logs()?)
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

/// The folder for logs and permits.
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
