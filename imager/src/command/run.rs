//! `imager run`: the board as QEMU plays it, with the image on its disk and a console.
//!
//! The image itself is never written: it is copied once to a disk file beside it, which keeps
//! what the device does until the image is built anew. The tests in `qemu-tests/` start their
//! machines through this command too, so there is one QEMU command line.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::sparse;
use crate::config::board::{Architecture, Board, Firmware, Qemu};
use crate::config::values::{Size, parse_size};
use crate::outputs::{self, DISK, UEFI_VARIABLES};

/// Less than any image starts with; a number without a unit is bytes.
const LEAST_MEMORY: u64 = 64 << 20;
/// U-Boot and EDK II have ten times as much.
const LEAST_FIRMWARE: u64 = 64 << 10;

/// Runs an image in QEMU, with its console in this terminal.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  imager run out/demo-qemu-arm64-1.0.0.img
  imager run out/demo-qemu-arm64-1.0.0.img --forward 8080:80 --memory 1G

What the device writes is kept in FILE.disk beside the image until the image is built anew.
Inside the device the host is 10.0.2.2. Ctrl-A X leaves, Ctrl-A H lists QEMU's other keys.")]
pub struct RunArgs {
    /// The disk image that `imager build` wrote
    #[arg(value_name = "FILE.img")]
    image: PathBuf,
    /// The board, by name or as a path to its file; else told from the image's name
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// Pass a TCP port of this machine's loopback on to one of the device; may be repeated
    #[arg(long, value_name = "HOST:GUEST", value_parser = parse_forward)]
    forward: Vec<Forward>,
    /// Memory, instead of what the board file says
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<Size>,
    /// Make the disk at least this large
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    drive_size: Option<Size>,
    /// The disk file, instead of FILE.disk; one that is there is used as it is
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// Another disk, which the machine finds before the device's own; may be repeated
    #[arg(long, value_name = "FILE")]
    disk_before: Vec<PathBuf>,
    /// Another disk, which the machine finds behind the device's own; may be repeated
    #[arg(long, value_name = "FILE")]
    disk_behind: Vec<PathBuf>,
    /// Forget what the device wrote: copy the image onto the disk file again
    #[arg(long)]
    fresh: bool,
    /// The machine's firmware, instead of the installed one that the board file names
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// Keep the UEFI firmware's variables in this file, a copy of the firmware's own empty store: the
    /// firmware lies in flash memory then. A PC's is written in SMM only, as Secure Boot needs it
    #[arg(long, value_name = "FILE", requires = "firmware")]
    variables: Option<PathBuf>,
    /// Connect the console to this listening Unix socket instead of the terminal
    #[arg(long, value_name = "SOCKET")]
    serial: Option<PathBuf>,
    /// Connect QEMU's machine protocol to this listening Unix socket
    #[arg(long, value_name = "SOCKET")]
    qmp: Option<PathBuf>,
    /// Print QEMU's command line and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// A TCP port of the host that leads to one of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Forward {
    host: u16,
    guest: u16,
}

fn parse_forward(text: &str) -> Result<Forward, String> {
    let parsed = text.split_once(':').and_then(|(host, guest)| {
        let (host, guest) = (host.parse().ok()?, guest.parse().ok()?);
        (host > 0 && guest > 0).then_some(Forward { host, guest })
    });
    parsed.ok_or_else(|| format!("{text:?} is not HOST:GUEST, like 8080:80"))
}

/// Replaces this process by QEMU. Comes back only with an error, or after a dry run.
pub fn run(args: RunArgs) -> Result<()> {
    check_image(&args.image)?;
    let near = args.image.parent().unwrap_or(Path::new("."));
    let board = match &args.board {
        Some(board) => Board::load(board, near)?,
        None => board_of(&args.image, near)?,
    };
    let Some(qemu) = &board.qemu else {
        bail!("QEMU cannot play the board {}: its board file has no [qemu]", board.name());
    };
    let firmware = match &args.firmware {
        Some(file) => file.clone(),
        None => PathBuf::from(named_firmware(&board, qemu)?.path.as_str()),
    };
    if !firmware.is_file() {
        let package = qemu.firmware.as_ref().map(|firmware| &firmware.package);
        let install = package.map(|package| format!("install the package {package}, or "));
        bail!(
            "the machine's firmware {} is not there; {}name another file with --firmware",
            firmware.display(),
            install.unwrap_or_default()
        );
    }
    check_firmware(&firmware)?;
    let memory = args.memory.unwrap_or(qemu.memory);
    ensure!(
        memory.0 >= LEAST_MEMORY,
        "--memory is {} bytes, and no image starts with less than 64M; write it like 512M or 1G",
        memory.0
    );
    let disk = args.disk.clone().unwrap_or_else(|| with_end(&args.image, ".disk"));
    check_what_is_written(&args, &disk)?;
    let emulator = format!("qemu-system-{}", board.debian.architecture.machine());
    let arguments = arguments(&args, board.debian.architecture, qemu, &firmware, &disk);
    if args.dry_run {
        println!("{emulator} {}", shown(&arguments));
        return Ok(());
    }
    prepare_disk(&args, &disk)?;
    if args.serial.is_none() {
        eprintln!("{}; Ctrl-A X leaves it, Ctrl-A H lists more keys", &*board.description);
    }
    let error = Command::new(&emulator).args(&arguments).exec();
    if error.kind() == std::io::ErrorKind::NotFound {
        let package = match board.debian.architecture {
            Architecture::Arm64 => "qemu-system-arm",
            Architecture::Amd64 => "qemu-system-x86",
        };
        bail!("{emulator} is not installed; install the package {package}");
    }
    Err(error).with_context(|| format!("{emulator} cannot be started"))
}

