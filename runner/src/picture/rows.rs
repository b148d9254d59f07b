//! What the two formats' readers share: how large a picture may be, and its rows.

/// Longest side taken, in pixels: a long panorama of today's cameras.
pub const MAX_SIDE: u32 = 16384;

/// Columns and rows of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// A row of one or three samples a pixel as red, green, blue.
pub fn expand(row: &[u8], samples: usize, rgb: &mut Vec<u8>) {
    rgb.clear();
    match samples {
        1 => row.iter().for_each(|grey| rgb.extend_from_slice(&[*grey; 3])),
        _ => rgb.extend_from_slice(row),
    }
}
