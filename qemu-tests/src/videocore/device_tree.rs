//! The harness's own copy of a device tree, changed where QEMU is not the board. All changes keep
//! every length, so that the tree stays whole: a string becomes one that nothing drives, and what
//! is taken out becomes tokens that mean nothing (Devicetree Specification 0.4, 5.4).

use anyhow::{Context, Result, ensure};

use super::Model;

/// The power manager, which is the watchdog too. QEMU resets the machine the moment its watchdog is
/// armed, so no driver may find it there. Restarting goes through it as well: the kernel says that
/// it restarts, and then nothing happens.
const POWER_MANAGERS: [&str; 3] = ["brcm,bcm2835-pm", "brcm,bcm2835-pm-wdt", "brcm,bcm2711-pm"];
/// Of the Pi 4's HDMI block QEMU has nothing; drivers that are built in touch these parts of it.
const PI4_HDMI: [&str; 4] =
    ["brcm,bcm2711-l2-intc", "brcm,l2-intc", "brcm,bcm2711-hdmi-i2c", "brcm,brcm2711-dvp"];
/// QEMU's Pi 4 has its card where the board has its Wi-Fi. And the first UART has to be the console
/// instead of Bluetooth's: the second one gets no interrupts.
const PI4_NODES: [&str; 2] = ["wifi@1", "bluetooth"];
/// What QEMU's firmware cannot switch: its answers about these pins are errors. By node.
const PI4_PROPERTIES: [(&str, &[&str]); 2] = [
    ("mmc@7e300000", &["mmc-pwrseq", "non-removable", "pinctrl-0", "pinctrl-names"]),
    ("mmc@7e340000", &["vmmc-supply", "vqmmc-supply"]),
];

const BEGIN: u32 = 1;
const END: u32 = 2;
const PROPERTY: u32 = 3;
const NOTHING: u32 = 4;

/// The tree of this model's board for QEMU's machine of that name.
pub fn for_qemu(model: Model, tree: &[u8]) -> Result<Vec<u8>> {
    let mut tree = tree.to_vec();
    let mut found = 0;
    for name in POWER_MANAGERS {
        found += undriven(&mut tree, name);
    }
    ensure!(found > 0, "the device tree has no power manager");
    if model == Model::Pi4 {
        for name in PI4_HDMI {
            ensure!(undriven(&mut tree, name) > 0, "the device tree has no {name}");
        }
        take_out(&mut tree)?;
    }
    Ok(tree)
}

/// Makes what is compatible with `name` something that nothing drives. Gives how many there were.
fn undriven(tree: &mut [u8], name: &str) -> usize {
    let name = [name.as_bytes(), b"\0"].concat();
    let mut found = 0;
    for at in 0..tree.len().saturating_sub(name.len()) {
        if tree[at..at + name.len()] == name[..] {
            tree[at] = b'-';
            found += 1;
        }
    }
    found
}

/// Takes out the nodes and properties that QEMU's Pi 4 must not have.
fn take_out(tree: &mut [u8]) -> Result<()> {
    let number = |tree: &[u8], at: usize| -> Result<usize> {
        let cell = tree.get(at..at + 4).context("the device tree ends early")?;
        Ok(u32::from_be_bytes([cell[0], cell[1], cell[2], cell[3]]) as usize)
    };
    let text = |tree: &[u8], at: usize| -> Result<String> {
        let rest = tree.get(at..).context("the device tree ends early")?;
        let end = rest.iter().position(|byte| *byte == 0).context("a name does not end")?;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    let (mut at, strings) = (number(tree, 8)?, number(tree, 12)?);
    let mut open: Vec<(String, usize)> = Vec::new();
    let mut removed = 0;
    loop {
        let start = at;
        let mut out = None;
        match number(tree, at)? as u32 {
            BEGIN => {
                let name = text(tree, at + 4)?;
                at = (at + 4 + name.len() + 1).next_multiple_of(4);
                open.push((name, start));
            }
            END => {
                let (name, begin) = open.pop().context("a node ends that did not begin")?;
                at += 4;
                out = PI4_NODES.contains(&&*name).then_some(begin);
            }
            PROPERTY => {
                let (length, name) = (number(tree, at + 4)?, number(tree, at + 8)?);
                let name = text(tree, strings + name)?;
                at = (at + 12 + length).next_multiple_of(4);
                let node = open.last().map_or("", |(node, _)| node);
                let unwanted =
                    |(of, names): &(&str, &[&str])| *of == node && names.contains(&&*name);
                out = PI4_PROPERTIES.iter().any(unwanted).then_some(start);
            }
            NOTHING => at += 4,
            _ => break,
        }
        if let Some(from) = out {
            removed += 1;
            let cells = tree.get_mut(from..at).context("the device tree ends early")?;
            cells.chunks_exact_mut(4).for_each(|cell| cell.copy_from_slice(&NOTHING.to_be_bytes()));
        }
    }
    let wanted =
        PI4_NODES.len() + PI4_PROPERTIES.iter().map(|(_, names)| names.len()).sum::<usize>();
    ensure!(removed == wanted, "{removed} of {wanted} parts are in the device tree");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_watchdog_is_taken_out() {
        let tree = b"serial\0brcm,bcm2835-pm\0brcm,bcm2835-pm-wdt\0rest".to_vec();
        let changed = for_qemu(Model::Pi3, &tree).unwrap();
        assert_eq!(changed, b"serial\0-rcm,bcm2835-pm\0-rcm,bcm2835-pm-wdt\0rest");
        assert!(for_qemu(Model::Pi3, b"serial\0brcm,bcm2835-pmx\0").is_err());
    }
}
