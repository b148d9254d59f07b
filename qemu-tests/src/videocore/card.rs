//! The card of a Raspberry Pi in QEMU, and what else its power is switched on of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Model;
use crate::disk::Disk;

/// What the power is switched on of.
pub(crate) struct Card {
    /// Names the log of what QEMU itself says.
    pub name: String,
    /// The board.
    pub model: Model,
    /// The card, of a power of two in size, as QEMU asks: [`Disk::grow`].
    pub disk: Disk,
    /// The public key in its flash memory, if it boots signed cards only.
    pub key: Option<PathBuf>,
    /// TCP ports of the guest, and those of 127.0.0.1 that lead there.
    pub ports: BTreeMap<u16, u16>,
    /// The folder for logs.
    pub logs: PathBuf,
}
