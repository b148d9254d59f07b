//! `imager boards`: which boards there are, and how much has been seen of each.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::config::board::{Board, Proof};

/// Arguments of `imager boards`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  imager boards
  imager boards --json
  imager boards rpi4 > board-configs/my-board.toml

imager brings the boards' files along. A folder `board-configs` here or above adds to them, and goes
before where it has a file of the same name. docs/boards/ has a page for each board that is not
QEMU's own.")]
pub struct BoardsArgs {
    /// Print this board's file, as the start of one of your own
    #[arg(value_name = "BOARD", conflicts_with = "json")]
    board: Option<String>,
    /// Look for a folder `board-configs` at or above this one, too
    #[arg(long, value_name = "DIR", default_value = ".")]
    near: PathBuf,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// A board in the list.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    description: String,
    architecture: &'static str,
    chooser: &'static str,
    /// Whether something outside of the kernel resets a board that hangs.
    watchdog: bool,
    proof: Proof,
}

/// Runs `imager boards`.
pub fn run(args: BoardsArgs) -> Result<()> {
    if let Some(name) = &args.board {
        print!("{}", Board::load(name, &args.near)?.text());
        return Ok(());
    }
    let boards = listed(&args.near)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&boards)?);
    } else {
        print!("{}", table(&boards));
    }
    Ok(())
}

fn listed(near: &Path) -> Result<Vec<Listed>> {
    let list = |name: String| {
        let board = Board::load(&name, near)?;
        Ok(Listed {
            name,
            description: board.description.to_string(),
            architecture: board.debian.architecture.as_str(),
            chooser: board.boot.method.name(),
            watchdog: board.watchdog.as_ref().is_some_and(|watchdog| watchdog.kind.is_hardware()),
            proof: board.proof,
        })
    };
    Board::all(near)?.into_iter().map(list).collect()
}

/// One line a board, in columns.
fn table(boards: &[Listed]) -> String {
    let width = |text: fn(&Listed) -> &str| boards.iter().map(|b| text(b).len()).max().unwrap_or(0);
    let (names, proofs) = (width(|b| &b.name), width(|b| b.proof.in_words()));
    let line = |b: &Listed| {
        let lacks =
            if b.watchdog { "" } else { "; no hardware watchdog: a hang may wait for somebody" };
        format!("{:names$}  {:proofs$}  {}{lacks}\n", b.name, b.proof.in_words(), b.description)
    };
    boards.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_board_is_listed_with_what_was_seen_of_it() {
        let boards = listed(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let names: Vec<&str> = boards.iter().map(|board| board.name.as_str()).collect();
        assert!(names.contains(&"qemu-arm64") && names.contains(&"rpi3"), "{names:?}");
        assert!(names.contains(&"pc-x86_64"), "{names:?}");
        let text = table(&boards);
        assert_eq!(text.lines().count(), boards.len());
        let line = |name: &str| {
            text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap().to_owned()
        };
        assert!(line("rpi3").contains("boots in QEMU"));
        assert!(line("pc-x86_64").contains("boots in QEMU"));
        assert!(line("rpi5").contains("card checked by its firmware's rules"));
        assert!(line("jetson-orin-nano").contains("card checked"));
        assert!(line("jetson-nano").contains("card checked") && !line("rpi5").contains("watchdog"));
        assert!(
            line("jetson-nano").ends_with("no hardware watchdog: a hang may wait for somebody")
        );
    }
}
