//! Whether an image uses the board's radio.

use anyhow::{Result, bail};

use crate::config::board::Wifi;
use crate::config::{Board, Image};

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
