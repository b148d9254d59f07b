//! `imager new`: a project that builds, boots and answers at once, for its owner to change.

mod template;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::config::values::Name;

/// Arguments of `imager new`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  imager new my-product
  imager new my-product --with python

It asks nothing and fetches nothing. The image is called like the folder, and answers pictures with
the faces in them until you put a model of your own in.")]
pub struct NewArgs {
    /// The folder to make; one that is there must be empty
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Add a program of your own, in this language
    #[arg(long, value_name = "LANGUAGE")]
    with: Option<Language>,
}

/// What a program of one's own is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Cross-compiled by cargo
    Rust,
    /// Cross-compiled by gcc
    C,
    /// Run by Debian's python3
    Python,
    /// Run by busybox
    Shell,
}

/// A file of a project.
struct ProjectFile {
    path: String,
    bytes: Vec<u8>,
    executable: bool,
}

/// Runs `imager new`.
pub fn run(args: NewArgs) -> Result<()> {
    let folder = &args.folder;
    let name = name_of(folder)?;
    refuse_what_is_there(folder)?;
    for file in template::files(&name, args.with) {
        write(folder, &file)?;
    }
    print!("{}", template::next_commands(folder, &name, args.with));
    Ok(())
}

/// The image's name: the folder's.
fn name_of(folder: &Path) -> Result<Name> {
    let last = folder
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{}: name a folder to make, like my-product", folder.display()))?;
    Name::new(last).map_err(|why| {
        anyhow::anyhow!("{}: the image is called like its folder, and {why}", folder.display())
    })
}

fn refuse_what_is_there(folder: &Path) -> Result<()> {
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!("{}: is there already and not empty", folder.display()),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(|| format!("{}: is no folder to fill", folder.display())),
    }
}

fn write(folder: &Path, file: &ProjectFile) -> Result<()> {
    let path = folder.join(&file.path);
    let cannot = || format!("{}: cannot be written", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(cannot)?;
    }
    fs::write(&path, &file.bytes).with_context(cannot)?;
    if file.executable {
        let mode = fs::metadata(&path).with_context(cannot)?.permissions().mode();
        // Whoever may read it, may run it.
        let mode = mode | (mode & 0o444) >> 2;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).with_context(cannot)?;
    }
    Ok(())
}
