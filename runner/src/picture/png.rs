//! PNG, row by row. What comes is made red, green and blue of 8 bits each one row at a time; only an
//! interlaced picture is kept whole, with one byte a sample.

use super::orientation::Orientation;
use super::refusal::Refusal;
use super::rows::{Size, expand};
use png::Transformations;
use png::{BitDepth, ColorType, Decoder, DecodingError, InterlaceInfo, Limits, Reader};
use std::io::{Cursor, ErrorKind};

/// Memory for what is not pixels: palette, zlib's window, chunks that nobody asked for.
const OVERHEAD: u64 = 512 << 10;
/// What the decoder may take for chunks beside the pixels.
const CHUNKS: usize = 256 << 10;

/// A PNG whose head was read.
pub struct Png<'a>(Reader<Cursor<&'a [u8]>>);

/// Reads the head.
pub fn open(bytes: &[u8]) -> Result<Png<'_>, Refusal> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: CHUNKS });
    decoder.set_transformations(Transformations::EXPAND);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.read_info().map(Png).map_err(refusal)
}

fn refusal(error: DecodingError) -> Refusal {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Refusal::ends_early()
        }
        DecodingError::LimitsExceeded => Refusal::wrong(
            "what the picture has beside its pixels is too large; save it without metadata",
        ),
        _ => Refusal::damaged("PNG"),
    }
}

impl Png<'_> {
    /// Columns and rows.
    pub fn size(&self) -> Size {
        let info = self.0.info();
        Size { width: info.width, height: info.height }
    }

    /// Which way up it is. A camera's PNG says so before the pixels; what comes behind them is not
    /// known before they are read.
    pub fn orientation(&self) -> Orientation {
        let exif = self.0.info().exif_metadata.as_deref();
        exif.map_or(Orientation::UPRIGHT, Orientation::of_exif)
    }

    /// The most bytes that decoding takes, without the input.
    pub fn peak(&self) -> u64 {
        let Size { width, height } = self.size();
        // The decoder's own buffer holds some rows or 128 KiB, whichever is more; a row of it, one
        // expanded, one of ours.
        let row = u64::from(width) * 8;
        let interlaced = match self.0.info().interlaced {
            true => u64::from(width) * u64::from(height) * self.samples() as u64,
            false => 0,
        };
        OVERHEAD + row * 6 + interlaced
    }

    /// Samples of a pixel that are kept: one of a grey picture, else three.
    fn samples(&self) -> usize {
        match self.0.output_color_type().0 {
            ColorType::Grayscale | ColorType::GrayscaleAlpha => 1,
            _ => 3,
        }
    }

    /// Hands over row after row of red, green, blue.
    pub fn read(mut self, mut take: impl FnMut(&[u8])) -> Result<(), Refusal> {
        let Size { width, height } = self.size();
        let form = Form::new(self.0.output_color_type(), self.samples());
        let mut rgb = Vec::with_capacity(width as usize * 3);
        if !self.0.info().interlaced {
            while let Some(row) = self.0.next_row().map_err(refusal)? {
                rgb.clear();
                form.convert(row.data(), 3, &mut rgb);
                take(&rgb);
            }
            return self.0.finish().map_err(refusal);
        }
        let stride = width as usize * form.kept;
        let mut pixels = vec![0; stride * height as usize];
        let mut narrow = Vec::with_capacity(stride);
        while let Some(row) = self.0.next_interlaced_row().map_err(refusal)? {
            let InterlaceInfo::Adam7(info) = row.interlace() else { continue };
            narrow.clear();
            form.convert(row.data(), form.kept, &mut narrow);
            png::expand_interlaced_row(&mut pixels, stride, &narrow, info, form.kept as u8 * 8);
        }
        self.0.finish().map_err(refusal)?;
        for row in pixels.chunks_exact(stride) {
            expand(row, form.kept, &mut rgb);
            take(&rgb);
        }
        Ok(())
    }
}

/// How samples lie in a decoded row.
struct Form {
    /// Samples of a pixel.
    samples: usize,
    /// Bytes of a sample.
    bytes: usize,
    /// Samples of a pixel that matter: alpha does not.
    kept: usize,
}

impl Form {
    fn new((color, depth): (ColorType, BitDepth), kept: usize) -> Form {
        let bytes = if depth == BitDepth::Sixteen { 2 } else { 1 };
        Form { samples: color.samples(), bytes, kept }
    }

    /// Appends the row's pixels with `wanted` samples each, of 8 bits.
    fn convert(&self, row: &[u8], wanted: usize, out: &mut Vec<u8>) {
        for pixel in row.chunks_exact(self.samples * self.bytes) {
            for sample in 0..wanted {
                let at = sample.min(self.kept - 1) * self.bytes;
                out.push(match self.bytes {
                    1 => pixel[at],
                    // 65535 is 255, rounded.
                    _ => {
                        ((u32::from(pixel[at]) * 256 + u32::from(pixel[at + 1]) + 128) / 257) as u8
                    }
                });
            }
        }
    }
}
