//! `--keys` and `--key` of the commands that sign.

use std::path::PathBuf;

use publisher::keys::KeySources;

/// The private keys at hand.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// A folder with private keys: every `.key` file in it. What each may sign is for the
    /// repository's root metadata to say.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// A private key.
    #[arg(long, value_name = "FILE.key")]
    key: Vec<PathBuf>,
}

impl KeyArgs {
    /// Where to look for them.
    pub fn sources(&self) -> KeySources {
        KeySources { folder: self.keys.clone(), files: self.key.clone() }
    }
}
