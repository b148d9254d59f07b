//! Which way up a picture is: the tag Orientation of EXIF (CIPA DC-008, 4.6.5), which cameras set
//! instead of turning the pixels.

use super::rows::Size;

/// A value of the tag: where the stored rows and columns belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orientation(u8);

/// EXIF's block is a TIFF file; a head with more entries than this is none.
const MAX_ENTRIES: u16 = 512;
/// The tag's number, and the type of its value: 16 bits.
const TAG: u16 = 0x0112;
const SHORT: u16 = 3;

impl Orientation {
    /// As it is stored.
    pub const UPRIGHT: Orientation = Orientation(1);

    /// The tag's value, 1 to 8.
    pub fn value(self) -> u8 {
        self.0
    }

    /// Of an EXIF block, a TIFF file (TIFF 6.0, section 2). Upright where it says nothing that has a
    /// meaning.
    pub fn of_exif(exif: &[u8]) -> Orientation {
        read(exif).map_or(Self::UPRIGHT, Orientation)
    }

    /// Rows become columns.
    pub fn transposes(self) -> bool {
        self.0 >= 5
    }

    /// A stored size upright, and an upright one as stored.
    pub fn turned(self, Size { width, height }: Size) -> Size {
        match self.transposes() {
            true => Size { width: height, height: width },
            false => Size { width, height },
        }
    }

    /// The stored column and row of an upright one, of a picture with the upright size `[columns,
    /// rows]`.
    pub fn stored(self, [x, y]: [usize; 2], [columns, rows]: [usize; 2]) -> [usize; 2] {
        let (left, up) = (columns - 1 - x, rows - 1 - y);
        match self.0 {
            2 => [left, y],
            3 => [left, up],
            4 => [x, up],
            5 => [y, x],
            6 => [y, left],
            7 => [up, left],
            8 => [up, x],
            _ => [x, y],
        }
    }
}

fn read(exif: &[u8]) -> Option<u8> {
    let big = match exif.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let bytes = |at: usize, count: usize| exif.get(at..at.checked_add(count)?);
    let short = |at: usize| {
        let value: [u8; 2] = bytes(at, 2)?.try_into().ok()?;
        Some(if big { u16::from_be_bytes(value) } else { u16::from_le_bytes(value) })
    };
    let first: [u8; 4] = bytes(4, 4)?.try_into().ok()?;
    let first = if big { u32::from_be_bytes(first) } else { u32::from_le_bytes(first) } as usize;
    let count = short(first).filter(|count| *count <= MAX_ENTRIES)?;
    let entries = (0..usize::from(count)).map(|entry| first.checked_add(2 + 12 * entry));
    let tag = entries.flatten().find(|at| short(*at) == Some(TAG))?;
    let value = (short(tag.checked_add(2)?)? == SHORT).then(|| short(tag.checked_add(8)?))??;
    u8::try_from(value).ok().filter(|value| (1..=8).contains(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_value_leads_each_pixel_to_a_place_of_its_own() {
        for value in 1..=8 {
            let orientation = Orientation(value);
            let Size { width, height } = orientation.turned(Size { width: 3, height: 2 });
            let upright = [width as usize, height as usize];
            let mut seen = std::collections::BTreeSet::new();
            for y in 0..upright[1] {
                for x in 0..upright[0] {
                    let [column, row] = orientation.stored([x, y], upright);
                    assert!(column < 3 && row < 2, "{value}");
                    seen.insert([column, row]);
                }
            }
            assert_eq!(seen.len(), 6, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..80), big: bool) {
            let head: &[u8] = if big { b"MM\0*\0\0\0\x08" } else { b"II*\0\x08\0\0\0" };
            let _ = Orientation::of_exif(&bytes);
            prop_assert!((1..=8).contains(&Orientation::of_exif(&[head, &bytes].concat()).value()));
        }
    }
}
