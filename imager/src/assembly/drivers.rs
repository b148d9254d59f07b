//! Does what the initrd loads drive the board's disk? The device tree says what is there, the
//! kernel's modules say what they drive, so that a missing driver fails the build and not the user.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result, bail};

use super::device_tree::DeviceTree;

/// Room for a compatible string in a driver's table.
const LONGEST: usize = 128;

/// What drives what: the strings of a tree's `compatible`, by module.
#[derive(Debug, Default)]
pub struct Drivers {
    /// Compatible strings that a built-in driver names.
    pub built_in: BTreeSet<String>,
    /// Modules by the compatible strings that they name.
    pub modules: BTreeMap<String, BTreeSet<String>>,
    /// Compatible strings that stand in a driver's table in the kernel image.
    tables: BTreeSet<String>,
    /// Names of chips without their makers that stand in the kernel image.
    chips: BTreeSet<String>,
}

impl Drivers {
    /// Takes the aliases of a module: the fields of its `.modinfo`.
    pub fn add_module(&mut self, module: &str, modinfo: &[u8]) {
        for field in modinfo.split(|byte| *byte == 0) {
            if let Some(compatible) = field.strip_prefix(b"alias=").and_then(compatible) {
                self.modules.entry(compatible).or_default().insert(module.to_owned());
            }
        }
    }

    /// Takes the package's `modules.builtin.modinfo`: fields of all that is built in, each behind
    /// the name it belongs to and a dot.
    pub fn add_built_in(&mut self, modinfo: &[u8]) {
        for field in modinfo.split(|byte| *byte == 0) {
            let mark = b".alias=";
            let at = field.windows(mark.len()).position(|window| window == mark);
            let alias = at.and_then(|at| field.get(at + mark.len()..));
            self.built_in.extend(alias.and_then(compatible));
        }
    }

    /// Looks for what `tree` is compatible with in the kernel `image`, unpacked. Early clocks and
    /// drivers that are never modules give no alias, but their tables are in it.
    pub fn add_image(&mut self, image: &[u8], tree: &DeviceTree) {
        let names: BTreeSet<&str> = tree.nodes().flat_map(|(_, node)| node.compatible()).collect();
        let chips: BTreeSet<&str> = names.iter().map(|name| without_maker(name)).collect();
        let mut start = 0;
        for text in image.split(|byte| *byte == 0) {
            let range = start..start + text.len();
            start = range.end + 1;
            if text.is_empty() || text.len() > LONGEST {
                continue;
            }
            let Ok(text) = std::str::from_utf8(text) else { continue };
            if names.contains(text) && is_table_entry(image, range) {
                self.tables.insert(text.to_owned());
            }
            if chips.contains(text) {
                self.chips.insert(text.to_owned());
            }
        }
    }

    fn is_built_in(&self, tree: &DeviceTree, device: usize) -> bool {
        // A chip on such a bus may be known by its name alone (`i2c_device_id`, `spi_device_id`).
        let bus = tree.node(tree.node(device).parent).name;
        let on_bus = bus.starts_with("i2c") || bus.starts_with("spi");
        tree.node(device).compatible().iter().any(|name| {
            self.built_in.contains(*name)
                || self.tables.contains(*name)
                || on_bus && self.chips.contains(without_maker(name))
        })
    }
}

/// Whether the text at this place of the kernel image is what a driver's table has as `compatible`:
/// behind an empty `name` and `type` of 32 bytes each, filled up with zeros to 128 (Linux
/// include/linux/mod_devicetable.h, `struct of_device_id`).
fn is_table_entry(image: &[u8], text: std::ops::Range<usize>) -> bool {
    let before = text.start.checked_sub(64).and_then(|start| image.get(start..text.start));
    let behind = image.get(text.end..text.start + LONGEST);
    [before, behind].iter().all(|part| part.is_some_and(|bytes| bytes.iter().all(|b| *b == 0)))
}

/// `maxim,max77620` without what stands before the comma.
fn without_maker(compatible: &str) -> &str {
    compatible.split_once(',').map_or(compatible, |(_, name)| name)
}

