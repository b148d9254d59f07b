//! `imager build`: from an image file and a board to a disk image and an update.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::assembly::slot_image::{Identity, SlotImage};
use crate::build::assemble::assemble;
use crate::build::golden::Golden;
use crate::build::own_outputs;
use crate::build::prepare::{self, BuildKeys};
use crate::build::programs;
use crate::build::write::Outputs;
use crate::config::{Board, Image};
use crate::sources;

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
    /// Default: $FERRITE_DEVICE, else the release's `lib/ferrite/device/ARCHITECTURE`, else what
    /// `./do device` (`./do device-amd64`) built in the checkout.
    #[arg(long)]
    device: Option<PathBuf>,
    /// Do not run the models' golden samples on this machine.
    #[arg(long)]
    skip_golden: bool,
    #[command(flatten)]
    sources: super::lock::SourceArgs,
}

/// Runs `imager build`.
pub fn run(args: BuildArgs) -> Result<()> {
    let start = Instant::now();
    let image = Image::load(&args.image)?;
    let board = Board::load(&args.board, args.image.parent().unwrap_or(Path::new(".")))?
        .with_sizes(&image.disk);
    image.secure_boot.check(&board)?;

    let outputs = Outputs::new(&args.out, &image, &board);
    outputs.check()?;
    own_outputs::refuse(&image, &args.out)?;

    // Prepare: all that the build depends on.
    let folder = programs::folder(args.device.as_deref(), board.debian.architecture)?;
    let keys = BuildKeys::load(&args.keys, &image, &board)?;
    let options = args.sources.options()?;
    let locked = sources::resolve_all(&image, &board, &options)?;
    let programs = programs::read(&folder, &board)?;
    let lock = locked.lock().text()?;
    let golden = Golden::choose(args.skip_golden)?;
    let stamp = prepare::stamp(&image, &board, &lock, &keys, &programs, &golden)?;
    image.warnings().iter().for_each(|warning| eprintln!("WARNING: {warning}"));
    if outputs.are_up_to_date(&stamp) {
        println!("{} is up to date", outputs.img.display());
        return Ok(());
    }

    // Assemble: the slot, its signature, and what lies beside it on the disk.
    let inputs = locked.fetch()?;
    eprintln!("building {} {} for {}", image.name, image.version, board.name());
    let parts = assemble(&image, &board, &keys, &programs, &inputs, &options.cache, &golden)?;

    // Write: disk image, update and bill of materials.
    let identity = Identity { image: &image, board: &board };
    outputs.write(&identity, &parts, &inputs, &programs, &stamp)?;
    report(&outputs, &parts.slot, &board, start);
    Ok(())
}

fn report(outputs: &Outputs, slot: &SlotImage, board: &Board, start: Instant) {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    println!("{}", outputs.img.display());
    println!("{} ({})", outputs.update.display(), mib(slot.stream.table.file_size()));
    println!("{}", outputs.sbom.display());
    println!(
        "root {} of {}, in {:.1} s",
        mib(slot.root_size),
        mib(board.partitions.root()),
        start.elapsed().as_secs_f64()
    );
    slot.nearly_full(board).iter().for_each(|warning| eprintln!("WARNING: {warning}"));
}
