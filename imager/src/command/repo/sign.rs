//! `imager repo sign`: a signature under a draft, on a machine that has the key and no repository.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use publisher::sign::sign;

use crate::command::signing_keys::KeyArgs;

/// Signs a draft that `--stage` prepared: shows what it changes, asks, and adds the signature to
/// the file. Nothing else is needed: no repository, no network.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  imager repo sign /media/stick/staged/7.targets.json --key alice/targets-alice.key \\
      --root my/root.json
  imager repo sign /media/stick/staged/3.root.json --key alice/root-alice.key --yes")]
pub struct SignArgs {
    /// The draft, in the folder that it came in (`before/` lies beside it).
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
    /// A root of this repository that you have of old, such as the first: the roots that came with
    /// the draft have to lead on from it.
    #[arg(long, value_name = "ROOT.json")]
    root: Option<PathBuf>,
    /// Sign without asking.
    #[arg(long)]
    yes: bool,
}

/// Runs `imager repo sign`.
pub fn run(args: &SignArgs) -> Result<()> {
    let keys = args.keys.sources().keyring()?;
    let signed = sign(&args.file, args.root.as_deref(), &keys, &mut |changes| {
        changes.iter().for_each(|line| println!("{line}"));
        Ok(args.yes || ask()?)
    })?;
    println!("{signed}");
    Ok(())
}

fn ask() -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask on; read what it would sign and add --yes");
    }
    print!("Sign this? Type yes: ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