/// `of:N*T*Cbrcm,bcm2835-sdhost` names `brcm,bcm2835-sdhost` (Linux scripts/mod/file2alias.c,
/// `do_of_entry`). Each alias is there a second time, with `C*` behind it.
fn compatible(alias: &[u8]) -> Option<String> {
    let of = alias.strip_prefix(b"of:N")?;
    let at = of.iter().position(|byte| *byte == b'C')?;
    let text = std::str::from_utf8(&of[at + 1..]).ok()?;
    (!text.ends_with("C*")).then(|| text.to_owned())
}

/// Fails when a card slot or an eMMC that this tree has is driven by nothing the initrd loads,
/// or when that is so of something it needs: a clock, supply, power domain, reset, mailbox, phy,
/// interconnect, pin, or the bus that one of these is on. The kernel waits for those
/// (Documentation/driver-api/driver-model/driver.rst, "fw_devlink"), but not for what needs the
/// device in turn: it finds such circles and breaks them.
///
/// A tree without such a device says nothing about the disk, and passes.
pub fn check(tree: &DeviceTree, drivers: &Drivers, loaded: &BTreeSet<String>) -> Result<()> {
    check_devices(tree, &disks(tree), drivers, loaded, "the card")
}

/// The same for the controllers of radios, and what both lives load: what is missing belongs into
/// `modules` of the board file's `[wifi]`.
pub fn check_radio(tree: &DeviceTree, drivers: &Drivers, loaded: &BTreeSet<String>) -> Result<()> {
    check_devices(tree, &radios(tree), drivers, loaded, "the radio")
        .context("the board file's [wifi] `modules` lacks a driver")
}

fn check_devices(
    tree: &DeviceTree,
    devices: &[usize],
    drivers: &Drivers,
    loaded: &BTreeSet<String>,
    what: &str,
) -> Result<()> {
    for &device in devices {
        let path = tree.path(device);
        check_driver(tree, device, drivers, loaded).with_context(|| format!("it holds {what}"))?;
        let mut seen = BTreeSet::from([device]);
        let mut open = VecDeque::from([device]);
        while let Some(index) = open.pop_front() {
            for needed in needed_by(tree, index) {
                if seen.contains(&needed) || needs(tree, needed, index) {
                    continue;
                }
                seen.insert(needed);
                open.push_back(needed);
                check_driver(tree, needed, drivers, loaded)
                    .with_context(|| format!("{path} holds {what} and waits for it"))?;
            }
        }
    }
    Ok(())
}

/// The controllers of cards and eMMC: the generic name is `mmc` (Devicetree Specification, 2.2.2).
/// One with a Wi-Fi chip below it has no room for a card.
fn disks(tree: &DeviceTree) -> Vec<usize> {
    controllers(tree).filter(|index| !has_radio(tree, *index)).collect()
}

/// The controllers that a radio is on.
fn radios(tree: &DeviceTree) -> Vec<usize> {
    controllers(tree).filter(|index| has_radio(tree, *index)).collect()
}

fn has_radio(tree: &DeviceTree, controller: usize) -> bool {
    tree.nodes().any(|(_, node)| node.parent == controller && node.name.starts_with("wifi@"))
}

fn controllers<'a>(tree: &'a DeviceTree<'_>) -> impl Iterator<Item = usize> + 'a {
    tree.nodes()
        .filter(|(_, node)| node.name.starts_with("mmc@"))
        .map(|(index, _)| index)
        .filter(|index| tree.is_enabled(*index))
}

/// The devices that this one waits for: what it names, and the bus that it is on.
fn needed_by(tree: &DeviceTree, device: usize) -> BTreeSet<usize> {
    // Pins, for one, are described below what drives them.
    let driven =
        |index: usize| tree.above(index).find(|above| !tree.node(*above).compatible().is_empty());
    let bus = tree.above(device).skip(1).find_map(driven).filter(|bus| *bus != 0);
    let mut needed: BTreeSet<usize> =
        tree.suppliers(device).into_iter().filter_map(driven).chain(bus).collect();
    needed.remove(&device);
    needed
}