/// What plays the board's firmware.
fn named_firmware<'a>(board: &Board, qemu: &'a Qemu) -> Result<&'a Firmware> {
    qemu.firmware.as_ref().with_context(|| {
        format!(
            "QEMU has no firmware for the board {}: only the tests in qemu-tests/ boot it, and play its firmware themselves",
            board.name()
        )
    })
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Catches what is no firmware: QEMU would run it, hang, and say nothing.
fn check_firmware(firmware: &Path) -> Result<()> {
    let named = || format!("{} cannot be read", firmware.display());
    let bytes = fs::metadata(firmware).with_context(named)?.len();
    let mut start = Vec::new();
    let file = File::open(firmware).with_context(named)?;
    file.take(1024).read_to_end(&mut start).with_context(named)?;
    let is_text = std::str::from_utf8(&start).is_ok_and(|text| !text.contains('\0'));
    let is_disk = start.get(512..520) == Some(b"EFI PART");
    ensure!(
        bytes >= LEAST_FIRMWARE && !is_text && !is_disk,
        "{} is no firmware for this machine; leave --firmware out, or name the file of a firmware's package",
        firmware.display()
    );
    Ok(())
}

/// Catches the wrong file before QEMU boots into nothing.
fn check_image(image: &Path) -> Result<()> {
    let mut start = Vec::new();
    File::open(image)
        .and_then(|file| file.take(520).read_to_end(&mut start))
        .with_context(|| format!("{} cannot be read", image.display()))?;
    ensure!(
        start.get(512..520) == Some(b"EFI PART"),
        "{} is not a disk image (it has no GUID partition table); `imager build` makes .img files",
        image.display()
    );
    Ok(())
}

/// The board that is part of an image's name, NAME-BOARD-VERSION.img.
fn board_of(image: &Path, near: &Path) -> Result<Board> {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let boards = Board::all(near)?;
    let named = boards.iter().filter(|board| name.contains(&format!("-{board}-")));
    match named.max_by_key(|board| board.len()) {
        Some(board) => Board::load(board, near),
        None => bail!("the name {name} says no board; give --board (known: {})", boards.join(", ")),
    }
}

/// Catches what the machine must not write: the built image itself, and what is neither a disk nor
/// free for one.
fn check_what_is_written(args: &RunArgs, disk: &Path) -> Result<()> {
    outputs::check(disk, &DISK)?;
    for other in args.disk_before.iter().chain(&args.disk_behind) {
        ensure!(other.exists(), "{} is not there", other.display());
        outputs::check_kind(other, &DISK)?;
    }
    for path in args.disk_before.iter().chain(&args.disk_behind).map(PathBuf::as_path).chain([disk])
    {
        ensure!(
            !outputs::is_same_file(path, &args.image),
            "{} is the built image itself, which the machine would write: leave --disk out, and it gets a copy",
            path.display()
        );
    }
    match &args.variables {
        Some(variables) => outputs::check(variables, &UEFI_VARIABLES),
        None => Ok(()),
    }
}

/// Sees to it that the disk file is there, made from this image, and large enough.
fn prepare_disk(args: &RunArgs, disk: &Path) -> Result<()> {
    let made = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let old = args.disk.is_none()
        && made(disk).is_some_and(|at| made(&args.image).is_some_and(|img| img > at));
    if old {
        let aside = with_end(disk, ".old");
        outputs::check_kind(&aside, &DISK)?;
        fs::rename(disk, &aside)
            .with_context(|| format!("{} cannot be renamed", disk.display()))?;
        eprintln!(
            "the image is newer than its disk: starting afresh, the old disk is now {}",
            aside.display()
        );
    }
    if args.fresh || !disk.exists() {
        sparse::copy(&args.image, disk)?;
    }
    if let Some(size) = args.drive_size {
        let file = File::options()
            .write(true)
            .open(disk)
            .with_context(|| format!("{} cannot be written", disk.display()))?;
        let now = file.metadata().with_context(|| disk.display().to_string())?.len();
        if size.0 > now {
            file.set_len(size.0.next_multiple_of(512))
                .with_context(|| format!("{} cannot be made larger", disk.display()))?;
        }
    }
    Ok(())
}

