//! QEMU's command line for a Raspberry Pi whose firmware was played.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::card::Card;
use super::{Model, Started, device_tree};

/// Where QEMU connects to.
pub(crate) struct Sockets {
    /// The console.
    pub serial: PathBuf,
    /// The machine protocol.
    pub qmp: PathBuf,
}

impl Sockets {
    /// The sockets of a board with this folder.
    pub fn in_folder(folder: &Path) -> Sockets {
        Sockets { serial: folder.join("serial"), qmp: folder.join("qmp") }
    }
}

/// The name of a stick's device and of its medium.
pub(crate) fn stick(number: u32) -> String {
    format!("stick-{number}")
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
pub(crate) fn command(
    card: &Card,
    sticks: &BTreeMap<u32, PathBuf>,
    folder: &Path,
    started: &Started,
) -> Result<Command> {
    let model = card.model;
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
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    let mut network = "user,id=network".to_owned();
    for (guest, host) in &card.ports {
        network += &format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
    }
    let sockets = Sockets::in_folder(folder);
    let socket = |id: &str, path: &Path| format!("socket,id={id},path={}", path.display());
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
        .arg(format!("if=sd,format=raw,cache=writeback,file={}", card.disk.path().display()))
        .args(["-netdev", &network, "-device", "usb-net,netdev=network"])
        .args(["-chardev", &socket("console", &sockets.serial)])
        .args(["-chardev", &socket("qmp", &sockets.qmp), "-mon", "chardev=qmp,mode=control"])
        .args(["-serial", serials[0], "-serial", serials[1]])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    for (number, path) in sticks {
        let node = stick(*number);
        let file = format!("file,filename={}", path.display());
        command.args(["-blockdev", &format!("driver={file},node-name={node}-file")]);
        command.args(["-blockdev", &format!("driver=raw,file={node}-file,node-name={node}")]);
        command.args(["-device", &format!("usb-storage,id={node},drive={node},removable=on")]);
    }
    Ok(command)
}
