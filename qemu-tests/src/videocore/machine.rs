//! A Raspberry Pi 3 or 4 in QEMU, its firmware played here. A reset ends QEMU's process;
//! then the firmware is played again on the same card, as it stands by then.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use super::{boot, boot_signed, device_tree, Model, Reset, Started};
use crate::console::{Console, Line};
use crate::disk::Disk;
use crate::machine::{accept, logs};
use crate::seat::Seat;

/// The kernel's last line before a restart. QEMU's machine does not restart without its watchdog's
/// driver, which it must not have (see `device_tree`).
const RESTARTS: &str = "reboot: Restarting system";

/// What the power is switched on of.
#[derive(Debug, Clone, Copy)]
struct Board<'a> {
    model: Model,
    disk: &'a Disk,
    /// The public key in its flash memory, if it boots signed cards only.
    key: Option<&'a Path>,
}

/// A running board. Dropping it cuts its power.
pub struct PiMachine<'a> {
    name: String,
    board: Board<'a>,
    child: Child,
    /// The serial console since the last reset.
    pub console: Console,
    /// The partition that the firmware booted each time.
    pub boots: Vec<u32>,
    folder: tempfile::TempDir,
    _seat: Seat,
}

impl<'a> PiMachine<'a> {
    /// Switches a board with this card on. The card has to be a power of two in size, as QEMU asks:
    /// [`Disk::grow`].
    pub fn start(name: &str, model: Model, disk: &'a Disk) -> Result<PiMachine<'a>> {
        PiMachine::start_board(name, Board { model, disk, key: None })
    }

    /// As [`PiMachine::start`], of a board whose bootloader has this public key and boots nothing
    /// that it did not sign.
    pub fn start_signed(
        name: &str,
        model: Model,
        disk: &'a Disk,
        key: &'a Path,
    ) -> Result<PiMachine<'a>> {
        PiMachine::start_board(name, Board { model, disk, key: Some(key) })
    }

    fn start_board(name: &str, board: Board<'a>) -> Result<PiMachine<'a>> {
        let seat = Seat::take(&logs()?)?;
        let folder =
            tempfile::Builder::new().prefix("ferrite").tempdir().context("temporary folder")?;
        let mut boots = Vec::new();
        let (child, console) = power_on(name, board, &folder, &mut boots)?;
        let name = name.to_owned();
        Ok(PiMachine { name, board, child, console, boots, folder, _seat: seat })
    }

    /// Waits for a line with `text`, over as many resets as come before it.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<Line> {
        loop {
            // A line that has both is the one that was waited for.
            let (which, line) = self.console.wait_for_any(&[text, RESTARTS], timeout)?;
            if which == 0 {
                return Ok(line);
            }
            self.reset()?;
        }
    }

    /// Cuts the power and switches the board on again.
    pub fn reset(&mut self) -> Result<()> {
        self.child.kill().context("killing QEMU")?;
        self.child.wait().context("waiting for QEMU")?;
        let (child, console) = power_on(&self.name, self.board, &self.folder, &mut self.boots)?;
        (self.child, self.console) = (child, console);
        Ok(())
    }
}

impl Drop for PiMachine<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn power_on(
    name: &str,
    board: Board,
    folder: &tempfile::TempDir,
    boots: &mut Vec<u32>,
) -> Result<(Child, Console)> {
    // The reset of upstream kernels carries no flag and no partition.
    let Board { model, disk, key } = board;
    let reset = Reset::default();
    let started = match key {
        Some(key) => boot_signed(disk, model, reset, key),
        None => boot(disk, model, reset),
    };
    let started = started.context("the firmware does not boot this card")?;
    boots.push(started.partition);
    let serial = folder.path().join("serial");
    let _ = fs::remove_file(&serial);
    let listener = UnixListener::bind(&serial).context("console socket")?;
    let log = logs()?.join(format!("{name}.{}.log", boots.len()));
    let mut child = qemu(model, disk, folder, &started)?
        .stderr(File::create(logs()?.join(format!("{name}.qemu.log"))).context("log")?)
        .spawn()
        .context("setpriv cannot be started; install util-linux and qemu-system-arm")?;
    let begin = Instant::now();
    let console =
        accept(&listener, &mut child).and_then(|stream| Console::new(stream, &log, begin));
    match console {
        Ok(console) => Ok((child, console)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            bail!(error.context(format!("{name}: QEMU does not start")))
        }
    }
}

/// The emulator: $FERRITE_QEMU, else the installed one.
fn emulator() -> OsString {
    let named = std::env::var_os("FERRITE_QEMU").filter(|program| !program.is_empty());
    named.unwrap_or_else(|| "qemu-system-aarch64".into())
}

/// QEMU's machine for this model, if it knows one by name.
fn machine(model: Model) -> Option<&'static str> {
    match model {
        Model::Pi3 => Some("raspi3b"),
        Model::Pi4 => Some("raspi4b"),
        Model::Zero2W | Model::Pi5 | Model::Pi5D => None,
    }
}

/// Whether the emulator on this computer can play this model: `raspi4b` came with QEMU 9.0.
pub fn can_play(model: Model) -> Result<bool> {
    let Some(machine) = machine(model) else { return Ok(false) };
    let help = Command::new(emulator())
        .args(["-machine", "help"])
        .output()
        .context("install the package qemu-system-arm")?;
    let known = String::from_utf8_lossy(&help.stdout).into_owned();
    Ok(known.lines().any(|line| line.split(' ').next() == Some(machine)))
}

/// QEMU's command line. Three of the four cores wait in a loop until Linux wakes them: with a
/// thread for each they would take the time of the first.
fn qemu(
    model: Model,
    disk: &Disk,
    folder: &tempfile::TempDir,
    started: &Started,
) -> Result<Command> {
    let tree = device_tree::for_qemu(model, &started.device_tree)?;
    // The console is on the second UART, the first is Bluetooth's. QEMU's Pi 4 gives the second
    // one no interrupts.
    let second = model != Model::Pi4;
    let arguments = match second {
        true => started.arguments.clone(),
        false => started.arguments.replace("console=ttyS1,", "console=ttyAMA0,"),
    };
    let serials = if second { ["null", "chardev:console"] } else { ["chardev:console", "null"] };
    let machine = machine(model).with_context(|| format!("QEMU has no machine for {model:?}"))?;
    let file = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = folder.path().join(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(emulator())
        .args(["-machine", machine])
        .args(["-accel", "tcg,thread=single", "-display", "none", "-monitor", "none"])
        .arg("-no-reboot")
        .arg("-kernel")
        .arg(file("kernel", &started.kernel)?)
        .arg("-initrd")
        .arg(file("initrd", &started.initramfs)?)
        .arg("-dtb")
        .arg(file("dtb", &tree)?)
        .args(["-append", &arguments])
        .arg("-drive")
        .arg(format!("if=sd,format=raw,cache=writeback,file={}", disk.path().display()))
        .args(["-netdev", "user,id=network", "-device", "usb-net,netdev=network"])
        .arg("-chardev")
        .arg(format!("socket,id=console,path={}", folder.path().join("serial").display()))
        .args(["-serial", serials[0], "-serial", serials[1]])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Ok(command)
}
