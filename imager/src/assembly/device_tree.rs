//! Reads flattened device trees (Devicetree Specification 0.4, chapter 5): which nodes there are,
//! what drives them, and what they need from each other.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// A board's tree has some hundred nodes; the largest of Debian's some thousand.
const MAX_NODES: usize = 20_000;
/// Nodes below each other.
const MAX_DEPTH: usize = 64;
const MAGIC: u32 = 0xD00D_FEED;

/// A device tree; its nodes by index, the root first, each behind its parent.
#[derive(Debug)]
pub struct DeviceTree<'a> {
    nodes: Vec<Node<'a>>,
    by_phandle: BTreeMap<u32, usize>,
}

/// A node.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its name, `mmc@7e202000`.
    pub name: &'a str,
    /// The index of the node it is in; the root's is its own.
    pub parent: usize,
    properties: BTreeMap<&'a str, &'a [u8]>,
}

impl<'a> DeviceTree<'a> {
    /// Reads `blob`, the content of a `.dtb`.
    pub fn read(blob: &'a [u8]) -> Result<DeviceTree<'a>> {
        let field = |at: usize| number(blob, at).context("it is shorter than its header");
        ensure!(field(0)? == MAGIC, "it does not begin with d00dfeed");
        let part = |offset: u32, size: u32| {
            let start = offset as usize;
            blob.get(start..start.saturating_add(size as usize)).context("a part of it is missing")
        };
        let structure = part(field(8)?, field(36)?)?;
        let strings = part(field(12)?, field(32)?)?;
        let mut tree = DeviceTree { nodes: Vec::new(), by_phandle: BTreeMap::new() };
        tree.fill(structure, strings)?;
        ensure!(!tree.nodes.is_empty(), "it has no root node");
        for (index, node) in tree.nodes.iter().enumerate() {
            if let Some(phandle) = node.number("phandle") {
                tree.by_phandle.insert(phandle, index);
            }
        }
        Ok(tree)
    }

    fn fill(&mut self, structure: &'a [u8], strings: &'a [u8]) -> Result<()> {
        const BEGIN: u32 = 1;
        const END: u32 = 2;
        const PROPERTY: u32 = 3;
        const NOTHING: u32 = 4;
        const LAST: u32 = 9;
        let mut open: Vec<usize> = Vec::new();
        let mut at = 0;
        loop {
            let token = number(structure, at).context("it ends in the middle")?;
            at += 4;
            match token {
                BEGIN => {
                    let name = text(structure, at)?;
                    at = (at + name.len() + 1).next_multiple_of(4);
                    let index = self.nodes.len();
                    ensure!(index < MAX_NODES, "it has more than {MAX_NODES} nodes");
                    ensure!(open.len() < MAX_DEPTH, "its nodes are too deep");
                    ensure!(open.is_empty() == self.nodes.is_empty(), "it has two roots");
                    let parent = open.last().copied().unwrap_or(0);
                    self.nodes.push(Node { name, parent, properties: BTreeMap::new() });
                    open.push(index);
                }
                END => {
                    open.pop().context("a node ends that did not begin")?;
                }
                PROPERTY => {
                    let length = number(structure, at).context("it ends in a property")? as usize;
                    let name = number(structure, at + 4).context("it ends in a property")?;
                    let name = text(strings, name as usize)?;
                    let value = structure
                        .get(at + 8..(at + 8).saturating_add(length))
                        .context("a property is longer than what is left")?;
                    at = (at + 8 + length).next_multiple_of(4);
                    let node = open.last().and_then(|index| self.nodes.get_mut(*index));
                    node.context("a property outside of all nodes")?.properties.insert(name, value);
                }
                NOTHING => {}
                LAST => return Ok(()),
                other => bail!("it has an unknown token {other}"),
            }
        }
    }

    /// All nodes with their indices.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &Node<'a>)> {
        self.nodes.iter().enumerate()
    }

