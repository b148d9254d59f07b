//! `imager build`: from an image file and a board to a disk image and an update.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use atomic_file::NewFile;
use clap::Args;
use debian::hash::Sha256;
use publisher::boot_key::BootKey;
use publisher::{keys, secure_boot_keys};
use uefi_image::Signer;

use super::stamp::{self, Stamp};
use crate::assembly::root::{DeviceBinaries, DeviceKeys};
use crate::assembly::slot_image::{self, Identity};
use crate::assembly::{device_conf, disk_image, elf, initramfs, kernel, root};
use crate::chooser;
use crate::chooser::efi;
use crate::chooser::rpi::ramdisk;
use crate::config::board::{Architecture, Chooser};
use crate::config::{Board, Image};
use crate::sources::Inputs;
use crate::sources::{self, sbom};
use imagefs::tree::Tree;
use imagefs::{ext4, fat};

/// Arguments of `imager build`.
#[derive(Args)]
#[command(after_help = "Examples:
  imager build --image demo/demo.toml --board qemu-arm64 --out out
  imager build --image demo/demo.toml --board qemu-arm64 --out out --locked

It writes NAME-BOARD-VERSION.img (for a disk), .update (for devices that run) and .spdx.json (what
is in it). Nothing is written under these names before it is whole.")]
pub struct BuildArgs {
    /// The image file.
    #[arg(long)]
    image: PathBuf,
    /// The board's name, or the path of a board file.
    #[arg(long)]
    board: String,
    /// The folder for what is built.
    #[arg(long)]
    out: PathBuf,
    /// The folder with the keys that `imager keygen` made. Every image.key and image-*.key in it
    /// signs, every image.pub and image-*.pub is carried and trusted by the device.
    #[arg(long, default_value = "keys")]
    keys: PathBuf,
    /// The folder with the device's programs `init`, `ota` and `runner`, built for the board.
    /// Default: $FERRITE_DEVICE, else the folder `device` (`device-amd64` for a board with such a
    /// processor) beside the one imager lies in.
    #[arg(long)]
    device: Option<PathBuf>,
    #[command(flatten)]
    sources: super::lock::SourceArgs,
}

/// Runs `imager build`.
pub fn run(args: BuildArgs) -> Result<()> {
    let start = Instant::now();
    let image = Image::load(&args.image)?;
    let near = args.image.parent().unwrap_or(Path::new("."));
    let board = Board::load(&args.board, near)?;
    image.secure_boot.check(&board)?;
    let device = device_folder(args.device.as_deref(), board.debian.architecture)?;
    let boot_signer = BootSigner::load(&image, &args.keys)?;
    let signing = keys::image_signing(&args.keys)?;
    let secure_boot = match board.boot.chooser {
        Chooser::Efi => secure_boot_keys::signer(&args.keys)?,
        _ => None,
    };
    let carried: Vec<String> =
        keys::image_public(&args.keys)?.iter().map(keys::public_hex).collect();
    let tuf_root = keys::tuf_root(&args.keys)?;
    let options = args.sources.options()?;

    let locked = sources::resolve_all(&image, &board, &options)?;
    let outputs = Outputs::new(&args.out, &image, &board);
    let binaries = read_binaries(&device, &board)?;
    let signers: Vec<String> =
        signing.iter().map(|key| keys::public_hex(&key.verifying_key())).collect();
    let mut stamp = Stamp::new();
    stamp.add_file(image.path())?;
    stamp.add_file(board.path())?;
    stamp.add_bytes("lock", locked.lock().text()?.as_bytes());
    stamp.add_bytes("init", &binaries.init);
    stamp.add_bytes("ota", &binaries.ota);
    stamp.add_bytes("runner", &binaries.runner);
    stamp.add_bytes("efi chooser", binaries.efi_bootchooser.as_deref().unwrap_or_default());
    stamp.add_bytes("signing keys", signers.join(" ").as_bytes());
    stamp.add_bytes("carried keys", carried.join(" ").as_bytes());
    let secured = secure_boot.as_ref().map(Signer::certificate_der).transpose()?;
    stamp.add_bytes("secure boot", secured.as_deref().unwrap_or_default());
    stamp.add_bytes("tuf root", &tuf_root);
    if let Some(signer) = &boot_signer {
        stamp.add_bytes("boot key", signer.key.public().pem()?.as_bytes());
        stamp.add_bytes("boot time", &signer.time.to_le_bytes());
    }
    stamp.add_self()?;
    let stamp = stamp.finish();
    image.warnings().iter().for_each(|warning| eprintln!("WARNING: {warning}"));
    if stamp::matches(&outputs.stamp, &stamp, &outputs.files()) {
        println!("{} is up to date", outputs.img.display());
        return Ok(());
    }

    let inputs = locked.fetch()?;
    let device_keys = DeviceKeys { manifest: carried, tuf_root };
    eprintln!("building {} {} for {}", image.name, image.version, board.name());
    let kernel = kernel::extract(&inputs.kernel_contents(), &board, &image)?;
    let root = root::build(&image, &board, &inputs, &binaries, &device_keys, &kernel)?;
    let boot_conf = device_conf::boot_conf(&board, &kernel, &device_keys.manifest).to_text();
    let modules = kernel.chooser.iter().chain(&kernel.initrd).chain(&kernel.later).flatten();
    let initrd = initramfs::build(&binaries.init, &boot_conf, modules)?;
    let identity = Identity { image: &image, board: &board };
    let mut firmware = chooser::board_firmware(&board, inputs.board_firmware.as_ref())?;
    let program = binaries.efi_bootchooser.as_deref().map(|bytes| (bytes, secure_boot.as_ref()));
    let firmware_files = chooser::firmware_files(&board, &firmware, program)?;
    firmware.loader.clear();
    let volume_id = slot_image::boot_volume_id(&identity);
    let quotas = kernel.quotas;
    let mut boot_files = chooser::slot_files(
        &board,
        chooser::SlotFiles {
            kernel: kernel.image,
            initrd,
            device_trees: kernel.device_trees,
            firmware,
            volume_id,
            efi: efi_parts(&board, &image, &inputs, secure_boot)?,
        },
    )?;
    if let Some(BootSigner { key, time }) = &boot_signer {
        boot_files = ramdisk::signed(boot_files, volume_id, *time, key)?;
    }
    let slot =
        slot_image::build(&image, &board, root, &tree(boot_files)?, &signing, &options.cache)?;

    fs::create_dir_all(&args.out)
        .with_context(|| format!("{}: cannot be made", args.out.display()))?;
    let firmware_files = tree(firmware_files)?;
    let img =
        write_new(&outputs.img, |file| write_img(file, &identity, &firmware_files, &slot, quotas))?;
    let update = write_new(&outputs.update, |file| {
        let mut out = BufWriter::new(file);
        slot.stream.write(&slot.header, &mut out)?;
        out.flush().map_err(Into::into)
    })?;
    let sbom = write_new(&outputs.sbom, |file| {
        let text = sbom::spdx(&image, &board, &inputs, &programs(&binaries), 0)?;
        file.write_all(text.as_bytes()).map_err(Into::into)
    })?;
    let _ = fs::remove_file(&outputs.stamp);
    for new in [img, update, sbom] {
        new.persist()?;
    }
    stamp::write(&outputs.stamp, &stamp, &outputs.files())?;
    report(&outputs, &slot, start);
    Ok(())
}

