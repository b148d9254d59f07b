//! Does what the first life loads drive the board's disk? The device tree says what is there, the
//! kernel's modules say what they drive, so that a missing driver fails the build and not the user.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{bail, Context, Result};

use super::device_tree::DeviceTree;

/// What drives what: the strings of a tree's `compatible`, by module.
#[derive(Debug, Default)]
pub struct Drivers {
    /// Compatible strings that a built-in driver names.
    pub built_in: BTreeSet<String>,
    /// Modules by the compatible strings that they name.
    pub modules: BTreeMap<String, BTreeSet<String>>,
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
}

/// `of:N*T*Cbrcm,bcm2835-sdhost` names `brcm,bcm2835-sdhost` (Linux scripts/mod/file2alias.c,
/// `do_of_entry`). Each alias is there a second time, with `C*` behind it.
fn compatible(alias: &[u8]) -> Option<String> {
    let of = alias.strip_prefix(b"of:N")?;
    let at = of.iter().position(|byte| *byte == b'C')?;
    let text = std::str::from_utf8(&of[at + 1..]).ok()?;
    (!text.ends_with("C*")).then(|| text.to_owned())
}

/// Fails when a card slot or an eMMC that this tree has is driven by nothing the first life loads,
/// or needs a clock, supply, power domain, reset or pin whose driver is a module that it does not
/// load: the kernel waits for those (Documentation/driver-api/driver-model/driver.rst, "fw_devlink").
///
/// A tree without such a device says nothing about the disk, and passes.
pub fn check(tree: &DeviceTree, drivers: &Drivers, loaded: &BTreeSet<String>) -> Result<()> {
    for device in disks(tree) {
        let path = tree.path(device);
        let names = tree.node(device).compatible();
        let built_in = names.iter().any(|name| drivers.built_in.contains(*name));
        let modules = modules_for(&names, drivers);
        if !built_in && modules.is_empty() {
            bail!(
                "the kernel has no driver for {path} ({}), which holds the card: it needs another kernel",
                names.join(", ")
            );
        }
        if !built_in && modules.is_disjoint(loaded) {
            bail!("{}", missing(&path, &modules));
        }
        check_suppliers(tree, device, drivers, loaded)
            .with_context(|| format!("{path} holds the card"))?;
    }
    Ok(())
}

/// The controllers of cards and eMMC: the generic name is `mmc` (Devicetree Specification, 2.2.2).
/// One with a Wi-Fi chip below it has no room for a card.
fn disks(tree: &DeviceTree) -> Vec<usize> {
    let is_wifi = |index: usize| {
        tree.nodes().any(|(_, node)| node.parent == index && node.name.starts_with("wifi@"))
    };
    tree.nodes()
        .filter(|(_, node)| node.name.starts_with("mmc@"))
        .map(|(index, _)| index)
        .filter(|index| tree.is_enabled(*index) && !is_wifi(*index))
        .collect()
}

fn check_suppliers(
    tree: &DeviceTree,
    device: usize,
    drivers: &Drivers,
    loaded: &BTreeSet<String>,
) -> Result<()> {
    let mut seen = BTreeSet::from([device]);
    let mut open = VecDeque::from([device]);
    while let Some(index) = open.pop_front() {
        let needed = tree.suppliers(index).into_iter().filter_map(|supplier| {
            // Pins, for one, are described below what drives them.
            tree.above(supplier).find(|above| !tree.node(*above).compatible().is_empty())
        });
        for supplier in needed {
            if !seen.insert(supplier) {
                continue;
            }
            open.push_back(supplier);
            let names = tree.node(supplier).compatible();
            let modules = modules_for(&names, drivers);
            let built_in = names.iter().any(|name| drivers.built_in.contains(*name));
            // What no module names is built in without saying so, as early clocks are.
            if !built_in && !modules.is_empty() && modules.is_disjoint(loaded) {
                bail!("{}", missing(&tree.path(supplier), &modules));
            }
        }
    }
    Ok(())
}

fn modules_for(names: &[&str], drivers: &Drivers) -> BTreeSet<String> {
    names.iter().filter_map(|name| drivers.modules.get(*name)).flatten().cloned().collect()
}

fn missing(path: &str, modules: &BTreeSet<String>) -> String {
    let names: Vec<&str> = modules.iter().map(String::as_str).collect();
    format!(
        "{path} is driven by {}, which the first life does not load: add it to the board file's `chooser_modules` or `first_life_modules`",
        names.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::device_tree::tests::{blob, BOARD};
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
        assert!(message.contains("/soc/mmc@2 is driven by card,"), "{message}");
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

    #[test]
    fn a_controller_with_wifi_or_switched_off_holds_no_card() {
        let wifi = BOARD.replace("vmmc-supply = <2>", "wifi@1\n        reg = <1>");
        assert_eq!(verdict(&wifi, &Drivers::default(), &[]), Ok(()));
    }
}