    /// The node of this index.
    pub fn node(&self, index: usize) -> &Node<'a> {
        &self.nodes[index]
    }

    /// The path of a node, `/soc/mmc@7e202000`.
    pub fn path(&self, index: usize) -> String {
        match self.above(index).skip(1).last() {
            None => "/".to_owned(),
            Some(_) => {
                let mut names: Vec<_> = self.above(index).map(|i| self.nodes[i].name).collect();
                names.reverse();
                names.join("/")
            }
        }
    }

    /// This node, its parent, and so on up to the root.
    pub fn above(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(index), |index| {
            let parent = self.nodes[*index].parent;
            (parent != *index).then_some(parent)
        })
    }

    /// Whether neither the node nor one that it lies in is switched off.
    pub fn is_enabled(&self, index: usize) -> bool {
        let on =
            |status: Option<&[u8]>| status.is_none_or(|value| matches!(value, b"okay\0" | b"ok\0"));
        self.above(index).all(|index| on(self.nodes[index].properties.get("status").copied()))
    }

    /// The nodes that this one needs to work: what it names as its clock, supply, power domain,
    /// reset, mailbox, phy, interconnect or pins (Devicetree Specification and the bindings of each).
    /// Of these the kernel can do without none; DMA engines and IOMMUs it can (Linux
    /// drivers/of/property.c, `of_supplier_bindings`).
    pub fn suppliers(&self, index: usize) -> Vec<usize> {
        let mut found = Vec::new();
        for (name, value) in &self.nodes[index].properties {
            let cells = match *name {
                "clocks" => Some("#clock-cells"),
                "power-domains" => Some("#power-domain-cells"),
                "resets" => Some("#reset-cells"),
                "mboxes" => Some("#mbox-cells"),
                "phys" => Some("#phy-cells"),
                "interconnects" => Some("#interconnect-cells"),
                "gpios" | "gpio" => Some("#gpio-cells"),
                name if name.ends_with("-gpios") || name.ends_with("-gpio") => Some("#gpio-cells"),
                "mmc-pwrseq" => None,
                name if is_pins(name) => None,
                name if name.ends_with("-supply") => None,
                _ => continue,
            };
            self.named_in(value, cells, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The nodes in a list of phandles, each with as many cells behind it as the named node says.
    fn named_in(&self, value: &[u8], cells: Option<&str>, found: &mut Vec<usize>) {
        let mut at = 0;
        while let Some(phandle) = number(value, at) {
            let Some(index) = self.by_phandle.get(&phandle).copied() else { return };
            found.push(index);
            let behind = cells.and_then(|cells| self.nodes[index].number(cells)).unwrap_or(0);
            let Some(next) = (behind as usize).checked_mul(4).and_then(|n| n.checked_add(at + 4))
            else {
                return;
            };
            at = next;
        }
    }
}

impl<'a> Node<'a> {
    /// What it is compatible with, the most exact first.
    pub fn compatible(&self) -> Vec<&'a str> {
        let value = self.properties.get("compatible").copied().unwrap_or_default();
        let texts = value.split(|byte| *byte == 0).filter(|text| !text.is_empty());
        texts.filter_map(|text| std::str::from_utf8(text).ok()).collect()
    }

    /// A property of one cell.
    fn number(&self, property: &str) -> Option<u32> {
        self.properties.get(property).and_then(|value| number(value, 0))
    }
}

/// `pinctrl-0`, `pinctrl-1` and so on.
fn is_pins(property: &str) -> bool {
    property
        .strip_prefix("pinctrl-")
        .is_some_and(|state| !state.is_empty() && state.bytes().all(|b| b.is_ascii_digit()))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let cell = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([cell[0], cell[1], cell[2], cell[3]]))
}