/// Who signs a slot's boot files for the board's own loader, and the time that the signature tells.
struct BootSigner {
    key: BootKey,
    time: u64,
}

impl BootSigner {
    /// The one that the image file asks for, if it does.
    fn load(image: &Image, keys: &Path) -> Result<Option<BootSigner>> {
        if !image.secure_boot.raspberry_pi {
            return Ok(None);
        }
        Ok(Some(BootSigner { key: BootKey::load(keys)?, time: ramdisk::time()? }))
    }
}

/// What goes into a unified kernel image beside kernel and initramfs.
fn efi_parts(
    board: &Board,
    image: &Image,
    inputs: &Inputs,
    signer: Option<Signer>,
) -> Result<Option<efi::Parts>> {
    if board.boot.chooser != Chooser::Efi {
        return Ok(None);
    }
    let (name, version) = (&image.name, &image.version);
    let os_release = format!(
        "ID=ferrite\nNAME=Ferrite\nPRETTY_NAME=\"{name} {version}\"\nVERSION_ID={version}\n"
    );
    Ok(Some(efi::Parts { stub: efi::stub(board, inputs.stub.as_ref())?, os_release, signer }))
}

fn report(outputs: &Outputs, slot: &slot_image::SlotImage, start: Instant) {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    println!("{}", outputs.img.display());
    println!("{} ({})", outputs.update.display(), mib(slot.stream.table.file_size()));
    println!("{}", outputs.sbom.display());
    println!("root {}, in {:.1} s", mib(slot.root_size), start.elapsed().as_secs_f64());
}

/// The names of what a build writes.
struct Outputs {
    img: PathBuf,
    update: PathBuf,
    sbom: PathBuf,
    stamp: PathBuf,
}

impl Outputs {
    fn new(folder: &Path, image: &Image, board: &Board) -> Outputs {
        let name = |end: &str| {
            folder.join(format!("{}-{}-{}{end}", image.name, board.name(), image.version))
        };
        Outputs {
            img: name(".img"),
            update: name(".update"),
            sbom: name(".spdx.json"),
            stamp: name(".stamp"),
        }
    }

    fn files(&self) -> [&Path; 3] {
        [&self.img, &self.update, &self.sbom]
    }
}

