//! The device left running for the person at the terminal to look around.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::guest::{Guest, without_prompt};

/// How often the console is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Whether somebody sits at a terminal, and wants to be asked.
pub fn is_wanted() -> bool {
    let nobody = std::env::var("CI").is_ok_and(|ci| ci == "true");
    !nobody && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Passes lines from the terminal to the device's shell and the console to the terminal, until
/// the end of input (Ctrl-D), the line `leave`, or the machine's end.
pub fn receive(guest: &mut Guest) -> Result<()> {
    let (typed, lines) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if typed.send(line).is_err() {
                return;
            }
        }
    });
    let mut shown = guest.machine.console.lines().len();
    loop {
        match lines.recv_timeout(TICK) {
            Ok(line) if line.trim() == "leave" => return Ok(()),
            Ok(line) => guest.machine.console.type_line(&line)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        let mut out = std::io::stdout().lock();
        for line in guest.machine.console.lines().iter().skip(shown) {
            writeln!(out, "{}", without_prompt(&line.text)).context("terminal")?;
            shown += 1;
        }
        drop(out);
        if guest.machine.wait_off(Duration::from_millis(1)).is_ok() {
            println!("The device has switched itself off.");
            return Ok(());
        }
    }
}
