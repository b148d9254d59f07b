//! From the name that somebody typed to an open medium.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::image::Image;
use crate::in_use;
use crate::machine::{Device, Machine};
use crate::medium::{Medium, Target};
use crate::target::{self, Care, Members};

/// Decides whether what `path` names may be written, lets `confirm` ask where that is due, and opens
/// it; the device is that of a disk.
pub fn open<'a>(
    image: &Image,
    machine: &'a Machine,
    path: &Path,
    members: Members,
    confirm: impl FnOnce(&Device) -> Result<()>,
) -> Result<(Medium, Option<&'a Device>)> {
    let file = match Target::of(path)? {
        Target::Block(number) => {
            let named = machine.by_number(number).with_context(|| {
                format!("{} is no disk that this kernel lists in /sys/block", path.display())
            })?;
            let (device, care) = target::judge(machine, named, image.bytes(), members)?;
            if care == Care::Ask {
                confirm(device)?;
            }
            let name = format!("/dev/{}", device.name.replace('!', "/"));
            return Ok((Medium::disk(path, &name, number)?, Some(device)));
        }
        Target::NewFile(path) => return Ok((Medium::new_file(&path, image.bytes())?, None)),
        Target::OldFile(path) => path,
    };
    let identity = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    ensure!(
        identity(&file) != identity(image.path()),
        "{} is the image itself; name another file",
        file.display()
    );
    if let Some(device) = in_use::file_use(machine, &file) {
        bail!(
            "{} is what /dev/{1} shows; name /dev/{1}, or `losetup --detach /dev/{1}` first",
            file.display(),
            device.name
        );
    }
    Ok((Medium::old_file(&file, image.bytes())?, None))
}