/// Whether `device`, directly or by way of others, needs `other`.
fn needs(tree: &DeviceTree, device: usize, other: usize) -> bool {
    let mut seen = BTreeSet::from([device]);
    let mut open = vec![device];
    while let Some(index) = open.pop() {
        for needed in needed_by(tree, index) {
            if needed == other {
                return true;
            }
            if seen.insert(needed) {
                open.push(needed);
            }
        }
    }
    false
}

/// Fails when this device has a driver that the initrd does not load, or none.
fn check_driver(
    tree: &DeviceTree,
    device: usize,
    drivers: &Drivers,
    loaded: &BTreeSet<String>,
) -> Result<()> {
    /// These group other devices, or registers; no driver is needed for that.
    const GROUPS: [&str; 4] = ["simple-bus", "simple-mfd", "simple-pm-bus", "syscon"];
    let names = tree.node(device).compatible();
    if drivers.is_built_in(tree, device) || names.iter().any(|name| GROUPS.contains(name)) {
        return Ok(());
    }
    let modules = modules_for(&names, drivers);
    if modules.is_empty() {
        bail!(
            "the kernel has no driver for {} ({}): this board needs another kernel",
            tree.path(device),
            names.join(", ")
        );
    }
    if modules.is_disjoint(loaded) {
        bail!("{}", missing(&tree.path(device), &modules));
    }
    Ok(())
}

fn modules_for(names: &[&str], drivers: &Drivers) -> BTreeSet<String> {
    names.iter().filter_map(|name| drivers.modules.get(*name)).flatten().cloned().collect()
}

