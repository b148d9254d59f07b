//! `imager check`: everything that is wrong with a project, in one go and without the network.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use debian::cache::Cache;
use publisher::keys;

use crate::assembly::at_hand;
use crate::build::programs;
use crate::config::{Board, Image, every_finding, image_file};
use crate::sources::local::LocalFile;
use crate::sources::lock::{self, Lock};
use crate::sources::what_is_missing;

/// What a project is looked at for where nothing names a board.
const FIRST_BOARD: &str = "qemu-arm64";

/// Arguments of `imager check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  imager check
  imager check --image product.toml --board rpi4

It looks at the image file, the board file, the files that they name, the keys and the lock, and
fetches nothing. Exit codes: 0 all is well, 1 something is wrong.")]
pub struct CheckArgs {
    /// The image file; else the only one in the current folder
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A board, by name or as a path to its file; may be repeated. Else those in the lock
    #[arg(long, value_name = "BOARD")]
    board: Vec<String>,
    /// The folder with the keys that `imager keygen` made
    #[arg(long, value_name = "DIR", default_value = "keys")]
    keys: PathBuf,
}

/// Runs `imager check`.
pub fn run(args: CheckArgs) -> Result<()> {
    let path = image_file::named_or_only(args.image.clone())?;
    let mut findings = Vec::new();
    let image = image_file(&path, &mut findings);
    let boards = boards(&path, &args.board, &mut findings);
    keys_folder(&args.keys, &mut findings);
    if let Some(image) = &image {
        let before = findings.len();
        let files = what_is_missing::files(image, &mut findings);
        let whole = findings.len() == before;
        for board in &boards {
            of_board(image, board, &args.keys, &mut findings);
            if whole {
                own_files(image, board, &files, &mut findings);
            }
        }
    }
    let mut seen = Vec::new();
    findings.retain(|finding| {
        !seen.contains(finding) && {
            seen.push(finding.clone());
            true
        }
    });
    findings.iter().for_each(|finding| println!("{finding}"));
    match (findings.len(), image) {
        (0, Some(image)) => {
            let names: Vec<&str> = boards.iter().map(|board| board.name().as_str()).collect();
            println!(
                "{}: {} {} is well, for {}",
                path.display(),
                image.name,
                image.version,
                names.join(", ")
            );
            Ok(())
        }
        (1, _) => bail!("{}: one thing is wrong", path.display()),
        (number, _) => bail!("{}: {number} things are wrong", path.display()),
    }
}

fn image_file(path: &Path, findings: &mut Vec<String>) -> Option<Image> {
    match every_finding::read(path) {
        Ok((image, found)) => {
            findings.extend(found);
            image
        }
        Err(error) => {
            findings.push(format!("{error:#}"));
            None
        }
    }
}

/// The boards that were asked for, else those that the lock has.
fn boards(image: &Path, named: &[String], findings: &mut Vec<String>) -> Vec<Board> {
    let locked = || {
        let lock = Lock::read(&lock::path_for(image)).unwrap_or_default();
        let names: Vec<String> = lock.boards.into_iter().map(|board| board.name).collect();
        if names.is_empty() { vec![FIRST_BOARD.to_owned()] } else { names }
    };
    let names = if named.is_empty() { locked() } else { named.to_vec() };
    let near = image.parent().unwrap_or(Path::new("."));
    let load = |name: &String| Board::load(name, near).map_err(|e| findings.push(format!("{e:#}")));
    names.iter().map(load).filter_map(Result::ok).collect()
}

fn keys_folder(folder: &Path, findings: &mut Vec<String>) {
    if !folder.is_dir() {
        findings.push(format!(
            "{}: there are no keys; make them once with `imager keygen --out {}`",
            folder.display(),
            folder.display()
        ));
        return;
    }
    let wrong = [
        keys::image_signing(folder).err(),
        keys::image_public(folder).err(),
        keys::tuf_root(folder).err(),
    ];
    findings.extend(wrong.into_iter().flatten().map(|error| format!("{error:#}")));
}

/// What a build would refuse of the user's own files and of the models.
fn own_files(image: &Image, board: &Board, files: &[LocalFile], findings: &mut Vec<String>) {
    let inputs =
        Cache::open().and_then(|cache| what_is_missing::at_hand(image, board, files, &cache));
    match inputs {
        Ok(Some(inputs)) => findings.extend(at_hand::findings(image, board, &inputs)),
        Ok(None) => eprintln!(
            "NOTICE: {}: a wheel has not been fetched yet, so that models and files were not looked into; `imager lock` fetches it",
            board.name()
        ),
        Err(error) => findings.push(format!("{error:#}")),
    }
}

fn of_board(image: &Image, board: &Board, keys: &Path, findings: &mut Vec<String>) {
    if let Err(error) = image.secure_boot.check(board) {
        findings.push(format!("{error:#}"));
    } else if keys.is_dir()
        && let Err(error) = board.boot.method.secure_boot(keys, image.secure_boot.raspberry_pi)
    {
        findings.push(format!("{error:#}"));
    }
    what_is_missing::in_lock(image, board, findings);
    // Not the project's fault, and yet nothing can be built without them.
    let folder = programs::folder(None, board.debian.architecture);
    if let Err(error) = folder.and_then(|folder| programs::read(&folder, board)) {
        eprintln!("NOTICE: {}: {error:#}", board.name());
    }
}
