//! USB sticks and other removable media: mounted read-only below [`FOLDER`] when they appear, taken
//! away when they are unplugged.
//!
//! The kernel's events only say *that* something changed; what is there is then read from `/sys` as a
//! whole (`scan`), so events that are lost or doubled do no harm. Mounting may hang on a broken stick,
//! so a helper does it (`mount`).

mod mount;
mod scan;
mod uevent;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub use self::scan::FOLDER;
use self::scan::Medium;
use crate::console::say;
use crate::helper::{Helpers, Task};
use crate::sys;

/// Where the kernel lists disks and partitions.
const CLASS_BLOCK: &str = "/sys/class/block";
/// Milliseconds between events and the look at what is there: a disk's partitions come one by one.
const SETTLE: u64 = 300;
/// As many media are known at the same time; more are passed over.
const MAX_MEDIA: usize = 8;
/// Datagrams taken before others get their turn.
const AT_ONCE: usize = 32;
/// The largest events taken; the kernel's are at most 2 KiB and their head.
const BUFFER: usize = 8192;

/// How far a medium has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A helper mounts it.
    Mounting,
    /// It lies below [`FOLDER`].
    Mounted,
    /// It could not be mounted; that is tried again only after it was unplugged.
    Refused,
    /// A helper unmounts it.
    Leaving,
}

#[derive(Debug)]
struct Known {
    /// Names it to its helper.
    number: u32,
    medium: Medium,
    state: State,
}

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Mount this.
    Mount(Medium),
    /// Unmount the known one at this index.
    Unmount(usize),
    /// Forget the known one at this index.
    Forget(usize),
}

/// All removable media.
#[derive(Debug, Default)]
pub struct Media {
    socket: Option<OwnedFd>,
    system_disk: String,
    /// Drivers are being loaded, the file systems' among them.
    awaits_drivers: bool,
    look_at: Option<u64>,
    known: Vec<Known>,
    next_number: u32,
}

impl Media {
    /// Begins to listen, and looks at what is plugged in already, once [`Media::drivers_are_there`]:
    /// on a board that boots from USB a stick is seen before there is a file system to mount it with.
    /// `system_disk` is the name of the disk that Ferrite runs from, which is never taken for a stick.
    /// For an image that uses no media, [`Media::default`] does nothing.
    pub fn open(system_disk: &str) -> Media {
        let socket = uevent::open().map_err(|e| say(&["media: ", &e.to_string()])).ok();
        Media {
            socket,
            system_disk: system_disk.to_string(),
            awaits_drivers: true,
            ..Media::default()
        }
    }

    /// All drivers that will be loaded are loaded, or will not come.
    pub fn drivers_are_there(&mut self, now: u64) {
        if std::mem::take(&mut self.awaits_drivers) && self.socket.is_some() {
            self.look_at = Some(now);
        }
    }

    /// The socket that events come through.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// When [`Media::tick`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.look_at.filter(|_| !self.awaits_drivers)
    }

    /// The kernel has events.
    pub fn on_events(&mut self, now: u64) {
        let mut buffer = [0; BUFFER];
        for _ in 0..AT_ONCE {
            let Some(read) = self.socket.as_ref().and_then(|s| sys::read_ready(s, &mut buffer))
            else {
                return;
            };
            // 0: the queue ran over, so events are lost.
            if read == 0 || uevent::is_of_a_disk(&buffer[..read]) {
                // Not later with each one: events without end would put the look off for ever.
                self.look_at.get_or_insert(now + SETTLE);
            }
            if read == 0 {
                return;
            }
        }
    }

    /// Looks at what is there, when that is due.
    pub fn tick(&mut self, helpers: &mut Helpers, now: u64) {
        if self.deadline().is_none_or(|at| now < at) {
            return;
        }
        self.look_at = None;
        let present = scan::media(Path::new(CLASS_BLOCK), &self.system_disk);
        // From the last one down: forgetting one moves those behind it.
        for step in steps(&self.known, present).into_iter().rev() {
            match step {
                Step::Mount(medium) => self.mount(medium, helpers, now),
                Step::Unmount(index) => self.unmount(index, helpers, now),
                Step::Forget(index) => drop(self.known.remove(index)),
            }
        }
    }

    fn mount(&mut self, medium: Medium, helpers: &mut Helpers, now: u64) {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let work = medium.clone();
        let started = helpers.start(Task::Media(number), now, move || {
            mount::mount_stick(&work).map_err(|e| e.within(&work.node).within("media"))
        });
        let state = if started { State::Mounting } else { State::Refused };
        self.known.push(Known { number, medium, state });
    }

    fn unmount(&mut self, index: usize, helpers: &mut Helpers, now: u64) {
        let Some(known) = self.known.get_mut(index) else { return };
        say(&["media: ", &known.medium.node, " is gone"]);
        known.state = State::Leaving;
        let work = known.medium.clone();
        helpers.start(Task::Media(known.number), now, move || {
            mount::unmount_stick(&work).map_err(|e| e.within(&work.node).within("media"))
        });
    }

    /// The helper for medium `number` has ended.
    pub fn helper_ended(&mut self, number: u32, success: bool, now: u64) {
        let Some(index) = self.known.iter().position(|known| known.number == number) else {
            return;
        };
        let known = &mut self.known[index];
        match known.state {
            State::Mounting if success => {
                known.state = State::Mounted;
                say(&["media: ", &known.medium.node, " mounted at ", &known.medium.folder()]);
            }
            State::Mounting => known.state = State::Refused,
            State::Leaving => drop(self.known.remove(index)),
            State::Mounted | State::Refused => {}
        }
        // It may have been unplugged meanwhile.
        self.look_at = Some(now);
    }
}

