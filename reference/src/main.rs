//! Writes what is made from the programs' own definitions into a folder that is laid out like
//! `/usr`: `imager`'s man pages and completions, and the JSON schemas of the files that people write.
//!
//! It is a program of its own, so that no other one carries what it needs.

mod command_line;
#[cfg(test)]
mod follows;
mod schemas;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!(
            "usage: reference FOLDER\nWrites man pages, completions and schemas below FOLDER/share."
        );
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reference: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> Result<()> {
    let share = folder.join("share");
    command_line::man_pages(&made(share.join("man/man1"))?)?;
    command_line::completions(&share)?;
    let schemas = made(share.join("ferrite/schemas"))?;
    for (name, schema) in schemas::all() {
        let path = schemas.join(format!("{name}.json"));
        fs::write(&path, format!("{schema:#}\n"))
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}

/// The folder, which is there now.
fn made(folder: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    Ok(folder)
}
