//! A Raspberry Pi 3 in QEMU's `raspi3b`, its firmware played here. A reset ends QEMU's process;
//! then the firmware is played again on the same card, as it stands by then.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use super::{boot, device_tree, Model, Reset, Started};
use crate::console::{Console, Line};
use crate::disk::Disk;
use crate::machine::{accept, logs};
use crate::seat::Seat;

/// The kernel's last line before a restart. QEMU's machine does not restart without its watchdog's
/// driver, which it must not have (see `device_tree`).
const RESTARTS: &str = "reboot: Restarting system";

/// A running board. Dropping it cuts its power.
pub struct PiMachine<'a> {
    name: String,
    disk: &'a Disk,
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
    pub fn start(name: &str, disk: &'a Disk) -> Result<PiMachine<'a>> {
        let seat = Seat::take(&logs()?)?;
        let folder =
            tempfile::Builder::new().prefix("ferrite").tempdir().context("temporary folder")?;
        let mut boots = Vec::new();
        let (child, console) = power_on(name, disk, &folder, &mut boots)?;
        Ok(PiMachine { name: name.to_owned(), disk, child, console, boots, folder, _seat: seat })
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
        let (child, console) = power_on(&self.name, self.disk, &self.folder, &mut self.boots)?;
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
    disk: &Disk,
    folder: &tempfile::TempDir,
    boots: &mut Vec<u32>,
) -> Result<(Child, Console)> {
    // The reset of upstream kernels carries no flag and no partition.
    let started =
        boot(disk, Model::Pi3, Reset::default()).context("the firmware does not boot this card")?;
    boots.push(started.partition);
    let serial = folder.path().join("serial");
    let _ = fs::remove_file(&serial);
    let listener = UnixListener::bind(&serial).context("console socket")?;
    let log = logs()?.join(format!("{name}.{}.log", boots.len()));
    let mut child = qemu(disk, folder, &started)?
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

/// QEMU's command line. Three of the four cores wait in a loop until Linux wakes them: with a
/// thread for each they would take the time of the first.
fn qemu(disk: &Disk, folder: &tempfile::TempDir, started: &Started) -> Result<Command> {
    let tree = device_tree::without_watchdog(&started.device_tree)?;
    let file = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = folder.path().join(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "qemu-system-aarch64", "-machine", "raspi3b"])
        .args(["-accel", "tcg,thread=single", "-display", "none", "-monitor", "none"])
        .arg("-no-reboot")
        .arg("-kernel")
        .arg(file("kernel", &started.kernel)?)
        .arg("-initrd")
        .arg(file("initrd", &started.initramfs)?)
        .arg("-dtb")
        .arg(file("dtb", &tree)?)
        .args(["-append", &started.arguments])
        .arg("-drive")
        .arg(format!("if=sd,format=raw,cache=writeback,file={}", disk.path().display()))
        .args(["-netdev", "user,id=network", "-device", "usb-net,netdev=network"])
        // The first UART is Bluetooth's; the console is on the second.
        .args(["-serial", "null", "-chardev"])
        .arg(format!("socket,id=console,path={}", folder.path().join("serial").display()))
        .args(["-serial", "chardev:console"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Ok(command)
}
