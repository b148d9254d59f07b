//! What an image that joins wireless networks has on its root: the radio's firmware, every country's
//! rules, and the name under which the kernel asks for modules.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::device_tree::DeviceTree;
use super::kernel::KernelFiles;
use crate::config::board::Wifi;
use crate::config::{Board, Image};
use crate::sources::Inputs;
use debian::deb::Deb;
use debian::tarball::MemberKind;
use imagefs::tree::Tree;

/// Where the kernel looks for firmware (Linux drivers/base/firmware_loader/main.c, `fw_path`).
const FIRMWARE: &str = "/usr/lib/firmware";
/// The database of countries' rules and its signature, as the kernel asks for them (Linux
/// net/wireless/reg.c), and as the package `wireless-regdb` has them: signed by its authors, whose key
/// is built into every kernel; beside it lies one that only Debian's kernels take.
const RULES: [(&str, &str); 2] = [
    ("regulatory.db", "regulatory.db-upstream"),
    ("regulatory.db.p7s", "regulatory.db.p7s-upstream"),
];
/// What the kernel runs to have a module loaded (CONFIG_MODPROBE_PATH).
const MODPROBE: &str = "/usr/sbin/modprobe";
/// Most links from one file of a package to another.
const MAX_LINKS: usize = 8;

/// The radio, for an image that uses it.
///
/// Fails when the image does and the board has none.
pub fn radio<'a>(image: &Image, board: &'a Board) -> Result<Option<&'a Wifi>> {
    if image.network.wifi.is_none() {
        return Ok(None);
    }
    match &board.wifi {
        Some(radio) => Ok(Some(radio)),
        None => bail!(
            "the image asks for Wi-Fi, but {} has none: its board file has no [wifi]",
            board.name()
        ),
    }
}

/// Adds what the radio's drivers and the kernel ask for.
pub fn add(tree: &mut Tree, radio: &Wifi, inputs: &Inputs, kernel: &KernelFiles) -> Result<()> {
    let mut names = BTreeSet::new();
    for firmware in &radio.firmware {
        let package = firmware.package.as_str();
        let deb = inputs.wifi_firmware.iter().find(|deb| deb.name == package);
        let deb = deb.with_context(|| format!("{package} is not locked; run `imager lock`"))?;
        for (name, file) in firmware.names() {
            let bytes = followed(deb, &format!("{}/{file}", firmware.folder))?;
            tree.file(&format!("{FIRMWARE}/{name}"), 0o644, bytes)?;
            names.insert(name);
        }
        // The licence asks that its text goes along. Each package has it (Debian Policy 12.5).
        let licence = format!("usr/share/doc/{package}/copyright");
        tree.file(&licence, 0o644, deb.file(&licence)?)?;
    }
    for (name, file) in RULES {
        ensure!(
            tree.follow(&format!("{FIRMWARE}/{file}")).is_some(),
            "the package wireless-regdb has no {file}"
        );
        tree.symlink(&format!("{FIRMWARE}/{name}"), file)?;
    }
    tree.symlink(MODPROBE, "/sbin/init")?;
    for (file, blob) in &kernel.device_trees {
        let board = DeviceTree::read(blob).with_context(|| format!("device tree {file}"))?;
        check_settings(&board, &names).with_context(|| format!("device tree {file}"))?;
    }
    Ok(())
}

/// The bytes of a package's file, by way of its links.
fn followed(deb: &Deb, path: &str) -> Result<Vec<u8>> {
    let mut path = path.trim_start_matches('/').to_owned();
    for _ in 0..MAX_LINKS {
        let member = deb.members(|found| found == path)?.pop();
        match member.map(|member| member.kind) {
            Some(MemberKind::File(bytes)) => return Ok(bytes),
            Some(MemberKind::SymbolicLink(target)) => path = beside(&path, &target)?,
            _ => break,
        }
    }
    bail!("package {} {} has no file {path}; correct the board file", deb.name, deb.version)
}

/// Where a link at `path` leads, both relative to the package's root.
fn beside(path: &str, target: &str) -> Result<String> {
    ensure!(!target.starts_with('/'), "the link {path} leads out of its package");
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().with_context(|| format!("the link {path} leads out of its package"))?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Fails when this board's radio would find no settings. A Broadcom chip on SDIO runs only with what
/// its maker wrote for the board around it: `CHIP.BOARD.txt`, BOARD the first name that the device
/// tree's root is compatible with, else `CHIP.txt` (Linux brcmfmac/firmware.c,
/// `brcmf_fw_request_nvram_done` and of.c, `brcmf_of_probe`).
fn check_settings(tree: &DeviceTree, names: &BTreeSet<&str>) -> Result<()> {
    let has_radio = tree.nodes().any(|(index, node)| {
        tree.is_enabled(index) && node.compatible().contains(&"brcm,bcm4329-fmac")
    });
    let compatible = tree.node(0).compatible();
    let Some(board) = compatible.first().filter(|_| has_radio) else { return Ok(()) };
    let chips = names.iter().filter_map(|name| name.strip_suffix("-sdio.bin"));
    let wanted: Vec<_> = chips
        .flat_map(|chip| [format!("{chip}-sdio.{board}.txt"), format!("{chip}-sdio.txt")])
        .collect();
    ensure!(
        wanted.iter().any(|name| names.contains(name.as_str())),
        "its radio asks for settings that the board file does not name: one of {}",
        wanted.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::device_tree::tests::blob;
    use super::*;

    #[test]
    fn links_within_a_package_are_followed() {
        use debian::fixtures::open_deb;
        assert_eq!(beside("a/brcm/x.bin", "../cypress/y.bin").unwrap(), "a/cypress/y.bin");
        assert!(beside("a/x", "../../y").is_err());
        assert!(beside("a/x", "/y").is_err());
        let (_folder, deb) = open_deb("fw", &[("lib/x.bin", "bytes")]);
        assert_eq!(followed(&deb, "/lib/x.bin").unwrap(), b"bytes");
        let message = followed(&deb, "/lib/y.bin").unwrap_err().to_string();
        assert!(message.contains("fw 1 has no file lib/y.bin"), "{message}");
    }

    #[test]
    fn a_radio_without_settings_for_its_board_fails_the_build() {
        let radio = "\n/\n  compatible = maker+board-2,chip\n  wifi@1\n    compatible = brcm+bcm4329-fmac\n";
        let check = |lines: &str, names: &[&str]| {
            let blob = blob(lines);
            let tree = DeviceTree::read(&blob).unwrap();
            check_settings(&tree, &names.iter().copied().collect()).map_err(|e| e.to_string())
        };
        let chip = "brcm/brcmfmac43455-sdio.bin";
        for settings in ["brcm/brcmfmac43455-sdio.maker,board-2.txt", "brcm/brcmfmac43455-sdio.txt"]
        {
            assert_eq!(check(radio, &[chip, settings]), Ok(()));
        }
        let message = check(radio, &[chip, "brcm/brcmfmac43455-sdio.maker,board.txt"]).unwrap_err();
        assert!(message.contains("brcmfmac43455-sdio.maker,board-2.txt"), "{message}");
        assert!(check(radio, &[]).is_err());
        assert_eq!(check("\n/\n  compatible = maker+board\n", &[]), Ok(()));
    }
}
