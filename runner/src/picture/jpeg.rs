//! JPEG. The decoder makes the whole picture at once, one byte a sample; a picture in several scans
//! (a progressive one, say) also needs all its coefficients, two bytes each.

use super::orientation::Orientation;
use super::refusal::Refusal;
use super::rows::{Size, expand};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

/// Memory for tables and stacks.
const OVERHEAD: u64 = 512 << 10;
/// Bytes of row buffers for one column of one component, whatever its sampling.
const COLUMN: u64 = 256;
/// Coefficients come in blocks of up to so many columns and rows.
const BLOCK: u32 = 32;

/// A JPEG whose head was read.
pub struct Jpeg<'a> {
    decoder: JpegDecoder<ZCursor<&'a [u8]>>,
    size: Size,
    components: u64,
    /// Samples of a pixel in what the decoder makes.
    kept: usize,
    one_scan: bool,
    orientation: Orientation,
}

/// Reads the head.
pub fn open(bytes: &[u8]) -> Result<Jpeg<'_>, Refusal> {
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        // What is too large is for the caller to say.
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(refusal)?;
    if !has_end(bytes) {
        return Err(Refusal::ends_early());
    }
    let (Some((width, height)), Some(color), Some(info)) =
        (decoder.dimensions(), decoder.input_colorspace(), decoder.info())
    else {
        return Err(Refusal::damaged("JPEG"));
    };
    let (color, kept) = match color {
        ColorSpace::Luma => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    let orientation =
        decoder.exif().map_or(Orientation::UPRIGHT, |exif| Orientation::of_exif(exif));
    // Strict from here on: the decoder makes grey of what it cannot read otherwise.
    decoder.set_options(options.jpeg_set_out_colorspace(color).set_strict_mode(true));
    let one_scan = components_in_one_scan(bytes) == Some(info.components);
    Ok(Jpeg {
        decoder,
        size: Size { width: width as u32, height: height as u32 },
        components: u64::from(info.components),
        kept,
        one_scan,
        orientation,
    })
}

impl Jpeg<'_> {
    /// Columns and rows.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Which way up it is.
    pub fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// The most bytes that decoding takes, without the input.
    pub fn peak(&self) -> u64 {
        let Size { width, height } = self.size;
        let [columns, rows] = [width, height].map(|n| u64::from(n.next_multiple_of(BLOCK)));
        let coefficients = match self.one_scan {
            true => 0,
            false => columns * rows * self.components * 2,
        };
        let pixels = u64::from(width) * u64::from(height) * self.kept as u64;
        OVERHEAD + pixels + coefficients + columns * self.components * COLUMN
    }

    /// Hands over row after row of red, green, blue.
    pub fn read(mut self, mut take: impl FnMut(&[u8])) -> Result<(), Refusal> {
        let stride = self.size.width as usize * self.kept;
        let mut pixels = vec![0; stride * self.size.height as usize];
        self.decoder.decode_into(&mut pixels).map_err(refusal)?;
        let mut rgb = Vec::with_capacity(self.size.width as usize * 3);
        for row in pixels.chunks_exact(stride) {
            expand(row, self.kept, &mut rgb);
            take(&rgb);
        }
        Ok(())
    }
}

fn refusal(error: DecodeErrors) -> Refusal {
    match error {
        DecodeErrors::Unsupported(_) => Refusal::wrong(
            "a JPEG of this kind (lossless, or with arithmetic coding) is not read; save it as a baseline or progressive one",
        ),
        _ => Refusal::damaged("JPEG"),
    }
}

/// Whether the marker of the end is there (ITU-T T.81, annex B). The decoder itself would fill up what
/// is missing.
fn has_end(mut bytes: &[u8]) -> bool {
    while let Some(at) = bytes.iter().position(|byte| *byte == 0xff) {
        bytes = &bytes[at + 1..];
        match bytes {
            [0xd9, ..] => return true,
            // In a scan: a byte 0xff, a restart, a filling byte; TEM and SOI stand alone, too.
            [0x00 | 0x01 | 0xd0..=0xd8 | 0xff, ..] => {}
            [_, high, low, ..] => {
                let length = usize::from(*high) << 8 | usize::from(*low);
                let Some(rest) = bytes.get(1 + length..) else { return false };
                bytes = rest;
            }
            _ => return false,
        }
    }
    false
}

/// The components of the first scan of a baseline picture (ITU-T T.81, annex B). `None` for any
/// other, and where the markers are not as the standard has them: then the worst is assumed.
fn components_in_one_scan(bytes: &[u8]) -> Option<u8> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    loop {
        let [0xff, marker, high, low, after @ ..] = rest else { return None };
        let length = usize::from(*high) << 8 | usize::from(*low);
        let segment = after.get(..length.checked_sub(2)?)?;
        match marker {
            // SOF0 and SOF1 are followed by one scan or by several; the others by more than one,
            // or are not decoded at all.
            0xc2 | 0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return None,
            0xda => return segment.first().copied(),
            0xc0..=0xfe => rest = &after[segment.len()..],
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_plain_head_is_taken_for_one_scan() {
        let head = |sof: u8| {
            [&b"\xff\xd8\xff\xe0\0\x03x\xff"[..], &[sof], b"\0\x02\xff\xda\0\x05\x03ab"].concat()
        };
        assert_eq!(components_in_one_scan(&head(0xc0)), Some(3));
        assert_eq!(components_in_one_scan(&head(0xc2)), None);
        assert_eq!(components_in_one_scan(&head(0xc0)[..14]), None);
        assert_eq!(components_in_one_scan(b"\xff\xd8\xff\xff\xc0\0\x02"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [b"\xff\xd8", &bytes[..]].concat();
            let _ = (components_in_one_scan(&bytes), has_end(&bytes));
        }
    }
}
