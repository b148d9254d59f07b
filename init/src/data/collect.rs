//! What `init` itself has to know of what lies on the data partition, copied into memory by the
//! helper that mounts it: PID 1 reads nothing from a medium that may hang, and nothing that may be
//! a pipe, a device or without an end.

use formats::{Result, conf};

use super::{MOUNT, OWN, error};
use crate::beneath::Folder;
use crate::console::say;

/// Where the copies lie: readable for root only, in a file system of the kernel's own memory that is
/// there in both lives.
pub const COLLECTED: &str = "/dev/ferrite/from-data";

/// Path below `init`'s own folder, and the most bytes of it.
const FILES: [(&str, usize); 5] = [
    ("settings", conf::MAX_BYTES),
    ("secrets/wifi-passphrase", 66),
    ("clock", 32),
    ("last-failure", 2048),
    ("resets", 256),
];

/// Copies them from `own`, `init`'s folder on the mounted partition, to the folder `to`. What cannot
/// be read is said and left out.
pub fn collect(own: &Folder, to: &str) -> Result<()> {
    match std::fs::create_dir(to) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(error(to, e)),
        _ => {}
    }
    rustix::fs::chmod(to, rustix::fs::Mode::RWXU).map_err(|e| error(to, e))?;
    let to = Folder::open(to)?;
    for (path, most) in FILES {
        match own.read(path, most) {
            Ok(Some(bytes)) => to.write(name(path), &bytes, 0o600)?,
            Ok(None) => {}
            Err(e) => say(&[&e.to_string(), "; left out"]),
        }
    }
    Ok(())
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The copy of one of `init`'s files, named by its path on the data partition.
pub fn collected(path: &str) -> Option<Vec<u8>> {
    let below = path.strip_prefix(MOUNT)?.strip_prefix('/')?.strip_prefix(OWN)?;
    std::fs::read([COLLECTED, "/", name(below)].concat()).ok()
}

/// As [`collected`], for a secret: no copy is left.
pub fn take_collected(path: &str) -> Option<Vec<u8>> {
    let bytes = collected(path);
    let _ = std::fs::remove_file([COLLECTED, "/", name(path)].concat());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::layout;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn what_is_there_is_copied_and_what_was_planted_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let (data, to) = (dir.path().join("data"), dir.path().join("to"));
        std::fs::create_dir_all(data.join("secrets")).unwrap();
        std::fs::write(data.join("settings"), "ferrite-settings 1\n").unwrap();
        std::fs::write(data.join("secrets/wifi-passphrase"), vec![b'x'; 67]).unwrap();
        symlink("/etc/hostname", data.join("clock")).unwrap();
        let own = Folder::open(data.to_str().unwrap()).unwrap();
        for _ in 0..2 {
            collect(&own, to.to_str().unwrap()).unwrap();
        }
        let names: Vec<_> =
            std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["settings"]);
        assert_eq!(std::fs::metadata(&to).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(to.join("settings")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn every_file_that_is_asked_for_is_collected() {
        for path in [layout::SETTINGS, layout::WIFI_PASSPHRASE] {
            let known = FILES.iter().any(|(file, _)| [MOUNT, "/", OWN, "/", file].concat() == path);
            assert!(known, "{path}");
        }
    }
}