/// QEMU's arguments.
fn arguments(
    args: &RunArgs,
    architecture: Architecture,
    qemu: &Qemu,
    firmware: &Path,
    disk: &Path,
) -> Vec<OsString> {
    let memory = args.memory.unwrap_or(qemu.memory).0 >> 20;
    let mut list: Vec<OsString> = Vec::new();
    let mut add = |words: &[OsString]| list.extend_from_slice(words);
    let text = |text: &str| OsString::from(text);
    let has_smm = args.variables.is_some() && architecture == Architecture::Amd64;
    let smm = if has_smm { ",smm=on" } else { "" };
    add(&[text("-machine"), format!("{}{smm}", &*qemu.machine).into()]);
    // Emulation is slower than KVM but the same everywhere, and no board's processor is the host's.
    add(&[text("-accel"), text("tcg"), text("-cpu"), text(&qemu.cpu)]);
    add(&[text("-smp"), qemu.processors.to_string().into()]);
    add(&[text("-m"), format!("{memory}M").into()]);
    match &args.variables {
        None => add(&[text("-bios"), firmware.into()]),
        Some(variables) => {
            if has_smm {
                let guarded = "driver=cfi.pflash01,property=secure,value=on";
                add(&[text("-global"), text(guarded)]);
            }
            let code = "if=pflash,unit=0,format=raw,readonly=on,file=";
            add(&[text("-drive"), option(code, firmware)]);
            add(&[text("-drive"), option("if=pflash,unit=1,format=raw,file=", variables)]);
        }
    }
    // writeback: what the guest wrote is in the host's page cache, so it survives a killed QEMU. They
    // come to lie on the bus in this order.
    let own = (String::from("disk"), disk, ",bootindex=0");
    let name = |place: &str, number: usize| format!("{place}-{number}");
    let before = args.disk_before.iter().enumerate();
    let before = before.map(|(number, file)| (name("before", number), file.as_path(), ""));
    let behind = args.disk_behind.iter().enumerate();
    let behind = behind.map(|(number, file)| (name("behind", number), file.as_path(), ""));
    for (id, file, order) in before.chain([own]).chain(behind) {
        let drive = format!("if=none,id={id},format=raw,cache=writeback,file=");
        add(&[text("-drive"), option(&drive, file)]);
        add(&[text("-device"), format!("virtio-blk-pci,drive={id}{order}").into()]);
    }
    let mut network = text("user,id=network");
    for forward in &args.forward {
        network.push(format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest));
    }
    add(&[text("-netdev"), network]);
    // No boot ROM: nothing boots from the network here, and its file is one more package.
    add(&[text("-device"), text("virtio-net-pci,netdev=network,romfile=")]);
    for device in &qemu.devices {
        add(&[text("-device"), text(device)]);
    }
    add(&[text("-action"), text("watchdog=reset"), text("-display"), text("none")]);
    match &args.serial {
        None => add(&[text("-serial"), text("mon:stdio")]),
        Some(socket) => {
            add(&[text("-chardev"), option("socket,id=console,path=", socket)]);
            add(&[text("-serial"), text("chardev:console"), text("-monitor"), text("none")]);
        }
    }
    if let Some(socket) = &args.qmp {
        add(&[text("-chardev"), option("socket,id=qmp,path=", socket)]);
        add(&[text("-mon"), text("chardev=qmp,mode=control")]);
    }
    list
}

