//! `imager inspect`: what a file is, what is in it, who signed it, whether it verifies.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, Context, Result};
use clap::Args;
use serde::Serialize;
use sha2::{Digest, Sha256};
use slot::boot_state::{self, BootState, BLOB_SIZE};
use slot::gpt::{self, Gpt};
use slot::layout::{BOOT_STATE_OFFSETS, FIRMWARE, SECTOR};
use slot::manifest::{FileHash, Header, Manifest, TrustedKeys, HEADER_SIZE};
use slot::payload;
use slot::{hex, verity, Slot};

use crate::fs::fat_reader::FatVolume;
use crate::{keys, update_file};

/// Arguments of `imager inspect`.
#[derive(Args)]
#[command(after_help = "Examples:
  imager inspect out/demo-qemu-arm64-1.0.0.img
  imager inspect out/demo-qemu-arm64-1.0.0.update --keys keys/ --json

The signature is checked against `image.pub` of the keys folder. Exit code 0: all of it verifies;
1: something does not, or the file is neither an image nor an update.")]
pub struct InspectArgs {
    /// An .img or .update file.
    file: PathBuf,
    /// The folder with `image.pub`.
    #[arg(long, default_value = "keys")]
    keys: PathBuf,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was found in a file.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Report {
    /// A whole-disk image.
    Image { bytes: u64, partitions: Vec<PartitionReport>, boot: BootReport, slots: Vec<SlotReport> },
    /// An update.
    Update { bytes: u64, slot: SlotReport },
}

#[derive(Debug, Serialize)]
struct PartitionReport {
    label: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct BootReport {
    active: String,
    trial: Option<String>,
    fallback: Option<String>,
}

/// A slot's content and the verdicts on it.
#[derive(Debug, Serialize)]
struct SlotReport {
    /// `a` or `b`; absent for an update.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<String>,
    /// There is nothing in the slot.
    empty: bool,
    /// Ids of the keys that signed; not yet believed.
    signed_by: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<ManifestReport>,
    /// Nothing if all of it verifies, else the reasons why not.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ManifestReport {
    board: String,
    name: String,
    version: String,
    sequence: u64,
    floor: u64,
    root_bytes: u64,
    root_verity_hash: String,
    boot_bytes: u64,
    boot_files: Vec<FileReport>,
    models: Vec<FileReport>,
}

#[derive(Debug, Serialize)]
struct FileReport {
    name: String,
    bytes: u64,
    sha256: String,
}

/// Runs `imager inspect`.
pub fn run(args: InspectArgs) -> Result<()> {
    let path = &args.file;
    let file = File::open(path).with_context(|| format!("{}: cannot be opened", path.display()))?;
    let bytes = file.metadata().with_context(|| format!("{}", path.display()))?.len();
    let trusted = keys::trusted_image_keys(&args.keys)
        .context("name the folder of the keys the file should be signed with: --keys DIR")?;
    let mut magic = [0; 8];
    let readable = file.read_exact_at(&mut magic, 0).is_ok();
    let named = |error: anyhow::Error| not_ours(path, &format!("{error:#}"));
    let report = if readable && &magic == b"FERRSLOT" {
        Report::Update { bytes, slot: update(path, &file, &trusted).map_err(named)? }
    } else {
        let table = gpt::read(bytes / SECTOR, |at, out| file.read_exact_at(out, at))
            .map_err(|e| not_ours(path, &e.to_string()))?;
        image(&file, bytes, &table, &trusted).map_err(named)?
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(path, &report);
    }
    let problems = report.slots().iter().map(|slot| slot.problems.len()).sum::<usize>();
    if problems > 0 {
        bail!("{} does not verify", path.display());
    }
    Ok(())
}

fn not_ours(path: &Path, why: &str) -> anyhow::Error {
    anyhow!("{} is neither a Ferrite image nor an update: {why}", path.display())
}

impl Report {
    fn slots(&self) -> &[SlotReport] {
        match self {
            Report::Image { slots, .. } => slots,
            Report::Update { slot, .. } => std::slice::from_ref(slot),
        }
    }
}

fn image(file: &File, bytes: u64, table: &Gpt, keys: &TrustedKeys) -> Result<Report> {
    let partitions = table
        .partitions
        .iter()
        .map(|p| PartitionReport { label: p.label.clone(), bytes: p.bytes().end - p.bytes().start })
        .collect();
    let state = read_boot_state(file, table)?;
    let letter = |slot: Slot| slot.letter().to_owned();
    let boot = BootReport {
        active: letter(state.active),
        trial: state.trial.map(letter),
        fallback: state.fallback.map(letter),
    };
    let slots =
        [Slot::A, Slot::B].map(|slot| slot_on_disk(file, table, slot, slot == state.active, keys));
    Ok(Report::Image { bytes, partitions, boot, slots: slots.into_iter().collect::<Result<_>>()? })
}

fn read_boot_state(file: &File, table: &Gpt) -> Result<BootState> {
    let start = table.find(FIRMWARE).map_err(|e| anyhow!(e))?.bytes().start;
    let mut copies = [[0; BLOB_SIZE]; 2];
    for (copy, offset) in copies.iter_mut().zip(BOOT_STATE_OFFSETS) {
        file.read_exact_at(copy, start + offset).context("the boot state cannot be read")?;
    }
    let [a, b] = &copies;
    boot_state::newest([a, b]).map(|(_, state)| state).context("neither boot state copy is valid")
}

fn slot_on_disk(
    file: &File,
    table: &Gpt,
    slot: Slot,
    must_be_there: bool,
    keys: &TrustedKeys,
) -> Result<SlotReport> {
    let root = table.find(slot.root_label()).map_err(|e| anyhow!(e))?.bytes();
    let boot = table.find(slot.boot_label()).map_err(|e| anyhow!(e))?.bytes();
    let at = payload::header_offset(root.end - root.start).map_err(|e| anyhow!(e))?;
    let header = read_at(file, root.start + at, HEADER_SIZE as u64)?;
    let mut report = header_report(&header, keys, Some(slot));
    if header.iter().all(|byte| *byte == 0) && !must_be_there {
        report.empty = true;
        report.problems.clear();
        return Ok(report);
    }
    if let Ok(manifest) = Header::new(&header).and_then(|h| h.verify(keys)) {
        let rest = update_file::check_rest_of_header(&header);
        report.problems.extend(rest.err().map(|e| e.to_string()));
        let fits = payload::check_fits(&manifest, boot.end - boot.start, root.end - root.start);
        if let Err(e) = fits {
            report.problems.push(e.to_string());
            return Ok(report);
        }
        let root_bytes = read_at(file, root.start, manifest.root_size + manifest.root_hash_size)?;
        let boot_bytes = read_at(file, boot.start, manifest.boot_size)?;
        report.problems.extend(image_problems(&manifest, &root_bytes, &boot_bytes));
    }
    Ok(report)
}

/// What is wrong with the images of a slot whose manifest holds.
fn image_problems(manifest: &Manifest, root: &[u8], boot: &[u8]) -> Vec<String> {
    let mut problems = Vec::new();
    let (data, tree) = root.split_at(manifest.root_size as usize);
    let expected = verity::build(data, &manifest.root_verity_salt);
    if expected.root_hash != manifest.root_verity_hash || expected.bytes != tree {
        problems.push("the root does not match its verity root hash".to_owned());
    }
    for file in &manifest.boot_files {
        let found = FatVolume::open(boot).and_then(|volume| volume.read(&file.name));
        match found {
            Ok(Some(bytes)) if Sha256::digest(&bytes)[..] == file.sha256 => {}
            Ok(None) => problems.push(format!("boot file {} is missing", file.name)),
            Ok(Some(_)) => problems.push(format!("boot file {} is not the signed one", file.name)),
            Err(e) => problems.push(format!("boot file {}: {e:#}", file.name)),
        }
    }
    problems
}

fn update(path: &Path, file: &File, keys: &TrustedKeys) -> Result<SlotReport> {
    let header = read_at(file, 0, HEADER_SIZE as u64)?;
    let mut report = header_report(&header, keys, None);
    if report.manifest.is_some() {
        let verdict = update_file::verify(path, keys);
        report.problems.extend(verdict.err().map(|e| format!("{e:#}")));
    }
    Ok(report)
}

fn read_at(file: &File, offset: u64, length: u64) -> Result<Vec<u8>> {
    let end = offset.checked_add(length).context("a length is out of bounds")?;
    if end > file.metadata()?.len() {
        bail!("the file is truncated: it ends before byte {end}");
    }
    let mut bytes = vec![0; usize::try_from(length)?];
    file.read_exact_at(&mut bytes, offset).context("the file cannot be read")?;
    Ok(bytes)
}

fn header_report(bytes: &[u8], keys: &TrustedKeys, slot: Option<Slot>) -> SlotReport {
    let header = Header::new(bytes);
    let signed_by =
        header.iter().flat_map(Header::signatures).map(|(id, _)| hex::encode(&id)).collect();
    let verdict = header.and_then(|h| h.verify(keys));
    SlotReport {
        slot: slot.map(|slot| slot.letter().to_owned()),
        empty: false,
        signed_by,
        problems: verdict.as_ref().err().map(ToString::to_string).into_iter().collect(),
        manifest: verdict.ok().map(manifest_report),
    }
}

fn manifest_report(manifest: Manifest) -> ManifestReport {
    let files = |files: Vec<FileHash>| {
        files
            .into_iter()
            .map(|f| FileReport { name: f.name, bytes: f.size, sha256: hex::encode(&f.sha256) })
            .collect()
    };
    ManifestReport {
        board: manifest.board,
        name: manifest.name,
        version: manifest.version,
        sequence: manifest.sequence,
        floor: manifest.floor,
        root_bytes: manifest.root_size,
        root_verity_hash: hex::encode(&manifest.root_verity_hash),
        boot_bytes: manifest.boot_size,
        boot_files: files(manifest.boot_files),
        models: files(manifest.models),
    }
}

fn print(path: &Path, report: &Report) {
    match report {
        Report::Image { bytes, partitions, boot, slots } => {
            println!("{}: Ferrite disk image, {bytes} bytes", path.display());
            for p in partitions {
                println!("  partition {:<9} {:>6} MiB", p.label, p.bytes >> 20);
            }
            println!("  boots slot {}", boot.active);
            slots.iter().for_each(print_slot);
        }
        Report::Update { bytes, slot } => {
            println!("{}: Ferrite update, {bytes} bytes", path.display());
            print_slot(slot);
        }
    }
}

fn print_slot(report: &SlotReport) {
    let title = report.slot.as_ref().map_or("payload".to_owned(), |slot| format!("slot {slot}"));
    if report.empty {
        println!("{title}: empty");
        return;
    }
    println!("{title}: signed by {}", report.signed_by.join(", "));
    if let Some(m) = &report.manifest {
        println!(
            "  {} {} (sequence {}, floor {}) for {}",
            m.name, m.version, m.sequence, m.floor, m.board
        );
        println!("  root {} bytes, verity root hash {}", m.root_bytes, m.root_verity_hash);
        println!("  boot {} bytes", m.boot_bytes);
        for (kind, files) in [("boot file", &m.boot_files), ("model", &m.models)] {
            for f in files {
                println!("  {kind} {} {} bytes sha256 {}", f.name, f.bytes, f.sha256);
            }
        }
    }
    if report.problems.is_empty() {
        println!("  verifies: signature, hashes, every block");
    }
    for problem in &report.problems {
        println!("  DOES NOT VERIFY: {problem}");
    }
}
