//! `imager inspect`: what a file is, what is in it, who signed it, whether it verifies.

mod published;
mod secure_boot;
mod shell;
mod steering;
mod unified;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use formats::boot_state::{self, BLOB_SIZE, BootState};
use formats::gpt::{self, Gpt};
use formats::layout::{BOOT_STATE_OFFSETS, FIRMWARE, SECTOR};
use formats::manifest::{FileHash, HEADER_SIZE, Header, Manifest, TrustedKeys};
use formats::payload;
use formats::{Slot, hex, verity};
use publisher::{keys, update_file};
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::secure_boot::SecureBootReport;
use self::shell::ShellReport;
use self::steering::Steering;
use self::unified::UnifiedReport;
use imagefs::fat_reader::FatVolume;

/// Arguments of `imager inspect`.
#[derive(Args)]
#[command(after_help = "Examples:
  imager inspect out/demo-qemu-arm64-1.0.0.img
  imager inspect out/demo-qemu-arm64-1.0.0.update --keys keys/ --json
  imager inspect demo.bundle

The signature is checked against `image.pub` of the keys folder, a bundle's metadata against its
`root.json`. A .delta and a .index have no signature of their own: they are checked for being whole.
Exit code 0: all of it verifies; 1: something does not, or the file is none of these.")]
pub struct InspectArgs {
    /// An .img, .update, .bundle, .delta or .index file.
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
    /// An update with its metadata.
    Bundle { bytes: u64, files: Vec<String>, until: String, slot: SlotReport },
    /// What turns one version into another.
    Delta {
        bytes: u64,
        head_bytes: u64,
        old_bytes: u64,
        new_bytes: u64,
        groups: usize,
        groups_elsewhere: usize,
        problems: Vec<String>,
    },
    /// The short hashes of an update's blocks.
    Index { bytes: u64, covered: u64, blocks: usize, zero_blocks: usize },
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
    /// Of a slot on a disk that verifies.
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<ShellReport>,
    /// Of a slot on a disk that verifies: workloads of the image's own that steer the device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steering: Vec<Steering>,
    /// Of a slot on a disk whose boot files are a signed RAM disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_boot: Option<SecureBootReport>,
    /// Of a slot on a disk that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    unified_kernel_image: Option<UnifiedReport>,
    /// Nothing if all of it verifies, else the reasons why not.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ManifestReport {
    board: String,
    name: String,
    version: String,
    sequence: u64,
    #[serde(rename = "floor")]
    rollback_floor: u64,
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
    let mut start = [0; 512];
    let length = start.len().min(bytes as usize);
    file.read_exact_at(&mut start[..length], 0).map_err(|e| not_ours(path, &e.to_string()))?;
    let named = |error: anyhow::Error| not_ours(path, &format!("{error:#}"));
    let report = if start.starts_with(formats::manifest::MAGIC) {
        Report::Update { bytes, slot: update(path, &file, &trusted).map_err(named)? }
    } else if start.starts_with(b"FERRDLTA") {
        published::delta(path).map_err(named)?
    } else if start.starts_with(b"FERRINDX") {
        published::index(path).map_err(named)?
    } else if published::is_archive(&start) {
        let read = |at: &Path, keys: &TrustedKeys| update(at, &File::open(at)?, keys);
        published::bundle(path, &args.keys, &trusted, read).map_err(named)?
    } else {
        let table = gpt::read(bytes / SECTOR, |at, out| file.read_exact_at(out, at))
            .map_err(|e| not_ours(path, &e.to_string()))?;
        image(&file, bytes, &table, (&trusted, &args.keys)).map_err(named)?
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(path, &report);
    }
    if report.has_problems() {
        bail!("{} does not verify", path.display());
    }
    Ok(())
}

fn not_ours(path: &Path, why: &str) -> anyhow::Error {
    anyhow!(
        "{} is no Ferrite image, update, bundle, delta or index, or a damaged one: {why}",
        path.display()
    )
}