/// An option that ends in a path; QEMU takes a doubled comma for a comma.
fn option(start: &str, path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = start.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

/// The arguments as a shell would take them.
fn shown(arguments: &[OsString]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,.:/+".contains(c);
    let words = arguments.iter().map(|word| {
        let word = word.to_string_lossy();
        if word.chars().all(plain) && !word.is_empty() {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn args(words: &[&str]) -> RunArgs {
        Line::try_parse_from([&["run", "x.img"], words].concat()).unwrap().run
    }

    fn command_line(words: &[&str], disk: &str) -> String {
        command_line_of("qemu-arm64", words, disk)
    }

    fn command_line_of(board: &str, words: &[&str], disk: &str) -> String {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        let board = Board::load(board, Path::new(folder)).unwrap();
        let qemu = board.qemu.as_ref().unwrap();
        let (processor, firmware) = (board.debian.architecture, Path::new("fw.bin"));
        shown(&arguments(&args(words), processor, qemu, firmware, Path::new(disk)))
    }

    #[test]
    fn options_become_qemus() {
        let line = command_line(&["--forward", "8080:80", "--memory", "1G"], "d.img");
        assert!(line.contains("hostfwd=tcp:127.0.0.1:8080-:80"), "{line}");
        assert!(line.contains("-m 1024M") && line.contains("-serial mon:stdio"), "{line}");
        assert!(
            line.contains("-device i6300esb") && line.contains("-action watchdog=reset"),
            "{line}"
        );
        let line = command_line(&["--serial", "/s", "--qmp", "/q"], "d.img");
        assert!(line.contains("socket,id=console,path=/s") && line.contains("path=/q"), "{line}");
        assert!(!line.contains("stdio"), "{line}");
    }

    #[test]
    fn firmware_with_variables_lies_in_flash_memory() {
        let words = ["--firmware", "fw.bin", "--variables", "v.fd"];
        let line = command_line_of("pc-x86_64", &words, "d.img");
        assert!(line.contains("-machine q35,smm=on ") && !line.contains("-bios"), "{line}");
        assert!(line.contains("property=secure,value=on"), "{line}");
        assert!(line.contains("unit=0,format=raw,readonly=on,file=fw.bin"), "{line}");
        assert!(line.contains("unit=1,format=raw,file=v.fd"), "{line}");
        let line = command_line_of("qemu-arm64-efi", &words, "d.img");
        assert!(line.contains("-machine virt ") && !line.contains("property=secure"), "{line}");
        assert!(command_line_of("pc-x86_64", &[], "d.img").contains("-machine q35 "));
    }

    #[test]
    fn disks_lie_on_the_bus_in_their_order() {
        let words = ["--disk-before", "b.img", "--disk-behind", "c.img", "--disk-behind", "d.img"];
        let line = command_line(&words, "a.img");
        let places: Vec<_> = ["b.img", "a.img", "c.img", "d.img"]
            .iter()
            .map(|file| line.find(&format!("cache=writeback,file={file} ")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{line}");
        assert!(line.contains("virtio-blk-pci,drive=disk,bootindex=0 "), "{line}");
        assert!(line.contains("virtio-blk-pci,drive=behind-1 "), "{line}");
    }

    #[test]
    fn a_comma_in_a_path_stays_part_of_it() {
        assert!(command_line(&[], "a,readonly=on").contains("file=a,,readonly=on"));
    }

    #[test]
    fn forwards_are_two_ports() {
        assert_eq!(parse_forward("8080:80"), Ok(Forward { host: 8080, guest: 80 }));
        for bad in ["8080", "8080:", "0:80", "x:80", "1:2:3", "65536:1"] {
            assert!(parse_forward(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_board_is_in_the_images_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        let near = Path::new(folder);
        let board = board_of(Path::new("out/demo-qemu-arm64-1.0.0.img"), near).unwrap();
        assert_eq!(board.name().as_str(), "qemu-arm64");
        let board = board_of(Path::new("out/demo-pc-x86_64-1.0.0.img"), near).unwrap();
        assert_eq!(board.name().as_str(), "pc-x86_64");
        let message = board_of(Path::new("disk.img"), near).unwrap_err().to_string();
        assert!(message.contains("--board"), "{message}");
    }

    #[test]
    fn the_disk_is_a_copy_that_outlives_the_run_and_may_grow() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x.img");
        let mut bytes = vec![0; 1 << 20];
        bytes[512..520].copy_from_slice(b"EFI PART");
        fs::write(&image, &bytes).unwrap();
        check_image(&image).unwrap();
        let disk = with_end(&image, ".disk");
        let mut args = args(&["--drive-size", "3M"]);
        args.image = image.clone();
        prepare_disk(&args, &disk).unwrap();
        let mut grown = fs::read(&disk).unwrap();
        assert_eq!((grown.len(), &grown[..1 << 20]), (3 << 20, &bytes[..]));
        grown[600] = 7;
        fs::write(&disk, &grown).unwrap();
        prepare_disk(&args, &disk).unwrap();
        assert_eq!(fs::read(&disk).unwrap()[600], 7);
        assert_eq!(fs::read(&image).unwrap(), bytes, "the image itself is never written");
        args.fresh = true;
        prepare_disk(&args, &disk).unwrap();
        assert_eq!(fs::read(&disk).unwrap()[600], 0);
    }

    #[test]
    fn what_is_no_image_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.img");
        for bytes in [&b""[..], &[1; 4096]] {
            fs::write(&file, bytes).unwrap();
            assert!(check_image(&file).unwrap_err().to_string().contains("not a disk image"));
        }
        assert!(check_image(&dir.path().join("none")).is_err());
    }
}
