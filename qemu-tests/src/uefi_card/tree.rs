//! The device tree of a unified kernel image: Devicetree Specification 0.4, chapter 5 "Flattened
//! Devicetree (DTB) Format".

use anyhow::{Context, Result, bail, ensure};

use super::Board;
use crate::card::big;

const BEGIN: usize = 1;
const END: usize = 2;
const PROPERTY: usize = 3;
const NOTHING: usize = 4;
const LAST: usize = 9;
/// The longest tree: the kernel maps no more (Documentation/arch/arm64/booting.rst, 2 "Setup the
/// device tree").
const LONGEST: usize = 2 << 20;

/// A node: its properties, and the node that it stands in.
struct Node<'a> {
    name: &'a str,
    above: usize,
    properties: Vec<(&'a str, &'a [u8])>,
}

/// A tree, its root first.
pub struct Tree<'a>(Vec<Node<'a>>);

impl<'a> Tree<'a> {
    /// Reads a whole tree.
    pub fn read(blob: &'a [u8]) -> Result<Tree<'a>> {
        ensure!(blob.starts_with(&[0xD0, 0x0D, 0xFE, 0xED]), "is no device tree");
        let total = big(blob, 4)?;
        // systemd's stub hands on as many bytes as the section has.
        ensure!(total == blob.len(), "says {total} bytes, the section has {}", blob.len());
        ensure!(total <= LONGEST, "is longer than {LONGEST} bytes");
        let (version, compatible) = (big(blob, 20)?, big(blob, 24)?);
        ensure!(version >= 17 && compatible <= 17, "is of the version {version}");
        let (mut at, strings) = (big(blob, 8)?, big(blob, 12)?);
        let mut nodes = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        loop {
            match big(blob, at)? {
                BEGIN => {
                    let name = text(blob, at + 4)?;
                    at = (at + 4 + name.len() + 1).next_multiple_of(4);
                    let above = open.last().copied().unwrap_or(0);
                    open.push(nodes.len());
                    nodes.push(Node { name, above, properties: Vec::new() });
                }
                END => {
                    open.pop().context("a node ends that did not begin")?;
                    at += 4;
                }
                PROPERTY => {
                    let (length, name) = (big(blob, at + 4)?, big(blob, at + 8)?);
                    let value = blob.get(at + 12..).and_then(|rest| rest.get(..length));
                    let value = value.context("a property is cut off")?;
                    let node = open.last().and_then(|index| nodes.get_mut(*index));
                    let name = text(blob, strings.saturating_add(name))?;
                    node.context("a property of no node")?.properties.push((name, value));
                    at = (at + 12 + length).next_multiple_of(4);
                }
                NOTHING => at += 4,
                LAST => break,
                other => bail!("has the token {other:#x} at {at:#x}"),
            }
        }
        ensure!(!nodes.is_empty() && open.is_empty(), "is cut off");
        Ok(Tree(nodes))
    }

    /// It is this board's, and has what its image counts on.
    pub fn check(&self, board: &Board) -> Result<()> {
        let root = self.compatible(0);
        ensure!(
            root == board.compatible,
            "is of a board that is compatible with {}",
            root.join(", ")
        );
        for device in board.devices {
            let there = (0..self.0.len())
                .any(|node| self.is_enabled(node) && self.compatible(node).contains(device));
            ensure!(there, "has no {device} that is switched on");
        }
        Ok(())
    }

    /// What a module in the initramfs has to drive: the controllers of cards and eMMC, and those of
    /// their supplies that no chip of their own has, by a name (Devicetree Specification 0.4, 2.2.2
    /// "Generic Names Recommendation": `mmc`) and what it is compatible with.
    pub fn disks(&self) -> Result<Vec<(&'a str, Vec<&'a str>)>> {
        let mut found = Vec::new();
        for (index, node) in self.0.iter().enumerate() {
            if !node.name.starts_with("mmc@") || !self.is_enabled(index) {
                continue;
            }
            found.push((node.name, self.compatible(index)));
            for (name, value) in &node.properties {
                if !name.ends_with("-supply") {
                    continue;
                }
                let supply = self.by_handle(big(value, 0)?);
                let supply = supply.with_context(|| format!("{}: no {name}", node.name))?;
                let compatible = self.compatible(supply);
                if !compatible.is_empty() {
                    found.push((self.0[supply].name, compatible));
                }
            }
        }
        ensure!(!found.is_empty(), "has no card and no eMMC that is switched on");
        Ok(found)
    }

    fn by_handle(&self, handle: usize) -> Option<usize> {
        let is = |node: &Node| {
            let value = node.properties.iter().find(|(name, _)| *name == "phandle");
            value.is_some_and(|(_, value)| big(value, 0).is_ok_and(|number| number == handle))
        };
        self.0.iter().position(is)
    }

    fn property(&self, node: usize, name: &str) -> Option<&'a [u8]> {
        let found = self.0[node].properties.iter().find(|property| property.0 == name);
        found.map(|(_, value)| *value)
    }

    fn compatible(&self, node: usize) -> Vec<&'a str> {
        let value = self.property(node, "compatible").unwrap_or_default();
        let texts = value.split(|byte| *byte == 0).filter(|text| !text.is_empty());
        texts.filter_map(|text| std::str::from_utf8(text).ok()).collect()
    }

    /// 2.3.4, "status", of this node and all above it.
    fn is_enabled(&self, mut node: usize) -> bool {
        loop {
            if !matches!(self.property(node, "status"), None | Some(b"okay\0" | b"ok\0")) {
                return false;
            }
            if node == 0 {
                return true;
            }
            node = self.0[node].above;
        }
    }
}

fn text(blob: &[u8], at: usize) -> Result<&str> {
    let rest = blob.get(at..).context("it ends early")?;
    let end = rest.iter().position(|byte| *byte == 0).context("a name does not end")?;
    Ok(std::str::from_utf8(&rest[..end])?)
}
