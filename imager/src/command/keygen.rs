//! `imager keygen`: makes the project's keys.

use std::path::PathBuf;

use anyhow::Result;
use publisher::boot_key::{self, BootKey};
use publisher::{keys, secure_boot_keys};
use tuf::author::id_of_key;

use crate::outputs;

/// Makes the keys that sign images and repositories. Existing keys are never overwritten.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  imager keygen --out keys
  imager keygen --out alice --role root-alice
  imager keygen --out keys --raspberry-pi-secure-boot
  imager keygen --out keys --secure-boot

`imager repo` says which role of a repository a key signs for.")]
pub struct KeygenArgs {
    /// The folder for the keys.
    #[arg(long, value_name = "DIR", default_value = "keys")]
    out: PathBuf,
    /// Make one pair of this name instead, NAME.key and NAME.pub: a person's own key, or the next
    /// one of a role.
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Make the RSA key of a Raspberry Pi's signed boot instead. It can be made once only: a board
    /// whose fuses name its hash boots nothing that another key signed.
    #[arg(long, conflicts_with = "role")]
    raspberry_pi_secure_boot: bool,
    /// Make the keys of Secure Boot instead, in DIR/secure-boot: PK, KEK and db.
    #[arg(long, conflicts_with_all = ["role", "raspberry_pi_secure_boot"])]
    secure_boot: bool,
}

/// Makes the key pairs and says what to do with them.
pub fn run(args: KeygenArgs) -> Result<()> {
    outputs::check_outside_repositories(&args.out)?;
    let dir = args.out.display();
    if let Some(name) = &args.role {
        keys::generate_one(&args.out, name)?;
        let id = id_of_key(&keys::load_public(&keys::public_path(&args.out, name))?)?;
        println!("{dir}/{name}.key and {dir}/{name}.pub (key {id})");
        println!("Keep {name}.key secret and a copy of it safe; hand on {name}.pub only.");
        return Ok(());
    }
    if args.raspberry_pi_secure_boot {
        BootKey::generate(&args.out)?;
        println!("{}", boot_key::private_path(&args.out).display());
        println!("{}", boot_key::public_path(&args.out).display());
        println!(
            "Keep the first secret and a copy of it safe. No board knows it yet, and nothing of"
        );
        println!("imager tells one: docs/choosers/rpi-secure-boot.md.");
        return Ok(());
    }
    if args.secure_boot {
        let folder = secure_boot_keys::generate(&args.out)?;
        println!("the keys of Secure Boot are in {}:", folder.display());
        println!("  PK, KEK    own the platform, and may change what it starts");
        println!("  db         signs what it starts: `imager build` does so from now on");
        println!("Keep the .key files secret. The .cer files go into the firmware of each board,");
        println!("db first, PK last: docs/secure-boot.md");
        return Ok(());
    }
    keys::generate(&args.out)?;
    println!("{} key pairs are in {dir}:", keys::ROLES.len());
    println!("  image      signs what devices boot");
    println!("  root, targets, snapshot, timestamp      sign the repository they update from");
    println!("Keep the .key files secret and a copy of them safe: without them no device that");
    println!("trusts them can ever be updated.");
    Ok(())
}
