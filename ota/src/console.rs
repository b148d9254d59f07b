//! What the device's console is told.

use std::io::Write;

use crate::state::VersionId;

/// Writes a line to the console; `init` puts `ota: ` in front.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The lines that follow an install.
pub fn announce(installed: &VersionId) {
    say(&format!("installed {} in slot {}", installed.version, installed.slot));
    say("trial armed");
}