/// Where the device's programs lie.
fn device_folder(given: Option<&Path>, architecture: Architecture) -> Result<PathBuf> {
    if let Some(folder) = given {
        return Ok(folder.to_owned());
    }
    if let Some(folder) = std::env::var_os("FERRITE_DEVICE") {
        return Ok(folder.into());
    }
    let own = std::env::current_exe().context("cannot find where imager lies")?;
    let name = match architecture {
        Architecture::Arm64 => "device",
        Architecture::Amd64 => "device-amd64",
    };
    let folder = own.parent().and_then(Path::parent).map(|above| above.join(name));
    folder.filter(|folder| folder.is_dir()).with_context(|| {
        format!(
            "the device's programs are not where they are looked for; build them with `{}`, or name their folder with --device",
            to_build(architecture)
        )
    })
}

/// The command that builds the device's programs.
fn to_build(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Arm64 => "./do device",
        Architecture::Amd64 => "./do device-amd64",
    }
}

fn read_binaries(folder: &Path, board: &Board) -> Result<DeviceBinaries> {
    let architecture = board.debian.architecture;
    let read = |name: &str, magic: &[u8], kind: &str| {
        let path = folder.join(name);
        let bytes = fs::read(&path).with_context(|| {
            format!(
                "{}: cannot be read; build the device's programs with `{}`",
                path.display(),
                to_build(architecture)
            )
        })?;
        if !bytes.starts_with(magic) {
            bail!("{}: is not a {kind} program", path.display());
        }
        Ok(bytes)
    };
    let linux = |name: &str| {
        let bytes = read(name, b"\x7FELF", "Linux")?;
        if elf::machine(&bytes) != Some(architecture.elf_machine()) {
            bail!(
                "{}: is for another processor than the board's ({}); build it with `{}`",
                folder.join(name).display(),
                architecture.as_str(),
                to_build(architecture)
            );
        }
        Ok(bytes)
    };
    let is_efi = board.boot.chooser == Chooser::Efi;
    let chooser = architecture.uefi().boot_program();
    Ok(DeviceBinaries {
        init: linux("init")?,
        ota: linux("ota")?,
        runner: linux("runner")?,
        efi_bootchooser: is_efi.then(|| read(chooser, b"MZ", "UEFI")).transpose()?,
    })
}

/// The device's programs as the bill of materials names them.
fn programs(binaries: &DeviceBinaries) -> Vec<sbom::Program> {
    let program = |name: &str, bytes: &[u8]| sbom::Program {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sha256: Sha256::of(bytes),
    };
    let mut all = vec![
        program("init", &binaries.init),
        program("ota", &binaries.ota),
        program("runner", &binaries.runner),
    ];
    all.extend(binaries.efi_bootchooser.as_ref().map(|bytes| program("efi-bootchooser", bytes)));
    all
}

fn tree(files: Vec<(String, Vec<u8>)>) -> Result<Tree> {
    let mut tree = Tree::new(0);
    for (name, bytes) in files {
        tree.file(&name, 0o644, bytes)?;
    }
    Ok(tree)
}

fn write_img(
    file: &mut File,
    identity: &Identity,
    firmware_files: &Tree,
    slot: &slot_image::SlotImage,
    quotas: bool,
) -> Result<()> {
    let board = identity.board;
    let [a, b, c, d, ..] = identity.hash("firmware");
    let options = fat::Options {
        size: board.partitions.firmware(),
        reserved_sectors: formats::layout::FIRMWARE_RESERVED_SECTORS,
        // A write to autoboot.txt, which may tear a block of the medium, touches no other file.
        file_alignment: formats::layout::BLOCK as usize,
        volume_id: u32::from_le_bytes([a, b, c, d]),
        label: *b"FIRMWARE   ",
    };
    let mut firmware = Vec::new();
    fat::write(firmware_files, &options, &mut firmware)?;
    let options = ext4::Options {
        size: board.partitions.data(),
        uuid: identity.bytes("data"),
        label: formats::layout::DATA.to_owned(),
        time: 0,
        quotas,
    };
    let mut data = std::io::Cursor::new(vec![0; board.partitions.data() as usize]);
    ext4::write(&options, &mut data)?;
    let table = disk_image::table(board, &identity.hash("disk"));
    let contents = disk_image::Contents {
        firmware: &firmware,
        boot: &slot.boot,
        root: &slot.root,
        header: &slot.header,
        data: data.get_ref(),
    };
    disk_image::write(file, &table, board.partitions.mbr, &contents)
}

/// Writes a file that gets its name when it is persisted.
fn write_new(name: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<NewFile> {
    let cannot = || format!("{}: cannot be written; is the disk full?", name.display());
    let mut new = NewFile::new(name)?;
    write(new.file()).with_context(cannot)?;
    new.finish().with_context(cannot)?;
    Ok(new)
}
