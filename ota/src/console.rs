//! What the device's console is told.

use std::io::Write;

/// Writes a line to the console; `init` puts `ota: ` in front.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
