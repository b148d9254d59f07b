//! `imager flash`: an image onto a card, a stick or a disk, and nothing onto anything else.
//!
//! What may be written to, and how, is the crate `flash`'s; here are the questions, the progress and
//! the last words.

mod device_settings;
mod interrupt;
mod passphrase;
mod progress;

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use flash::image::Image;
use flash::machine::{Bus, Device, Machine, Roots};
use flash::patch::{self, Patches};
use flash::target::{self, Members};
use flash::{passes, random, settings_patch, settings_support};

use self::device_settings::DeviceSettingsArgs;
use self::progress::Progress;
use crate::outputs;

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
    settings: DeviceSettingsArgs,
}

/// Runs `imager flash`.
pub fn run(args: FlashArgs) -> Result<()> {
    let image = Image::open(&args.image)?;
    let machine = Machine::read(&Roots::real())?;
    let settings = args.settings.settings();
    let Some(path) = &args.device else {
        ensure!(settings.is_empty(), "settings are for a DEVICE; name it behind the image");
        print!("{}", target::list(&machine, image.bytes()));
        println!("To write one: imager flash {} DEVICE", args.image.display());
        return Ok(());
    };
    outputs::check_place(path)?;
    settings_support::check(&image, &settings.requirements())?;
    let data = settings.read(passphrase::ask_passphrase)?;
    let members = if args.overwrite_member { Members::Overwrite } else { Members::Keep };
    let (medium, device) =
        flash::open(&image, &machine, path, members, |disk| confirm(disk, path, args.yes))?;
    let mut patches = Patches::default();
    let own = patch::with_own_guids(&image.table, random::uuid)?;
    let (table, changes) = patch::table_for(&image.table, &own, medium.bytes())?;
    changes.into_iter().for_each(|patch| patches.push(patch));
    let secret = data.is_some();
    if let Some(data) = data {
        patches.push(settings_patch::make(&data, &image, &table)?);
    }
    interrupt::listen();
    let name = medium.name().to_owned();
    let state = if medium.is_new() {
        format!("{name} was not made")
    } else {
        format!("{name} is not whole now and will not boot; flash it again")
    };
    let mut progress = Progress::new();
    let written = passes::write(&image, &patches, &medium, &mut progress).context(state.clone())?;
    println!(
        "wrote {}, and zeros on the other {:.1} MB",
        written.rate(),
        written.zeros() as f64 / 1e6
    );
    let compared = passes::compare(&image, &patches, &medium, &mut progress).context(state)?;
    println!("read back and compared {}: it is what was written", compared.rate());
    let known = medium.finish(secret)?;
    println!("{}", farewell(&name, device, known));
    Ok(())
}

/// Lets the user say once more which disk is meant.
fn confirm(device: &Device, typed: &Path, yes: bool) -> Result<()> {
    if yes {
        ensure!(
            target::is_full_name(typed, Path::new(BY_ID)),
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
    writeln!(output, "{}", target::introduce(device))?;
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
