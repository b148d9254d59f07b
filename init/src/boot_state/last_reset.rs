//! Why the boot before this one ended, where the board knows: its watchdog's status, and what the
//! kernel left in pstore when it panicked. Such a boot weighs more than one that simply ended.

use std::fs;
use std::io::Read;
use std::path::Path;

use formats::boot_state::{Boot, BootState};
use formats::{boot_chooser, boot_state_store, layout};
use rustix::mount::{MountFlags, mount};

use crate::console::say;
use crate::initrd::slot_selection::Choice;
use crate::watchdog::Watchdog;

/// Where the kernel's records of its last words are seen (Linux Documentation/admin-guide/pstore).
const PSTORE: &str = "/sys/fs/pstore";
/// Names the medium that they are kept on; `(null)` where the board has none.
const PSTORE_BACKEND: &str = "/sys/module/pstore/parameters/backend";
/// The most that is read of a record, in bytes.
const MAX_RECORD: u64 = 64 << 10;
/// More records than any medium keeps of one crash.
const MAX_RECORDS: usize = 64;
/// What the kernel says when it panics (kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// Counts the failure of the boot before this one, if there is evidence of it.
pub fn weigh(watchdog: Option<&Watchdog>, chooser: &str, choice: Choice) {
    let panic = take_panic();
    let reason = match (&panic, watchdog) {
        (Some(line), _) => line,
        (None, Some(watchdog)) if watchdog.made_the_last_reset() => "reset by the watchdog",
        _ => return,
    };
    say(&["the boot before this one failed: ", reason]);
    let lock = Path::new(layout::RUN_BOOT_STATE_LOCK);
    let recorded = boot_chooser::open(chooser, Path::new(layout::DEVICES), choice.running())
        .and_then(|chooser| {
            boot_state_store::update(&*chooser, lock, |state| record(state, choice, reason))
        });
    if let Err(e) = recorded {
        say(&["boot state: ", &e.to_string()]);
    }
}

fn record(state: &mut BootState, choice: Choice, reason: &str) {
    match choice.kind {
        // Its boots are counted by themselves.
        Boot::Trial => {}
        Boot::Active | Boot::Fallback => state.record_previous_failure(choice.running(), reason),
    }
}

/// Whether the kernel has a place for its last words.
pub fn panics_are_kept() -> bool {
    fs::read_to_string(PSTORE_BACKEND).is_ok_and(|backend| backend.trim() != "(null)")
}

/// What the kernel said when it panicked, and takes the records away: their room is small.
fn take_panic() -> Option<String> {
    if !panics_are_kept() {
        return None;
    }
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount("pstore", PSTORE, "pstore", safe, c"").ok()?;
    take_panic_below(Path::new(PSTORE))
}

fn take_panic_below(folder: &Path) -> Option<String> {
    let mut found = None;
    for entry in fs::read_dir(folder).ok()?.take(MAX_RECORDS).flatten() {
        let path = entry.path();
        let mut record = Vec::new();
        let read = fs::File::open(&path).and_then(|f| f.take(MAX_RECORD).read_to_end(&mut record));
        if read.is_ok() {
            found = found.or_else(|| panic_line(&record));
        }
        let _ = fs::remove_file(&path);
    }
    found
}

/// The line of a record that says why the kernel panicked, without its time.
fn panic_line(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let line = text.lines().find(|line| line.contains(PANIC))?;
    Some(line[line.find(PANIC)?..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_panics_line_is_found_and_the_records_are_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(take_panic_below(dir.path()), None);
        fs::write(dir.path().join("console-0"), b"hello\n\xff").unwrap();
        let text = "Panic#1 Part1\n<0>[    9.1] Kernel panic - not syncing: No init found.\n<4> x";
        fs::write(dir.path().join("dmesg-erst-1"), text).unwrap();
        let panic = take_panic_below(dir.path()).unwrap();
        assert_eq!(panic, "Kernel panic - not syncing: No init found.");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_trials_end_is_not_counted_twice() {
        let mut state = BootState { strikes: 5, ..BootState::fresh() };
        let before = state.clone();
        let choice = |kind| Choice { slot: before.active, kind };
        record(&mut state, choice(Boot::Trial), "x");
        assert_eq!(state, before);
        record(&mut state, choice(Boot::Active), "x");
        assert_eq!(state.strikes, 6);
    }
}
