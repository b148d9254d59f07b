//! Which files of a folder are whole: those that were closed after writing or renamed into it, as the
//! kernel tells (inotify(7)), and those that were there before and have been left alone.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// A file of which nothing was told is whole when it has not been written to for so long.
const QUIET: Duration = Duration::from_secs(2);
/// While a file is being written each piece is told; so often is looked.
const PAUSE: Duration = Duration::from_millis(20);
/// Names that are remembered; more are forgotten together, and go by [`QUIET`] then.
const MAX_NAMES: usize = 20_000;

/// A file's state: another one means written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// When it was written to last.
    pub modified: Option<SystemTime>,
    /// Another one of the same name has another.
    pub inode: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Writing,
    Whole,
}

/// What is being written in a folder.
pub struct Writers {
    folder: PathBuf,
    inotify: Option<Inotify>,
    watched: Option<(WatchDescriptor, [u64; 2])>,
    states: BTreeMap<OsString, State>,
    /// Nobody can write to it.
    read_only: bool,
}

impl Writers {
    /// Of a folder that may not be there yet. Where the kernel tells nothing, as in a process that has
    /// used up its watches, files go by [`QUIET`] alone.
    pub fn new(folder: PathBuf) -> Writers {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        Writers { folder, inotify, watched: None, states: BTreeMap::new(), read_only: false }
    }

    /// Has the kernel tell of this folder, and of another one once that is in its place.
    pub fn follow(&mut self) {
        let identity = std::fs::metadata(&self.folder).ok().map(|about| [about.dev(), about.ino()]);
        if self.watched.map(|(_, identity)| identity) == identity {
            return;
        }
        self.states.clear();
        self.read_only =
            statvfs(&self.folder).is_ok_and(|system| system.flags().contains(FsFlags::ST_RDONLY));
        let Some(inotify) = &self.inotify else { return };
        if let Some((old, _)) = self.watched.take() {
            // One whose folder is gone is gone itself.
            let _ = inotify.rm_watch(old);
        }
        let told = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE;
        let watch = inotify.add_watch(&self.folder, told).ok();
        self.watched = watch.zip(identity);
    }

    /// Takes in what the kernel has told. True if a file became whole.
    pub fn hear(&mut self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut became_whole = false;
        loop {
            let told = match inotify.read_events() {
                Ok(told) => told,
                Err(Errno::EINTR) => continue,
                Err(_) => return became_whole,
            };
            for event in told {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
                    || self.states.len() > MAX_NAMES
                {
                    self.states.clear();
                }
                let current = self.watched.is_some_and(|(watch, _)| watch == event.wd);
                if let Some(name) = event.name.filter(|_| current) {
                    became_whole |= note(&mut self.states, event.mask, name);
                }
            }
        }
    }

    /// Waits for a file that becomes whole, at most until then.
    pub fn wait(&mut self, until: Instant) {
        while !self.hear() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let Some(inotify) = &self.inotify else { return std::thread::sleep(left) };
            let mut descriptors = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
            // Rounded up, so that the last millisecond is not spent in turns.
            let most = PollTimeout::try_from(left + Duration::from_millis(1));
            if poll(&mut descriptors, most.unwrap_or(PollTimeout::MAX)) != Ok(0) {
                if self.hear() {
                    return;
                }
                std::thread::sleep(PAUSE.min(until.saturating_duration_since(Instant::now())));
            }
        }
    }

    /// Whether nobody is writing the file of this name.
    pub fn is_whole(&self, name: &OsStr, stamp: &Stamp, now: SystemTime) -> bool {
        match self.states.get(name) {
            Some(state) => *state == State::Whole,
            None => self.read_only || left_alone(stamp, now),
        }
    }
}

/// True if the file is whole from now on.
fn note(states: &mut BTreeMap<OsString, State>, mask: AddWatchFlags, name: OsString) -> bool {
    let whole = mask.intersects(AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO);
    if whole {
        states.insert(name, State::Whole);
    } else if mask.contains(AddWatchFlags::IN_MODIFY) {
        states.insert(name, State::Writing);
    } else {
        states.remove(&name);
    }
    whole
}

/// Of a file of which nothing was told. An empty one is just being made.
fn left_alone(stamp: &Stamp, now: SystemTime) -> bool {
    let apart = stamp.modified.map(|modified| match now.duration_since(modified) {
        Ok(age) => age,
        // The clock was put back since.
        Err(ahead) => ahead.duration(),
    });
    stamp.size > 0 && apart.is_none_or(|apart| apart >= QUIET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    fn stamp(path: &std::path::Path) -> Stamp {
        let about = std::fs::metadata(path).unwrap();
        Stamp { size: about.len(), modified: about.modified().ok(), inode: about.ino() }
    }

    #[test]
    fn a_file_is_whole_when_it_is_closed_or_renamed_into_the_folder() {
        let [folder, other] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let mut writers = Writers::new(folder.path().to_owned());
        writers.follow();
        let path = folder.path().join("a.png");
        let later = SystemTime::now() + Duration::from_secs(60);
        let mut file = File::create(&path).unwrap();
        writers.hear();
        assert!(!writers.is_whole(OsStr::new("a.png"), &stamp(&path), later), "empty");
        file.write_all(b"half").unwrap();
        assert!(!writers.hear());
        assert!(
            !writers.is_whole(OsStr::new("a.png"), &stamp(&path), later),
            "however long it takes"
        );
        drop(file);
        assert!(writers.hear());
        assert!(writers.is_whole(OsStr::new("a.png"), &stamp(&path), SystemTime::now()));

        std::fs::write(other.path().join("b"), "whole").unwrap();
        std::fs::rename(other.path().join("b"), folder.path().join("b.png")).unwrap();
        assert!(writers.hear());
        let b = folder.path().join("b.png");
        assert!(writers.is_whole(OsStr::new("b.png"), &stamp(&b), SystemTime::now()));
        std::fs::remove_file(b).unwrap();
        writers.hear();
        assert_eq!(writers.states.len(), 1, "what is gone is forgotten");
    }

    #[test]
    fn a_file_of_which_nothing_was_told_has_to_be_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, "there before").unwrap();
        let mut writers = Writers::new(folder.path().to_owned());
        writers.follow();
        let (stamp, now) = (stamp(&path), SystemTime::now());
        assert!(!writers.is_whole(OsStr::new("a.png"), &stamp, now));
        assert!(writers.is_whole(OsStr::new("a.png"), &stamp, now + QUIET));
        assert!(writers.is_whole(OsStr::new("a.png"), &stamp, now - QUIET * 2), "another clock");
    }

    #[test]
    fn a_folder_in_the_place_of_another_is_watched_anew() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("in");
        let mut writers = Writers::new(folder.clone());
        writers.follow();
        for _ in 0..2 {
            std::fs::create_dir(&folder).unwrap();
            writers.follow();
            std::fs::write(folder.join("a.png"), "x").unwrap();
            writers.wait(Instant::now() + Duration::from_secs(5));
            assert_eq!(writers.states.get(OsStr::new("a.png")), Some(&State::Whole));
            std::fs::rename(&folder, parent.path().join("old")).unwrap();
            let _ = std::fs::remove_dir_all(parent.path().join("old"));
            writers.follow();
            assert!(writers.states.is_empty());
        }
    }
}
