//! `[secure_boot]` of an image file: what the board's own loader checks before it starts a slot.

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::board::Board;

/// `[secure_boot]`: signatures for loaders that lie in a board's ROM or flash memory.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SecureBoot {
    /// A Raspberry Pi's boot files become one signed RAM disk.
    #[serde(default)]
    pub raspberry_pi: bool,
}

impl SecureBoot {
    /// Fails when the board has nothing that would check it.
    pub fn check(&self, board: &Board) -> Result<()> {
        ensure!(
            !self.raspberry_pi || board.boot.secure_boot,
            "[secure_boot] `raspberry_pi` is set, and no loader of the board {} checks signatures: \
             build for another board, or leave it out (docs/choosers/rpi-secure-boot.md)",
            board.name()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn only_boards_whose_loader_checks_signatures_take_it() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs"));
        let signed = SecureBoot { raspberry_pi: true };
        for (board, takes) in
            [("rpi4", true), ("rpi5", true), ("rpi3", false), ("qemu-arm64", false)]
        {
            let board = Board::load(board, folder).unwrap();
            assert_eq!(signed.check(&board).is_ok(), takes, "{}", board.name());
            SecureBoot::default().check(&board).unwrap();
        }
    }
}
