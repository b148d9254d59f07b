//! Man pages and completions of `imager`.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use clap_complete::Shell;

use crate::made;

/// Where a shell looks for completions below `share`, and what it wants the file to be called.
const COMPLETIONS: [(Shell, &str, &str); 3] = [
    (Shell::Bash, "bash-completion/completions", "imager"),
    (Shell::Zsh, "zsh/site-functions", "_imager"),
    (Shell::Fish, "fish/vendor_completions.d", "imager.fish"),
];

/// A page for `imager` and one for each of its subcommands, `imager-build.1`.
pub fn man_pages(folder: &Path) -> Result<()> {
    let mut command = imager::command::definition().disable_help_subcommand(true);
    command.build();
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("{}: the man pages cannot be written", folder.display()))
}

/// Completions, each in the folder where its shell looks for them.
pub fn completions(share: &Path) -> Result<()> {
    for (shell, folder, name) in COMPLETIONS {
        let path = made(share.join(folder))?.join(name);
        let mut file = File::create(&path)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
        clap_complete::generate(shell, &mut imager::command::definition(), "imager", &mut file);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn every_subcommand_has_a_man_page() {
        let folder = tempfile::tempdir().unwrap();
        man_pages(folder.path()).unwrap();
        let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page("imager.1").contains("signed image"));
        for command in imager::command::definition().get_subcommands() {
            let text = page(&format!("imager-{}.1", command.get_name()));
            assert!(text.starts_with(".ie"), "{text}");
            assert!(text.contains("SYNOPSIS"), "{text}");
        }
    }

    #[test]
    fn completions_know_the_subcommands_and_bash_can_read_its_own() {
        let folder = tempfile::tempdir().unwrap();
        completions(folder.path()).unwrap();
        for (_, place, name) in COMPLETIONS {
            let text = fs::read_to_string(folder.path().join(place).join(name)).unwrap();
            for word in ["build", "publish", "--board"] {
                assert!(text.contains(word.trim_start_matches('-')), "{name} has no {word}");
            }
        }
        let of_bash = folder.path().join("bash-completion/completions/imager");
        let read = Command::new("bash").arg("-n").arg(of_bash).output().unwrap();
        assert!(read.status.success() && read.stderr.is_empty(), "{read:?}");
    }
}
