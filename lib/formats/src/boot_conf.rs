//! `/etc/ferrite/boot.conf` in the initramfs: what the initrd of `init` needs before it has a root.
//! Written by `imager`.

use crate::conf::{self, Writer};
use crate::watchdog::Watchdog;
use crate::{Result, key};

const FIRST_LINE: &str = "ferrite-boot 1";

/// Modules that need one another, as paths in load order.
pub type ModuleChain = Vec<String>;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootConf {
    /// The board that the version is for.
    pub board: String,
    /// How this board's slot is selected: `uboot`, `efi`, `rpi` or `rpi-tryboot`.
    pub chooser: String,
    /// Loaded before the initrd selects a slot, where it does.
    pub chooser_modules: Vec<ModuleChain>,
    /// What the initrd needs to find and verify the root.
    pub modules: Vec<ModuleChain>,
    /// What it starts to load and does not wait for: the data partition's file system.
    pub later_modules: Vec<ModuleChain>,
    /// The hardware watchdog, on boards that have one.
    pub watchdog: Option<Watchdog>,
    /// Public keys, in hexadecimal, one of which has signed the slot.
    pub keys: Vec<String>,
}

impl BootConf {
    /// Reads the file's text.
    pub fn parse(text: &[u8]) -> Result<BootConf> {
        let head = conf::parse(text, FIRST_LINE)?.head;
        let chains = |key| -> Vec<ModuleChain> {
            let chain = |line: &conf::Line<'_>| line.value.split(' ').map(String::from).collect();
            conf::each(&head, key).map(chain).collect()
        };
        Ok(BootConf {
            board: conf::one(&head, key::BOARD)?.value.to_string(),
            chooser: conf::one(&head, key::BOOT_CHOOSER)?.value.to_string(),
            chooser_modules: chains(key::CHOOSER_MODULE_CHAIN),
            modules: chains(key::MODULE_CHAIN),
            later_modules: chains(key::LATER_MODULE_CHAIN),
            watchdog: Watchdog::parse(&head)?,
            keys: conf::values(&head, key::MANIFEST_KEY),
        })
    }

    /// The file's text.
    ///
    /// Panics when a value holds a line feed.
    pub fn to_text(&self) -> String {
        let mut text = Writer::new(FIRST_LINE);
        text.line(key::BOARD, &self.board).line(key::BOOT_CHOOSER, &self.chooser);
        for (key, chains) in [
            (key::CHOOSER_MODULE_CHAIN, &self.chooser_modules),
            (key::MODULE_CHAIN, &self.modules),
            (key::LATER_MODULE_CHAIN, &self.later_modules),
        ] {
            for chain in chains {
                text.line(key, &chain.join(" "));
            }
        }
        Watchdog::write(self.watchdog.as_ref(), &mut text);
        for public_key in &self.keys {
            text.line(key::MANIFEST_KEY, public_key);
        }
        text.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &str = "ferrite-boot 1\nboard rpi4\nchooser rpi\n\
        chooser-modules /lib/modules/mmc_core.ko /lib/modules/sdhci.ko\n\
        modules /lib/modules/dm-mod.ko /lib/modules/dm-verity.ko\nmodules /lib/modules/erofs.ko\n\
        later-modules /lib/modules/ext4.ko\nwatchdog /dev/watchdog 15\nkey 00ff\nkey 11ee\n";

    #[test]
    fn the_text_is_the_one_of_docs_architecture() {
        let conf = BootConf::parse(GOLDEN.as_bytes()).unwrap();
        assert_eq!(conf.modules[0], ["/lib/modules/dm-mod.ko", "/lib/modules/dm-verity.ko"]);
        assert_eq!(conf.watchdog.as_ref().map(|w| w.seconds), Some(15));
        assert_eq!(conf.to_text(), GOLDEN);
    }

    #[test]
    fn names_the_line_that_is_missing_or_wrong() {
        for (from, to, wrong) in [
            ("chooser rpi\n", "", "`chooser`"),
            ("board rpi4\n", "", "`board`"),
            ("/dev/watchdog 15", "/dev/watchdog", "watchdog: needs a device and seconds"),
            ("/dev/watchdog 15", "/dev/watchdog x", "watchdog: seconds"),
            ("boot 1", "boot 2", "first line"),
        ] {
            let error = BootConf::parse(GOLDEN.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    fn chains() -> impl Strategy<Value = Vec<ModuleChain>> {
        let chain = proptest::collection::vec("/[a-z/._-]{1,20}", 1..4);
        proptest::collection::vec(chain, 0..4)
    }

    proptest! {
        #[test]
        fn comes_back(
            (board, chooser) in ("[a-z0-9-]{1,20}", "[a-z-]{1,12}"),
            (chooser_modules, modules, later_modules) in (chains(), chains(), chains()),
            watchdog in proptest::option::of(("/dev/[a-z0-9]{1,9}", 1..=crate::watchdog::MAX_SECONDS)),
            keys in proptest::collection::vec("[0-9a-f]{64}", 0..4),
        ) {
            let watchdog = watchdog.map(|(device, seconds)| Watchdog { device, seconds });
            let conf = BootConf {
                board, chooser, chooser_modules, modules, later_modules, watchdog, keys,
            };
            prop_assert_eq!(BootConf::parse(conf.to_text().as_bytes()).unwrap(), conf);
        }

        #[test]
        fn never_panics(text in "(ferrite-boot 1\n)?((board|chooser|modules|watchdog|key) [ -~]{0,20}\n){0,12}") {
            let _ = BootConf::parse(text.as_bytes());
        }
    }
}
