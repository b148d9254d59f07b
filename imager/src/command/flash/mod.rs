//! `imager flash`: an image onto a card, a stick or a disk, and nothing onto anything else.
//!
//! The road: look at the image ([`image`], [`acceptance`]) and at this machine's disks ([`machine`]), decide
//! whether the target may be written ([`choice`], [`in_use`]), ask, open it so that nobody else
//! can use it ([`medium`]), lay over the image what only this device has ([`patch`]), write, read
//! back and compare ([`passes`]).

mod acceptance;
mod aligned;
mod choice;
mod image;
mod in_use;
mod interrupt;
mod machine;
mod medium;
mod member;
mod passes;
mod patch;
mod progress;
mod settings_patch;

use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::rand::{GetRandomFlags, getrandom};

use self::choice::{Care, Members};
use self::image::Image;
use self::machine::{Bus, Device, Machine, Roots};
use self::medium::{Medium, Target};
use self::patch::Patches;
use crate::device_settings::SettingsArgs;

/// Where the names are that `--yes` asks for.
const BY_ID: &str = "/dev/disk/by-id";

/// Writes an image to a card, a stick, a disk or a file, and reads it back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  imager flash out/demo-qemu-arm64-1.0.0.img                  list the disks
  sudo imager flash out/demo-qemu-arm64-1.0.0.img /dev/sdb    asks for the name once more
  sudo imager flash --yes out/demo.img.zst /dev/disk/by-id/usb-Generic_SD_Reader_1234-0:0
  imager flash out/demo-qemu-arm64-1.0.0.img card.img         a file, as a disk of its size
  sudo imager flash out/demo.img /dev/sdb --hostname kitchen-1 --timezone Europe/Berlin --token token

A disk is refused while anything on it is mounted, swapped to, or part of LVM, RAID, ZFS or an encrypted
volume, set up here or not. Everything on it is lost. What was written is read back from the medium and compared. A loop
device or a file is written without a question. docs/flashing.md has the rest.")]
pub struct FlashArgs {
    /// The disk image: .img, or the same compressed with zstd
    #[arg(value_name = "IMG")]
    image: PathBuf,
    /// The whole disk to overwrite, a loop device, or a file; without it the disks are listed
    #[arg(value_name = "DEVICE")]
    device: Option<PathBuf>,
    /// Do not ask; only with the disk's full name below /dev/disk/by-id
    #[arg(long, requires = "device")]
    yes: bool,
    /// Overwrite a disk that is a member of LVM, RAID, LUKS, ZFS or the like and not set up here
    #[arg(long, requires = "device")]
    overwrite_member: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs `imager flash`.
pub fn run(args: FlashArgs) -> Result<()> {
    let image = Image::open(&args.image)?;
    let machine = Machine::read(&Roots::real())?;
    let Some(path) = &args.device else {
        ensure!(args.settings.is_empty(), "settings are for a DEVICE; name it behind the image");
        print!("{}", choice::list(&machine, image.bytes()));
        println!("To write one: imager flash {} DEVICE", args.image.display());
        return Ok(());
    };
    acceptance::check(&image, &args.settings.wants())?;
    let settings = args.settings.collect()?;
    let members = if args.overwrite_member { Members::Overwrite } else { Members::Keep };
    let (medium, device) = open(&image, &machine, path, members, args.yes)?;
    let mut patches = Patches::default();
    let own = patch::with_own_guids(&image.table, random)?;
    let (table, changes) = patch::table_for(&image.table, &own, medium.bytes())?;
    changes.into_iter().for_each(|patch| patches.push(patch));
    let secret = settings.is_some();
    if let Some(settings) = settings {
        patches.push(settings_patch::make(&settings, &image, &table)?);
    }
    interrupt::listen();
    let name = medium.name().to_owned();
    let state = if medium.is_new() {
        format!("{name} was not made")
    } else {
        format!("{name} is not whole now and will not boot; flash it again")
    };
    let written = passes::write(&image, &patches, &medium).context(state.clone())?;
    println!(
        "wrote {}, and zeros on the other {:.1} MB",
        written.rate(),
        written.zeros() as f64 / 1e6
    );
    let compared = passes::compare(&image, &patches, &medium).context(state)?;
    println!("read back and compared {}: it is what was written", compared.rate());
    let known = medium.finish(secret)?;
    println!("{}", farewell(&name, device, known));
    Ok(())
}

/// 16 bytes of the kernel's random source.
fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty()).context("random numbers")?;
    Ok(bytes)
}

/// Decides whether the target may be written, asks where that is due, and opens it.
fn open<'a>(
    image: &Image,
    machine: &'a Machine,
    path: &Path,
    members: Members,
    yes: bool,
) -> Result<(Medium, Option<&'a Device>)> {
    let file = match Target::of(path)? {
        Target::Block(number) => {
            let named = machine.by_number(number).with_context(|| {
                format!("{} is no disk that this kernel lists in /sys/block", path.display())
            })?;
            let (device, care) = choice::judge(machine, named, image.bytes(), members)?;
            if care == Care::Ask {
                confirm(device, path, yes)?;
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

/// Lets the user say once more which disk is meant.
fn confirm(device: &Device, typed: &Path, yes: bool) -> Result<()> {
    if yes {
        ensure!(
            choice::is_full_name(typed, Path::new(BY_ID)),
            "--yes needs the disk's full name below {BY_ID}: {} may be another disk tomorrow",
            typed.display()
        );
        return Ok(());
    }
    let stdin = std::io::stdin();
    ensure!(
        stdin.is_terminal(),
        "nobody is here to confirm that /dev/{} may be overwritten; run it on a terminal, or use --yes with the \
         disk's full name below {BY_ID}",
        device.name
    );
    ask(device, &mut stdin.lock(), &mut std::io::stderr())
}

fn ask(device: &Device, input: &mut impl BufRead, output: &mut impl Write) -> Result<()> {
    writeln!(output, "{}", choice::introduce(device))?;
    write!(output, "Everything on it will be lost. Type its name, {}, to go on: ", device.name)?;
    output.flush()?;
    let mut line = String::new();
    input.read_line(&mut line).context("the answer cannot be read")?;
    let answer = line.trim();
    let answer = answer.strip_prefix("/dev/").unwrap_or(answer);
    ensure!(answer == device.name, "that is not its name; nothing was written");
    Ok(())
}

/// What to do with the medium now.
fn farewell(name: &str, device: Option<&Device>, known: bool) -> String {
    let mut text = match device.map(|device| device.bus) {
        None => format!("{name} is ready."),
        Some(Bus::Loop) => format!("{name} is ready; `losetup --detach {name}` takes it down."),
        Some(Bus::Usb) => format!(
            "{name} is ready. Take it out through your desktop's \"eject\", or with\n  udisksctl power-off --block-device {name}\n\
             Without either it may be pulled out now, if nothing has mounted it."
        ),
        Some(_) => format!("{name} is ready. It may be taken out now, if nothing has mounted it."),
    };
    if !known {
        text.push_str("\nThis machine still has its old partitions in mind: take it out and put it in again before looking at it here.");
    }
    text
}

#[cfg(test)]
mod tests;
