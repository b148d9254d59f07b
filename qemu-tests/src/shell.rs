//! Commands typed into the root shell that a debug image has on its console.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::console::Console;

/// What everybody else on the console begins a line with.
const OTHERS: [&str; 4] = ["ferrite: ", "ota: ", "face: ", "flooder: "];
const PATIENCE: Duration = Duration::from_secs(30);

impl Console {
    /// Types a command into the shell, waits until it ends, and gives its output's lines (both
    /// streams). Fails when its exit status is not 0.
    pub fn shell(&mut self, command: &str) -> Result<Vec<String>> {
        let number = self.next_number();
        // The shell echoes what is typed: there the two words are not in one piece.
        self.type_line(&format!("echo b''egin-{number}; {command}; echo e''nd-{number} $?"))?;
        self.wait_for(&format!("begin-{number}"), PATIENCE)?;
        let mut output = Vec::new();
        let end = format!("end-{number} ");
        loop {
            let line = self.wait_for("", PATIENCE)?.text;
            if let Some((_, status)) = line.split_once(&end) {
                ensure!(status.trim() == "0", "{command:?} ended with {status}: {output:?}");
                return Ok(output);
            }
            if !OTHERS.iter().any(|other| line.starts_with(other)) {
                output.push(line);
            }
        }
    }

    /// Like [`Console::shell`] for a command that prints JSON.
    pub fn shell_json(&mut self, command: &str) -> Result<Value> {
        let text = self.shell(command)?.join("\n");
        // A line of the kernel's may stand before it.
        let Some(start) = text.find('{') else { bail!("{command:?} printed no JSON: {text}") };
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter();
        values
            .next()
            .and_then(|value| value.ok())
            .with_context(|| format!("{command:?} printed what is no JSON: {text}"))
    }
}