fn missing(path: &str, modules: &BTreeSet<String>) -> String {
    let names: Vec<&str> = modules.iter().map(String::as_str).collect();
    format!(
        "{path} is driven by {}, which the initrd does not load: add it to the board file's `chooser_modules` or `initrd_modules`",
        names.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::device_tree::tests::{BOARD, blob};
    use super::*;

    fn drivers() -> Drivers {
        let mut drivers = Drivers::default();
        drivers.add_module(
            "card",
            b"license=GPL\0alias=of:N*T*Cgeneric,cardC*\0alias=of:N*T*Cgeneric,card\0",
        );
        drivers.add_module("gpio_regulator", b"alias=of:N*T*Cregulator-gpio\0alias=platform:x\0");
        drivers.add_built_in(b"clk.alias=of:N*T*Cbrcm,clock\0clk.license=GPL\0");
        drivers
    }

    fn verdict(tree: &str, drivers: &Drivers, loaded: &[&str]) -> Result<(), String> {
        let blob = blob(tree);
        let tree = DeviceTree::read(&blob).unwrap();
        let loaded = loaded.iter().map(|name| (*name).to_owned()).collect();
        check(&tree, drivers, &loaded).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn aliases_are_read_as_the_kernel_writes_them() {
        let drivers = drivers();
        assert_eq!(drivers.modules.keys().collect::<Vec<_>>(), ["generic,card", "regulator-gpio"]);
        assert_eq!(drivers.built_in.iter().collect::<Vec<_>>(), ["brcm,clock"]);
    }

    #[test]
    fn the_cards_driver_and_what_it_waits_for_have_to_be_loaded() {
        assert_eq!(verdict(BOARD, &drivers(), &["card", "gpio_regulator"]), Ok(()));
        let message = verdict(BOARD, &drivers(), &["gpio_regulator"]).unwrap_err();
        assert!(message.contains("it holds the card: /soc/mmc@2 is driven by card,"), "{message}");
        let message = verdict(BOARD, &drivers(), &["card"]).unwrap_err();
        assert!(message.contains("/soc/mmc@2 holds the card"), "{message}");
        assert!(message.contains("/regulator is driven by gpio_regulator,"), "{message}");
    }

    #[test]
    fn a_kernel_without_the_driver_is_refused() {
        let mut drivers = drivers();
        drivers.modules.remove("generic,card");
        let message = verdict(BOARD, &drivers, &["gpio_regulator"]).unwrap_err();
        assert!(
            message.contains("no driver for /soc/mmc@2 (brcm,card, generic,card)"),
            "{message}"
        );
        drivers.built_in.insert("brcm,card".to_owned());
        assert_eq!(verdict(BOARD, &drivers, &["gpio_regulator"]), Ok(()));
    }

    /// A board as NVIDIA makes them: the card's clock is a processor that is spoken to by mailbox.
    const MAILBOX: &str = "
/
  compatible = nvidia+test
  bus@0
    compatible = simple-bus
    mmc@1
      compatible = generic+card
      clocks = <1 5>
      vmmc-supply = <4>
      pinctrl-1 = <6>
    mailbox@2
      compatible = nvidia+hsp
      #mbox-cells = <2>
      phandle = <2>
    memory@3
      compatible = nvidia+mc
      #interconnect-cells = <1>
      clocks = <1 7>
      phandle = <3>
    i2c@4
      compatible = nvidia+i2c
      pmic@3c
        compatible = maxim+max1
        regulators
          sd0
            phandle = <4>
    pins@5
      compatible = nvidia+pins
      sdmmc
        phandle = <6>
  bpmp
    compatible = nvidia+bpmp
    #clock-cells = <1>
    phandle = <1>
    mboxes = <2 0 1>
    interconnects = <3 4>
";

    /// A kernel image with these in its drivers' tables, and the name of the power chip.
    fn kernel(compatible: &[&str]) -> Vec<u8> {
        let mut image = b"MZ max1 \0max1\0".to_vec();
        for name in compatible {
            image.extend([0; 64]);
            image.extend(name.as_bytes());
            image.resize(image.len() + LONGEST - name.len() + 8, 0);
        }
        image
    }

    fn verdict_with(image: &[u8], loaded: &[&str]) -> Result<(), String> {
        let mut drivers = Drivers::default();
        drivers.add_module("card", b"alias=of:N*T*Cgeneric,card\0");
        drivers.add_module("i2c_tegra", b"alias=of:N*T*Cnvidia,i2c\0");
        let blob = blob(MAILBOX);
        let tree = DeviceTree::read(&blob).unwrap();
        drivers.add_image(image, &tree);
        let loaded = loaded.iter().map(|name| (*name).to_owned()).collect();
        check(&tree, &drivers, &loaded).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn what_the_card_waits_for_is_followed_to_its_end() {
        let whole = &kernel(&["nvidia,bpmp", "nvidia,hsp", "nvidia,mc", "nvidia,pins"]);
        assert_eq!(verdict_with(whole, &["card", "i2c_tegra"]), Ok(()));
        for (missing, device) in [
            ("nvidia,bpmp", "/bpmp (nvidia,bpmp)"),
            ("nvidia,hsp", "/bus@0/mailbox@2 (nvidia,hsp)"),
            ("max1", "/bus@0/i2c@4/pmic@3c (maxim,max1)"),
            ("nvidia,pins", "/bus@0/pins@5 (nvidia,pins)"),
        ] {
            // Another text in its place, or the text by itself, as in a message.
            let text = String::from_utf8(whole.to_vec()).unwrap();
            let other = format!("{}x", &missing[..missing.len() - 1]);
            let image =
                text.replace(missing, &other) + "?\0" + missing.trim_start_matches("max1") + "\0";
            let message = verdict_with(image.as_bytes(), &["card", "i2c_tegra"]).unwrap_err();
            assert!(message.contains("/bus@0/mmc@1 holds the card and waits for it"), "{message}");
            assert!(message.contains(&format!("no driver for {device}")), "{message}");
        }
        let message = verdict_with(whole, &["card"]).unwrap_err();
        assert!(message.contains("/bus@0/i2c@4 is driven by i2c_tegra"), "the bus: {message}");
    }

    #[test]
    fn what_needs_the_device_in_turn_is_not_waited_for() {
        let circle = BOARD.replace(
            "      phandle = <1>\n",
            "      phandle = <1>\n      clocks = <7>\n    dsi@9\n      compatible = brcm+dsi\n      phandle = <7>\n      clocks = <1 4>\n",
        );
        assert_ne!(circle, BOARD);
        assert_eq!(verdict(&circle, &drivers(), &["card", "gpio_regulator"]), Ok(()));
    }

    #[test]
    fn a_controller_with_wifi_or_switched_off_holds_no_card() {
        let wifi = BOARD.replace("vmmc-supply = <2>", "wifi@1\n        reg = <1>");
        assert_eq!(verdict(&wifi, &Drivers::default(), &[]), Ok(()));
    }
}
