//! A passphrase that is asked for on the terminal.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The passphrase, typed where nobody sees it.
pub fn ask_passphrase(ssid: &str) -> Result<String> {
    let stdin = std::io::stdin();
    ensure!(
        stdin.is_terminal(),
        "the passphrase of {ssid} cannot be asked for here; give --wifi-passphrase-file FILE"
    );
    let before = tcgetattr(&stdin).context("the terminal")?;
    let hidden = Hidden(&stdin, before.clone());
    let mut silent = before;
    silent.local_modes -= LocalModes::ECHO;
    tcsetattr(&stdin, OptionalActions::Flush, &silent).context("the terminal")?;
    eprint!("Passphrase of {ssid} (not shown): ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    drop(hidden);
    eprintln!();
    read.context("the passphrase cannot be read")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal shows what is typed again when this is dropped.
struct Hidden<'a>(&'a std::io::Stdin, Termios);

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.0, OptionalActions::Flush, &self.1);
    }
}
