//! What may be written to: the list of disks, and the verdict on the one that was named.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::in_use;
use crate::machine::{Bus, Device, Machine};
use crate::member;

/// Whether people have to be asked before a target is overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// A real disk.
    Ask,
    /// A loop device: a file that somebody showed the kernel as a disk, for this or a test.
    None,
}

/// What becomes of members of arrays, volume groups and the like that are not set up here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Members {
    /// They are refused: what others hold together with them would be lost too.
    Keep,
    /// They are overwritten, as somebody asked for.
    Overwrite,
}

/// The disk that an image of `bytes` bytes may be written to, or why it may not.
pub fn judge<'a>(
    machine: &'a Machine,
    device: &'a Device,
    bytes: u64,
    members: Members,
) -> Result<(&'a Device, Care)> {
    let name = &device.name;
    if let Some(disk) = &device.disk {
        bail!("{name} is a partition; an image is a whole disk: name /dev/{disk}");
    }
    if let Some(used) = in_use::uses(machine, name).first() {
        bail!("/dev/{name} is in use: {used}; {}", used.remedy());
    }
    ensure!(
        device.bus != Bus::NoDisk && device.slaves.is_empty(),
        "/dev/{name} is no disk of its own; `imager flash` without a device lists those that are"
    );
    ensure!(
        !device.read_only,
        "/dev/{name} cannot be written: the medium is read-only; a card or its adapter may have a switch"
    );
    ensure!(device.bytes > 0, "/dev/{name} has no medium; put a card in");
    if device.bytes < bytes {
        let [has, needs] = sizes([device.bytes, bytes]);
        bail!(
            "/dev/{name} is too small: it has {has} and the image needs {needs}; take a larger one"
        );
    }
    if let Some(member) = member::of_disk(machine, device).filter(|_| members == Members::Keep) {
        bail!(
            "/dev/{name} may hold data: {} is a member of {} that is not set up here; look at it with `blkid \
             /dev/{0}`, and say --overwrite-member if nothing of it is wanted any more",
            member.name,
            member.kind
        );
    }
    Ok((device, if device.bus == Bus::Loop { Care::None } else { Care::Ask }))
}

/// The list of disks, for people: those that may be written to, and of the others why not.
pub fn list(machine: &Machine, bytes: u64) -> String {
    let mut free = String::new();
    let mut others = String::new();
    for device in machine.devices.values() {
        let listed = !matches!(device.bus, Bus::NoDisk | Bus::Loop) && device.disk.is_none();
        if !listed || device.bytes == 0 {
            continue;
        }
        match judge(machine, device, bytes, Members::Keep) {
            Ok(_) => describe(&mut free, machine, device),
            Err(why) => {
                let _ = writeln!(others, "  {why}");
            }
        }
    }
    let mut text = match free.is_empty() {
        true => "No disk here may be written to. Plug in a card or a stick.\n".to_owned(),
        false => format!("Disks that may be written to:\n{free}"),
    };
    if !others.is_empty() {
        let _ = write!(text, "Not offered:\n{others}");
    }
    text
}

fn describe(out: &mut String, machine: &Machine, device: &Device) {
    let _ = writeln!(
        out,
        "  /dev/{:<10} {:>9}  {:<7} {}{}",
        device.name.replace('!', "/"),
        size(device.bytes),
        device.bus.name(),
        if device.model.is_empty() { "unknown model" } else { &device.model },
        match device.serial.as_str() {
            "" => String::new(),
            serial => format!(", serial {serial}"),
        }
    );
    for link in machine.by_id.get(&device.name).into_iter().flatten() {
        let _ = writeln!(out, "      {}", link.display());
    }
}

/// One line about a disk, before it is overwritten.
pub fn introduce(device: &Device) -> String {
    let mut line = format!("/dev/{}: {} on {}", device.name, size(device.bytes), device.bus.name());
    for (what, text) in [("", &device.model), ("serial ", &device.serial)] {
        if !text.is_empty() {
            let _ = write!(line, ", {what}{text}");
        }
    }
    line
}

/// Whether `typed` is the full stable name of a device: one that means the same disk tomorrow.
pub fn is_full_name(typed: &Path, by_id: &Path) -> bool {
    typed.parent() == Some(by_id)
}

/// Bytes as the makers of disks count them, so that a 32 GB card is called that.
pub fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        b if b >= 1e9 => format!("{:.1} GB", b / 1e9),
        b => format!("{:.1} MB", b / 1e6),
    }
}

/// Two sizes that are compared: in bytes where they would look the same otherwise.
fn sizes(bytes: [u64; 2]) -> [String; 2] {
    let [one, other] = bytes.map(size);
    if one == other && bytes[0] != bytes[1] {
        return bytes.map(|bytes| format!("{bytes} bytes"));
    }
    [one, other]
}

#[cfg(test)]
mod tests;
