//! Notices when the kernel finds errors in the mounted data partition, and decides what that leads
//! to.
//!
//! ext4 counts them in `errors_count` of its folder in sysfs. It wakes who polls that file, but not
//! where the error makes the file system read-only (`ext4_handle_error`, Linux `fs/ext4/super.c`):
//! so the file is looked at.

use std::fs::File;
use std::os::unix::fs::FileExt;

use formats::data_state::Kind;

use super::NODE;

/// Milliseconds between two looks.
const EVERY: u64 = 5_000;

/// The count of errors since the mount.
#[derive(Debug)]
pub struct Watch {
    file: File,
    errors: u64,
    next: u64,
}

/// What is done about errors that the kernel found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// An orderly reboot: the next boot checks the file system before it mounts it.
    Check,
    /// The same once the trial that runs is over: its tries are for what the version does.
    CheckLater,
    /// Memory in its place: this boot began with a check, and another one would not help.
    Volatile,
}

/// What errors lead to. `began_with`: what `/data` was at the start of this boot.
///
/// A boot that began with a check never asks for another one, so this makes no loop, however often
/// the medium fails.
pub fn remedy(began_with: Kind, on_trial: bool) -> Remedy {
    match (began_with, on_trial) {
        (Kind::Kept, true) => Remedy::CheckLater,
        (Kind::Kept, false) => Remedy::Check,
        _ => Remedy::Volatile,
    }
}

impl Watch {
    /// Begins to look; `None` where the kernel does not tell.
    pub fn begin() -> Option<Watch> {
        let node = std::fs::read_link(NODE).ok()?;
        let name = node.file_name()?.to_str()?.to_string();
        Watch::on(&["/sys/fs/ext4/", &name, "/errors_count"].concat())
    }

    fn on(path: &str) -> Option<Watch> {
        let file = File::open(path).ok()?;
        let errors = count(&file)?;
        Some(Watch { file, errors, next: 0 })
    }

    /// How many errors were found since the last look; 0 where it is not time for another one. The
    /// file is the kernel's: reading it waits for no medium.
    pub fn new_errors(&mut self, now: u64) -> u64 {
        if now < self.next {
            return 0;
        }
        self.next = now + EVERY;
        let Some(errors) = count(&self.file) else { return 0 };
        errors.saturating_sub(std::mem::replace(&mut self.errors, errors))
    }
}

fn count(file: &File) -> Option<u64> {
    let mut text = [0; 24];
    let read = file.read_at(&mut text, 0).ok()?;
    formats::conf::decimal(std::str::from_utf8(text.get(..read)?).ok()?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_that_began_with_a_check_never_asks_for_another() {
        for on_trial in [false, true] {
            for began_with in [Kind::Checked, Kind::Afresh, Kind::Volatile] {
                assert_eq!(remedy(began_with, on_trial), Remedy::Volatile);
            }
        }
        assert_eq!(remedy(Kind::Kept, false), Remedy::Check);
        assert_eq!(remedy(Kind::Kept, true), Remedy::CheckLater);
    }

    #[test]
    fn only_new_errors_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("errors_count");
        std::fs::write(&path, "2\n").unwrap();
        let mut watch = Watch::on(path.to_str().unwrap()).unwrap();
        assert_eq!(watch.new_errors(0), 0);
        std::fs::write(&path, "5\n").unwrap();
        assert_eq!((watch.new_errors(EVERY - 1), watch.new_errors(EVERY)), (0, 3));
        assert_eq!(watch.new_errors(9 * EVERY), 0);
        assert!(Watch::on("/nowhere").is_none());
    }
}
