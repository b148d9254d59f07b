//! `imager keygen`: makes the project's keys.

use std::path::PathBuf;

use anyhow::Result;

use crate::keys;

/// Makes the keys that sign images and repositories. Existing keys are never overwritten.
#[derive(Debug, clap::Args)]
pub struct KeygenArgs {
    /// The folder for the keys.
    #[arg(long, value_name = "DIR", default_value = "keys")]
    out: PathBuf,
}

/// Makes the key pairs and says what to do with them.
pub fn run(args: KeygenArgs) -> Result<()> {
    keys::generate(&args.out)?;
    let dir = args.out.display();
    println!("{} key pairs are in {dir}:", keys::ROLES.len());
    println!("  image      signs what devices boot");
    println!("  root, targets, snapshot, timestamp      sign the repository they update from");
    println!("Keep the .key files secret and a copy of them safe: without them no device that");
    println!("trusts them can ever be updated.");
    Ok(())
}
