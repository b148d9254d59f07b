//! `/run/ferrite/slot`: what was booted. Written by the initrd of `init`, read by its rootfs and by
//! `ota`.

use crate::boot_state::Boot;
use crate::boot_state_store::Running;
use crate::conf::{self, Writer};
use crate::{Result, Slot, key};

const FIRST_LINE: &str = "ferrite-slot 1";

/// The slot that runs, the version in it, and the disk it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSlot {
    /// The slot.
    pub slot: Slot,
    /// As what it was booted.
    pub boot: Boot,
    /// The board that the version is for.
    pub board: String,
    /// The image's name.
    pub name: String,
    /// The version for people.
    pub version: String,
    /// Orders versions.
    pub sequence: u64,
    /// The disk's device node.
    pub disk: String,
    /// How this board's slot is selected: `uboot`, `efi`, `rpi` or `rpi-tryboot`.
    pub chooser: String,
}

impl RunSlot {
    /// Reads the file's text.
    pub fn parse(text: &[u8]) -> Result<RunSlot> {
        let head = conf::parse(text, FIRST_LINE)?.head;
        let get = |key| conf::one(&head, key);
        let text = |key| Ok(get(key)?.value.to_string());
        Ok(RunSlot {
            slot: Slot::parse(get(key::SLOT)?.value)?,
            boot: match (get(key::TRIAL)?.yes_no()?, get(key::FALLBACK)?.yes_no()?) {
                (true, _) => Boot::Trial,
                (false, true) => Boot::Fallback,
                (false, false) => Boot::Active,
            },
            board: text(key::BOARD)?,
            name: text(key::NAME)?,
            version: text(key::VERSION)?,
            sequence: get(key::SEQUENCE)?.number()?,
            disk: text(key::DISK)?,
            chooser: text(key::BOOT_CHOOSER)?,
        })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = Writer::new(FIRST_LINE);
        for (key, value) in self.lines() {
            text.line(key, &value);
        }
        text.finish()
    }

    /// The slot, and as what it was booted.
    pub fn running(&self) -> Running {
        (self.slot, self.boot)
    }

    /// The file's lines as key and value, as `ctl status` shows them too.
    pub fn lines(&self) -> [(&'static str, String); 9] {
        let is = |boot| if self.boot == boot { "yes" } else { "no" }.to_string();
        [
            (key::SLOT, self.slot.letter().to_string()),
            (key::TRIAL, is(Boot::Trial)),
            (key::FALLBACK, is(Boot::Fallback)),
            (key::BOARD, self.board.clone()),
            (key::NAME, self.name.clone()),
            (key::VERSION, self.version.clone()),
            (key::SEQUENCE, self.sequence.to_string()),
            (key::DISK, self.disk.clone()),
            (key::BOOT_CHOOSER, self.chooser.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &str = "ferrite-slot 1\nslot b\ntrial yes\nfallback no\nboard qemu-arm64\n\
        name demo\nversion 1.0.1\nsequence 2\ndisk /dev/vda\nchooser uboot\n";

    #[test]
    fn the_text_is_the_one_of_docs_architecture() {
        let running = RunSlot::parse(GOLDEN.as_bytes()).unwrap();
        assert_eq!((running.slot, running.boot, running.sequence), (Slot::B, Boot::Trial, 2));
        assert_eq!(running.to_text(), GOLDEN);
        for (from, to) in [("slot b", "slot c"), ("trial yes", "trial 1"), ("disk /dev/vda\n", "")]
        {
            assert!(RunSlot::parse(GOLDEN.replace(from, to).as_bytes()).is_err(), "{to:?}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(
            slot in prop_oneof![Just(Slot::A), Just(Slot::B)],
            boot in prop_oneof![Just(Boot::Active), Just(Boot::Trial), Just(Boot::Fallback)],
            (board, name) in ("[a-z0-9_-]{1,20}", "[a-z0-9-]{1,20}"),
            (version, sequence) in ("[A-Za-z0-9._+~-]{1,20}", any::<u64>()),
            (disk, chooser) in ("/dev/[a-z0-9]{1,9}", "[a-z-]{1,12}"),
        ) {
            let running = RunSlot { slot, boot, board, name, version, sequence, disk, chooser };
            prop_assert_eq!(RunSlot::parse(running.to_text().as_bytes()).unwrap(), running);
        }
    }
}
