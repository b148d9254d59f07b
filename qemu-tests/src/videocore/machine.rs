//! A Raspberry Pi 3 or 4 in QEMU, its firmware played here. A reset ends QEMU's process;
//! then the firmware is played again on the same card, as it stands by then. The console that the
//! tests hear goes on over all of that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::card::Card;
use super::qemu::{self, Sockets};
use super::{Reset, Started, boot, boot_signed};
use crate::machine::accept;
use crate::qmp::Qmp;

/// The kernel's last words before a restart: on purpose, after a panic, and by the timer that stands
/// in for a watchdog. QEMU's machine does not restart without its watchdog's driver, which it must
/// not have (see `device_tree`).
const RESTARTS: [&[u8]; 3] = [
    b"reboot: Restarting system",
    b"Reboot failed -- System halted",
    b"softdog: Initiating system reboot",
];

/// A running board. Dropping it cuts its power.
pub(crate) struct PiBoard(Arc<Shared>);

struct Shared {
    card: Card,
    folder: tempfile::TempDir,
    state: Mutex<State>,
}

/// The QEMU of now.
struct State {
    child: Option<Child>,
    qmp: Option<Qmp>,
    /// What is typed goes there.
    serial: Option<UnixStream>,
    /// What is heard comes from here, over all resets.
    console: UnixStream,
    /// The sticks that are plugged in, which a reset does not pull out.
    sticks: BTreeMap<u32, PathBuf>,
    /// The partition that the firmware booted each time.
    boots: Vec<u32>,
}

impl PiBoard {
    /// Switches the board on. The stream is the console's other end.
    pub fn start(card: Card, console: UnixStream) -> Result<PiBoard> {
        let folder =
            tempfile::Builder::new().prefix("ferrite").tempdir().context("temporary folder")?;
        let typed = console.try_clone().context("console")?;
        let state = State {
            child: None,
            qmp: None,
            serial: None,
            console,
            sticks: BTreeMap::new(),
            boots: Vec::new(),
        };
        let shared = Arc::new(Shared { card, folder, state: Mutex::new(state) });
        let board = PiBoard(shared.clone());
        board.power_on(&mut shared.state())?;
        std::thread::spawn(move || shared.type_on(typed));
        Ok(board)
    }

    /// Cuts the power and switches the board on again.
    pub fn reset(&self) -> Result<()> {
        let mut state = self.0.state();
        state.power_off()?;
        self.power_on(&mut state)
    }

    fn power_on(&self, state: &mut State) -> Result<()> {
        let heard = self.0.power_on(state)?;
        let (shared, number) = (self.0.clone(), state.boots.len());
        let out = state.console.try_clone().context("console")?;
        std::thread::spawn(move || shared.listen(heard, out, number));
        Ok(())
    }

    /// Cuts the power.
    pub fn power_cut(&self) -> Result<()> {
        self.0.state().power_off()
    }

    /// The partitions that the firmware booted so far.
    pub fn boots(&self) -> Vec<u32> {
        self.0.state().boots.clone()
    }

    /// Tells QEMU something.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        self.0.state().execute(command, arguments)
    }

    /// Plugs a stick in under this number.
    pub fn plug_in(&self, number: u32, path: &Path) -> Result<()> {
        let mut state = self.0.state();
        let node = qemu::stick(number);
        let file = json!({"driver": "file", "filename": path});
        let medium = json!({"driver": "raw", "node-name": node, "file": file});
        state.execute("blockdev-add", medium)?;
        let device = json!({"driver": "usb-storage", "id": node, "drive": node, "removable": true});
        state.execute("device_add", device)?;
        state.sticks.insert(number, path.to_owned());
        Ok(())
    }

    /// Pulls a stick out.
    pub fn pull_out(&self, number: u32) -> Result<()> {
        let mut state = self.0.state();
        state.sticks.remove(&number);
        state.execute("device_del", json!({"id": qemu::stick(number)})).map(drop)
    }
}

impl Drop for PiBoard {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let _ = state.power_off();
        // The threads hold the rest.
        let _ = state.console.shutdown(Shutdown::Both);
    }
}