/// What to do about `known`, in this order, now that `present` is there.
fn steps(known: &[Known], present: Vec<Medium>) -> Vec<Step> {
    let gone = |known: &Known| !present.contains(&known.medium);
    let mut steps: Vec<Step> = known
        .iter()
        .enumerate()
        .filter(|(_, known)| gone(known))
        .filter_map(|(index, known)| match known.state {
            State::Mounted => Some(Step::Unmount(index)),
            State::Refused => Some(Step::Forget(index)),
            State::Mounting | State::Leaving => None,
        })
        .collect();
    let room = MAX_MEDIA.saturating_sub(known.len());
    let new = present.into_iter().filter(|m| known.iter().all(|known| known.medium != *m));
    steps.extend(new.take(room).map(Step::Mount));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medium(node: &str, generation: u64) -> Medium {
        Medium { node: node.into(), generation }
    }

    fn known(node: &str, generation: u64, state: State) -> Known {
        Known { number: 0, medium: medium(node, generation), state }
    }

    #[test]
    fn what_appears_is_mounted_once_and_what_is_gone_unmounted_once() {
        let sda1 = || medium("sda1", 7);
        assert_eq!(steps(&[], vec![sda1()]), [Step::Mount(sda1())]);
        for state in [State::Mounting, State::Mounted, State::Refused, State::Leaving] {
            assert_eq!(steps(&[known("sda1", 7, state)], vec![sda1()]), []);
        }
        assert_eq!(steps(&[known("sda1", 7, State::Mounted)], vec![]), [Step::Unmount(0)]);
        assert_eq!(steps(&[known("sda1", 7, State::Refused)], vec![]), [Step::Forget(0)]);
        for busy in [State::Mounting, State::Leaving] {
            assert_eq!(steps(&[known("sda1", 7, busy)], vec![]), []);
        }
    }

    #[test]
    fn another_stick_under_the_same_name_is_another_one() {
        let done = steps(&[known("sda1", 7, State::Mounted)], vec![medium("sda1", 8)]);
        assert_eq!(done, [Step::Unmount(0), Step::Mount(medium("sda1", 8))]);
    }

    #[test]
    fn no_more_than_eight_are_known() {
        let many: Vec<Medium> = (0..20).map(|n| medium(&format!("sda{n}"), 1)).collect();
        assert_eq!(steps(&[], many.clone()).len(), MAX_MEDIA);
        let full: Vec<Known> =
            (0..MAX_MEDIA).map(|n| known(&format!("sda{n}"), 1, State::Mounted)).collect();
        assert_eq!(steps(&full, many), []);
    }

    #[test]
    fn nothing_is_looked_at_before_the_drivers_are_there() {
        let mut media = Media::open("vda");
        media.look_at = Some(7); // events
        assert_eq!(media.deadline(), None);
        media.drivers_are_there(40);
        assert_eq!(media.deadline(), Some(40));
        // An image without media has nothing to wait for, and nothing to look at.
        let mut none = Media::default();
        none.drivers_are_there(40);
        assert_eq!(none.deadline(), None);
    }

    #[test]
    fn a_mount_that_failed_is_remembered_and_one_that_worked_is_looked_at_again() {
        let mut media =
            Media { known: vec![known("sda1", 7, State::Mounting)], ..Media::default() };
        media.helper_ended(0, false, 50);
        assert_eq!((media.known[0].state, media.deadline()), (State::Refused, Some(50)));
        media.known[0].state = State::Mounting;
        media.helper_ended(0, true, 60);
        assert_eq!((media.known[0].state, media.deadline()), (State::Mounted, Some(60)));
        media.known[0].state = State::Leaving;
        media.helper_ended(0, false, 70);
        assert!(media.known.is_empty());
        media.helper_ended(9, true, 80);
    }
}
