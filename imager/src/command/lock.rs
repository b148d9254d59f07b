//! `imager lock`: resolves every input of an image and writes its lock.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::config::{Board, Image};
use crate::sources::lock::{self, Lock};
use crate::sources::{Options, resolve_all};
use debian::cache::Cache;
use debian::package_source::DEBIAN_KEYRING;
use debian::release::Expired;

/// Where inputs come from: the options that `lock` and `build` share.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Fail instead of changing the lock
    #[arg(long)]
    pub locked: bool,
    /// Mirror of the Debian archive; else $FERRITE_MIRROR, else the one in this machine's apt
    /// configuration
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Public keys that may sign the Debian archive
    #[arg(long, value_name = "FILE", default_value = DEBIAN_KEYRING)]
    pub keyring: PathBuf,
    /// Take indexes of a mirror that is no longer updated
    #[arg(long)]
    pub allow_expired: bool,
}

impl SourceArgs {
    /// The options, with the user's cache.
    pub fn options(&self) -> Result<Options> {
        Ok(Options {
            locked: self.locked,
            mirror: self.mirror.clone(),
            keyring: self.keyring.clone(),
            expired: if self.allow_expired { Expired::Allow } else { Expired::Refuse },
            cache: Cache::open()?,
        })
    }
}

/// Resolve every input of an image and write its lock
#[derive(Debug, Args)]
pub struct LockArgs {
    /// The image file; the lock is written beside it
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// Board to lock for, by name or as a path to its file; may be repeated. Else all boards of a
    /// folder `board-configs` here or above, else those that the lock has already; boards whose own
    /// kernel is not there are passed over
    #[arg(long, value_name = "BOARD")]
    pub board: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub sources: SourceArgs,
}

/// Locks the image for each board, and fetches everything into the cache so that a build needs no
/// network.
pub fn run(args: LockArgs) -> Result<()> {
    let image = Image::load(&args.image)?;
    let options = args.sources.options()?;
    let all = args.board.is_empty();
    let boards = if all { boards_without_a_name(&image)? } else { args.board };
    for name in boards {
        let board = Board::load(&name, image.folder())?;
        if let Some(path) = board.missing_archive().filter(|_| all) {
            eprintln!(
                "NOTICE: {name} is passed over: its kernel {} is not there (docs/board-file.md, \"A kernel of your own\")",
                path.display()
            );
            continue;
        }
        let inputs = resolve_all(&image, &board, &options)?
            .fetch()
            .with_context(|| format!("locking {} for {}", image.name, board.name()))?;
        eprintln!(
            "{} for {}: {} packages, {} archives, {} wheels, {} local files locked",
            image.name,
            board.name(),
            inputs.root.len()
                + inputs.kernel.len()
                + inputs
                    .firmware
                    .iter()
                    .chain(&inputs.board_firmware)
                    .chain(&inputs.wifi_firmware)
                    .count(),
            inputs.kernel_archives.len() + inputs.archives.len(),
            inputs.wheels.len(),
            inputs.files.len()
        );
    }
    Ok(())
}

/// The boards to lock for where the command line names none. Never all that imager knows: each
/// would have its kernel fetched.
fn boards_without_a_name(image: &Image) -> Result<Vec<String>> {
    let mut boards = Board::in_nearest_folder(image.folder())?;
    if boards.is_empty() {
        let lock = Lock::read(&lock::path_for(image.path()))?;
        boards = lock.boards.into_iter().map(|board| board.name).collect();
    }
    if boards.is_empty() {
        bail!("name the board to lock for: --board NAME; `imager boards` lists them");
    }
    Ok(boards)
}