fn text(bytes: &[u8], at: usize) -> Result<&str> {
    let rest = bytes.get(at..).context("a name lies outside of it")?;
    let end = rest.iter().position(|byte| *byte == 0).context("a name does not end")?;
    std::str::from_utf8(&rest[..end]).context("a name is no text")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes a tree from lines: a node's name with its indent (two spaces a level), or
    /// `name = value`, the value a number in `<>`, a list of them, or texts separated by commas.
    pub(crate) fn blob(lines: &str) -> Vec<u8> {
        let (mut structure, mut strings) = (Vec::new(), Vec::new());
        let mut depth = 0;
        let put = |structure: &mut Vec<u8>, number: u32| structure.extend(number.to_be_bytes());
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let level = (line.len() - line.trim_start().len()) / 2;
            let Some((name, value)) = line.trim().split_once(" = ") else {
                (level..depth).for_each(|_| put(&mut structure, 2));
                put(&mut structure, 1);
                structure.extend(line.trim().trim_start_matches('/').as_bytes());
                structure.push(0);
                structure.resize(structure.len().next_multiple_of(4), 0);
                depth = level + 1;
                continue;
            };
            let value: Vec<u8> = match value.strip_prefix('<').and_then(|v| v.strip_suffix('>')) {
                Some(cells) => cells
                    .split(' ')
                    .flat_map(|cell| cell.parse::<u32>().unwrap().to_be_bytes())
                    .collect(),
                None => {
                    value.split(',').map(|t| t.replace('+', ",") + "\0").collect::<String>().into()
                }
            };
            put(&mut structure, 3);
            put(&mut structure, value.len() as u32);
            put(&mut structure, strings.len() as u32);
            strings.extend(name.as_bytes());
            strings.push(0);
            structure.extend(value);
            structure.resize(structure.len().next_multiple_of(4), 0);
        }
        (0..depth).for_each(|_| put(&mut structure, 2));
        put(&mut structure, 9);
        let mut blob = Vec::new();
        let (at, total) = (40, 40 + structure.len() + strings.len());
        let strings_at = at + structure.len();
        for field in [MAGIC, total as u32, at as u32, strings_at as u32, 0, 17, 16, 0] {
            put(&mut blob, field);
        }
        put(&mut blob, strings.len() as u32);
        put(&mut blob, structure.len() as u32);
        blob.extend(structure);
        blob.extend(strings);
        blob
    }

    pub(crate) const BOARD: &str = "
/
  compatible = raspberrypi+test,brcm+bcm2711
  soc
    compatible = simple-bus
    clock@1
      compatible = brcm+clock
      #clock-cells = <1>
      phandle = <1>
    mmc@2
      compatible = brcm+card,generic+card
      clocks = <1 28 1 3>
      vmmc-supply = <2>
    mmc@3
      compatible = brcm+sdio
      status = disabled
      child
        compatible = brcm+below
  regulator
    compatible = regulator-gpio
    phandle = <2>
";

    #[test]
    fn nodes_what_drives_them_and_what_they_need() {
        let blob = blob(BOARD);
        let tree = DeviceTree::read(&blob).unwrap();
        let find = |name: &str| tree.nodes().find(|(_, node)| node.name == name).unwrap().0;
        assert_eq!(tree.node(0).compatible(), ["raspberrypi,test", "brcm,bcm2711"]);
        assert_eq!(tree.path(find("mmc@2")), "/soc/mmc@2");
        assert_eq!(tree.node(find("mmc@2")).compatible(), ["brcm,card", "generic,card"]);
        assert_eq!(tree.suppliers(find("mmc@2")), [find("clock@1"), find("regulator")]);
        assert!(tree.is_enabled(find("mmc@2")));
        assert!(!tree.is_enabled(find("mmc@3")) && !tree.is_enabled(find("child")));
    }

    #[test]
    fn a_damaged_tree_is_an_error_and_never_a_panic() {
        let whole = blob(BOARD);
        for length in 0..whole.len() {
            assert!(DeviceTree::read(&whole[..length]).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                if let Ok(tree) = DeviceTree::read(&damaged) {
                    for (index, _) in tree.nodes() {
                        let _ = (tree.path(index), tree.suppliers(index), tree.is_enabled(index));
                    }
                }
            }
        }
    }
}