impl Report {
    fn has_problems(&self) -> bool {
        match self {
            Report::Image { slots, .. } => slots.iter().any(|slot| !slot.problems.is_empty()),
            Report::Update { slot, .. } | Report::Bundle { slot, .. } => !slot.problems.is_empty(),
            Report::Delta { problems, .. } => !problems.is_empty(),
            // One that is not whole is no index at all.
            Report::Index { .. } => false,
        }
    }
}

fn image(file: &File, bytes: u64, table: &Gpt, keys: (&TrustedKeys, &Path)) -> Result<Report> {
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
    (keys, folder): (&TrustedKeys, &Path),
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
        match SecureBootReport::of(&boot_bytes, folder) {
            Ok(secure_boot) => report.secure_boot = secure_boot,
            Err(e) => report.problems.push(format!("{e:#}")),
        }
        match UnifiedReport::of(&boot_bytes) {
            Ok(unified) => report.unified_kernel_image = unified,
            Err(e) => report.problems.push(format!("{e:#}")),
        }
        if report.problems.is_empty() {
            match ShellReport::of(&root_bytes[..manifest.root_size as usize]) {
                Ok(shell) => report.shell = Some(shell),
                Err(e) => report.problems.push(format!("{e:#}")),
            }
            match Steering::of(&root_bytes[..manifest.root_size as usize]) {
                Ok(steering) => report.steering = steering,
                Err(e) => report.problems.push(format!("{e:#}")),
            }
        }
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
        shell: None,
        steering: vec![],
        secure_boot: None,
        unified_kernel_image: None,
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
        rollback_floor: manifest.rollback_floor,
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
        Report::Bundle { bytes, files, until, slot } => {
            println!("{}: Ferrite bundle, {bytes} bytes, good until {until}", path.display());
            files.iter().for_each(|file| println!("  {file}"));
            print_slot(slot);
        }
        Report::Delta {
            bytes,
            head_bytes,
            old_bytes,
            new_bytes,
            groups,
            groups_elsewhere,
            problems,
        } => {
            println!("{}: Ferrite delta, {bytes} bytes, {head_bytes} of them head", path.display());
            println!("  from {old_bytes} to {new_bytes} bytes");
            println!("  {groups} groups, {groups_elsewhere} of them left to the update");
            if problems.is_empty() {
                println!("  whole: every frame is the one its head names");
            }
            problems.iter().for_each(|problem| println!("  DOES NOT VERIFY: {problem}"));
        }
        Report::Index { bytes, covered, blocks, zero_blocks } => {
            println!("{}: Ferrite block index, {bytes} bytes", path.display());
            println!("  of {covered} bytes: {blocks} blocks, {zero_blocks} of them zeros");
            println!("  whole: its length follows from what it covers");
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
            m.name, m.version, m.sequence, m.rollback_floor, m.board
        );
        println!("  root {} bytes, verity root hash {}", m.root_bytes, m.root_verity_hash);
        println!("  boot {} bytes", m.boot_bytes);
        for (kind, files) in [("boot file", &m.boot_files), ("model", &m.models)] {
            for f in files {
                println!("  {kind} {} {} bytes sha256 {}", f.name, f.bytes, f.sha256);
            }
        }
    }
    if let Some(secure_boot) = &report.secure_boot {
        secure_boot.lines().iter().for_each(|line| println!("  {line}"));
    }
    if let Some(unified) = &report.unified_kernel_image {
        println!("  {}", unified.in_words());
    }
    if let Some(shell) = &report.shell {
        println!("  {}", shell.text());
    }
    report.steering.iter().for_each(|steering| println!("  {}", steering.warning));
    if report.problems.is_empty() {
        println!("  verifies: signature, hashes, every block");
    }
    for problem in &report.problems {
        println!("  DOES NOT VERIFY: {problem}");
    }
}