impl State {
    fn power_off(&mut self) -> Result<()> {
        (self.qmp, self.serial) = (None, None);
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().context("killing QEMU")?;
        child.wait().context("waiting for QEMU").map(drop)
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.qmp.as_mut().context("the board is off")?.execute(command, arguments)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plays the firmware and starts the cores. Gives the console's stream. The thread that does
    /// this has to live as long as QEMU, which dies with it (`--pdeathsig`).
    fn power_on(&self, state: &mut State) -> Result<UnixStream> {
        let started = self.play_firmware().context("the firmware does not boot this card")?;
        state.boots.push(started.partition);
        let sockets = Sockets::in_folder(self.folder.path());
        let listen = |path: &Path| {
            let _ = fs::remove_file(path);
            UnixListener::bind(path).with_context(|| path.display().to_string())
        };
        let (serial, qmp) = (listen(&sockets.serial)?, listen(&sockets.qmp)?);
        let said = self.card.logs.join(format!("{}.qemu.log", self.card.name));
        let said = File::create(&said).with_context(|| said.display().to_string())?;
        let mut child = qemu::command(&self.card, &state.sticks, self.folder.path(), &started)?
            .stderr(said)
            .spawn()
            .context("setpriv cannot be started; install util-linux and qemu-system-arm")?;
        let connected = accept(&serial, &mut child)
            .and_then(|serial| Ok((serial, Qmp::new(accept(&qmp, &mut child)?)?)));
        match connected {
            Ok((serial, qmp)) => {
                let heard = serial.try_clone().context("console")?;
                (state.child, state.qmp, state.serial) = (Some(child), Some(qmp), Some(serial));
                Ok(heard)
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                bail!(error.context(format!("{}: QEMU does not start", self.card.name)))
            }
        }
    }

    fn play_firmware(&self) -> Result<Started> {
        // The reset of upstream kernels carries no flag and no partition.
        let (card, reset) = (&self.card, Reset::default());
        match &card.key {
            Some(key) => boot_signed(&card.disk, card.model, reset, key),
            None => boot(&card.disk, card.model, reset),
        }
    }

    /// Hands on what the guest of the QEMU with this number says, and resets the board when the
    /// kernel has said that it does.
    fn listen(&self, mut heard: UnixStream, mut out: UnixStream, mut number: usize) {
        let (mut buffer, mut line) = ([0; 4096], Vec::new());
        while let Ok(length @ 1..) = heard.read(&mut buffer) {
            let _ = out.write_all(&buffer[..length]);
            for byte in &buffer[..length] {
                line.push(*byte);
                if *byte != b'\n' {
                    continue;
                }
                let said = std::mem::take(&mut line);
                let restarts = |words: &&[u8]| said.windows(words.len()).any(|w| w == *words);
                if RESTARTS.iter().any(restarts) {
                    match self.restart(number) {
                        Ok(Some(next)) => (heard, number) = next,
                        Ok(None) => return,
                        Err(error) => {
                            let _ = out.write_all(format!("harness: {error:#}\n").as_bytes());
                            let _ = out.shutdown(Shutdown::Both);
                            return;
                        }
                    }
                    break;
                }
            }
        }
        if !line.is_empty() {
            let _ = out.write_all(b"\n");
        }
    }

    /// The console's stream and the number of the next QEMU; none if somebody else has switched the
    /// board off or on meanwhile.
    fn restart(&self, number: usize) -> Result<Option<(UnixStream, usize)>> {
        let mut state = self.state();
        if state.boots.len() != number || state.child.is_none() {
            return Ok(None);
        }
        state.power_off()?;
        let heard = self.power_on(&mut state)?;
        Ok(Some((heard, state.boots.len())))
    }

    /// Hands on what is typed.
    fn type_on(&self, mut typed: UnixStream) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = typed.read(&mut buffer) {
            if let Some(serial) = &mut self.state().serial {
                let _ = serial.write_all(&buffer[..length]);
            }
        }
    }
}
