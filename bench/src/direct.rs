//! A machine that gets its kernel from QEMU instead of a boot loader: the peers have none of our
//! slots. Everything else is what `imager run` starts.

use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use qemu_tests::{Console, Disk};

use crate::workspace::{BOARD, Workspace};

/// QEMU connects to our socket before anything else.
const TO_CONNECT: Duration = Duration::from_secs(60);

/// A running machine, gone when dropped.
pub struct Direct {
    child: Child,
    /// Its serial console.
    pub console: Console,
    _sockets: tempfile::TempDir,
}

/// What a machine starts.
pub struct Start<'a> {
    /// The kernel.
    pub kernel: &'a Path,
    /// Its initramfs.
    pub initrd: &'a Path,
    /// Its arguments.
    pub arguments: &'a str,
}

impl Direct {
    /// Starts a machine on `disk`, which `img` tells the board of. Its log is `out/bench/NAME.log`.
    pub fn start(
        workspace: &Workspace,
        name: &str,
        img: &Path,
        disk: &Path,
        start: &Start<'_>,
    ) -> Result<Direct> {
        let sockets =
            tempfile::Builder::new().prefix("ferrite").tempdir().context("temporary folder")?;
        let serial = sockets.path().join("serial");
        let listener = UnixListener::bind(&serial).with_context(|| serial.display().to_string())?;
        let line = workspace.imager(&[
            "run".as_ref(),
            img.as_ref(),
            "--board".as_ref(),
            BOARD.as_ref(),
            "--disk".as_ref(),
            disk.as_ref(),
            "--serial".as_ref(),
            serial.as_ref(),
            "--dry-run".as_ref(),
        ])?;
        // The loader's arguments come as the shell's own, which needs no quoting.
        let script = format!("exec {} -kernel \"$1\" -initrd \"$2\" -append \"$3\"", bare(&line)?);
        let said = workspace.path(&format!("{name}.qemu.log"));
        let output = File::create(&said).with_context(|| said.display().to_string())?;
        let begin = Instant::now();
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "sh", "-c", &script, "sh"])
            .arg(start.kernel)
            .arg(start.initrd)
            .arg(start.arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("log")?)
            .stderr(output)
            .spawn()
            .context("setpriv cannot be started; install util-linux")?;
        let log = workspace.path(&format!("{name}.log"));
        let console =
            accept(&listener, &mut child).and_then(|stream| Console::new(stream, &log, begin));
        match console {
            Ok(console) => Ok(Direct { child, console, _sockets: sockets }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.context(format!("QEMU's own words are in {}", said.display())))
            }
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command line without its firmware: with one, QEMU would leave the kernel to it.
fn bare(line: &str) -> Result<String> {
    let (before, rest) =
        line.trim().split_once(" -bios ").context("`imager run` names no -bios")?;
    ensure!(!rest.starts_with('\''), "the firmware's path has strange characters: {rest}");
    let (_, after) = rest.split_once(' ').context("nothing stands behind -bios")?;
    Ok(format!("{before} {after}"))
}

fn accept(listener: &UnixListener, child: &mut Child) -> Result<std::os::unix::net::UnixStream> {
    listener.set_nonblocking(true).context("socket")?;
    let start = Instant::now();
    while start.elapsed() < TO_CONNECT {
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
    bail!("QEMU did not connect its console within {} s", TO_CONNECT.as_secs())
}

/// A copy of a disk, as a machine may write to it.
pub fn scratch(disk: &Path) -> Result<Disk> {
    Disk::copy_of(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_is_left_out() {
        assert_eq!(bare("qemu -m 1 -bios /a/b.bin -drive x\n").unwrap(), "qemu -m 1 -drive x");
        assert!(bare("qemu -m 1").is_err());
        assert!(bare("qemu -bios 'a b' -m 1").is_err());
    }
}
