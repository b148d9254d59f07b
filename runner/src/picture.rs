//! From the bytes of a PNG or JPEG to the bytes of the input tensor.

use crate::config::{Channels, Dtype, Filter, Layout, PictureInput, Resize};
use crate::error::Error;
use crate::tensor::{ElementType, TensorInfo};
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Longest side taken, in pixels: a long panorama of today's cameras.
const MAX_SIDE: u32 = 16384;
/// Memory the decoder may take; a 50-megapixel photograph needs 150 MB, a device has less.
const MAX_DECODED: u64 = 96 << 20;

/// A decoded picture: rows of red, green, blue, 8 bits each.
pub struct Picture {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    pixels: Vec<u8>,
}

/// Where the picture lies in the tensor, to lead coordinates back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Tensor columns and rows left of and above the picture.
    pub offset: [f32; 2],
    /// Tensor columns for one picture column, and the same for rows.
    pub scale: [f32; 2],
    /// Size of the tensor.
    pub tensor: [f32; 2],
    /// Size of the picture.
    pub picture: [f32; 2],
}

impl Placement {
    /// A place given in fractions of the tensor (0…1), in pixels of the picture.
    pub fn in_picture(&self, fraction: [f32; 2]) -> [f32; 2] {
        [0, 1]
            .map(|axis| (fraction[axis] * self.tensor[axis] - self.offset[axis]) / self.scale[axis])
    }
}

/// Decodes a PNG or JPEG, told apart by its content. Fails on anything else, on damage, and on
/// pictures too large for the limits above.
pub fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| format!("not a picture: {e}"))?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err("not a PNG or JPEG picture".into());
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| format!("the picture cannot be decoded: {e}"))?;
    let rgb = match image {
        DynamicImage::ImageRgb8(rgb) => rgb,
        other => other.into_rgb8(),
    };
    let (width, height) = rgb.dimensions();
    if width == 0 || height == 0 {
        return Err("the picture is empty".into());
    }
    Ok(Picture { width, height, pixels: rgb.into_raw() })
}

/// Fits pictures into a tensor, as `model.toml` says. Knows nothing of the model itself.
pub struct Fitting {
    input: PictureInput,
}

impl Fitting {
    /// Fits pictures as `input` says.
    pub fn new(input: &PictureInput) -> Self {
        Self { input: input.clone() }
    }

    /// Resizes and normalises: real numbers in the tensor's order.
    pub fn numbers(&self, picture: &Picture) -> (Vec<f32>, Placement) {
        let (width, height) = (self.input.width as usize, self.input.height as usize);
        let (placement, target) = place(picture, width, height, self.input.resize);
        let filter = match self.input.filter {
            Filter::Antialias => resample::Filter::Antialias,
            Filter::Bilinear => resample::Filter::Bilinear,
        };
        let resized =
            resample::resize(&picture.pixels, picture.width as usize, target.size, filter);
        let channels = self.input.channels.count();
        let tables: Vec<[f32; 2]> = (0..channels).map(|c| self.linear(c)).collect();
        let mut numbers = vec![0.0; width * height * channels];
        for y in 0..height {
            let row = y.checked_sub(target.at[1]).filter(|row| *row < target.size[1]);
            for x in 0..width {
                let column = x.checked_sub(target.at[0]).filter(|column| *column < target.size[0]);
                let rgb = match (row, column) {
                    (Some(row), Some(column)) => {
                        let at = (row * target.size[0] + column) * 3;
                        [resized[at], resized[at + 1], resized[at + 2]]
                    }
                    _ => [0.0; 3],
                };
                let pixel = match self.input.channels {
                    Channels::Rgb => rgb,
                    Channels::Bgr => [rgb[2], rgb[1], rgb[0]],
                    Channels::Gray => [0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2], 0.0, 0.0],
                };
                for c in 0..channels {
                    let index = match self.input.layout {
                        Layout::Nhwc => (y * width + x) * channels + c,
                        Layout::Nchw => (c * height + y) * width + x,
                    };
                    numbers[index] = pixel[c] * tables[c][0] + tables[c][1];
                }
            }
        }
        (numbers, placement)
    }

    /// Factor and summand that normalise one channel's 0…255.
    fn linear(&self, channel: usize) -> [f32; 2] {
        if let Some([low, high]) = self.input.range {
            return [(high - low) / 255.0, low];
        }
        let pick = |list: &Option<Vec<f32>>, or: f32| list.as_ref().map_or(or, |l| l[channel]);
        let (mean, std) = (pick(&self.input.mean, 0.0), pick(&self.input.std, 1.0));
        [1.0 / std, -mean / std]
    }
}

/// The input tensor that pictures go into.
pub struct PictureTensor(TensorInfo);

impl PictureTensor {
    /// Fails when the tensor is not what `model.toml` says.
    pub fn new(input: &PictureInput, tensor: TensorInfo) -> Result<Self, Error> {
        let (w, h, c) = (input.width as usize, input.height as usize, input.channels.count());
        let shape = match input.layout {
            Layout::Nhwc => [1, h, w, c],
            Layout::Nchw => [1, c, h, w],
        };
        if tensor.shape != shape {
            return Err(Error::config(format!(
                "input: model.toml describes a tensor of shape {shape:?}, but {:?} of model.tflite has {:?}",
                tensor.name, tensor.shape
            )));
        }
        let said = input.dtype.map(|dtype| match dtype {
            Dtype::Float32 => ElementType::Float32,
            Dtype::Int8 => ElementType::Int8,
            Dtype::Uint8 => ElementType::Uint8,
        });
        let known =
            matches!(tensor.element, ElementType::Float32 | ElementType::Int8 | ElementType::Uint8);
        if !known || said.is_some_and(|said| said != tensor.element) {
            return Err(Error::config(format!(
                "input.dtype: {:?} of model.tflite is {}; a picture goes into float32, int8 or uint8",
                tensor.name,
                tensor.element.name()
            )));
        }
        Ok(Self(tensor))
    }

    /// The tensor's bytes of these numbers, quantised where it asks for that.
    pub fn bytes(&self, numbers: &[f32]) -> Vec<u8> {
        let q = self.0.quantisation;
        match self.0.element {
            ElementType::Int8 => {
                numbers.iter().map(|n| q.stored(*n, -128, 127) as i8 as u8).collect()
            }
            ElementType::Uint8 => numbers.iter().map(|n| q.stored(*n, 0, 255) as u8).collect(),
            _ => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        }
    }
}

/// The rectangle of the tensor that the picture fills.
struct Target {
    at: [usize; 2],
    size: [usize; 2],
}

fn place(picture: &Picture, width: usize, height: usize, how: Resize) -> (Placement, Target) {
    let from = [picture.width as f32, picture.height as f32];
    let to = [width, height];
    let size = match how {
        Resize::Stretch => to,
        Resize::Letterbox => {
            let factor = (width as f32 / from[0]).min(height as f32 / from[1]);
            [0, 1].map(|axis| ((from[axis] * factor).round() as usize).clamp(1, to[axis]))
        }
    };
    let at = [(width - size[0]) / 2, (height - size[1]) / 2];
    let placement = Placement {
        offset: at.map(|n| n as f32),
        scale: [size[0] as f32 / from[0], size[1] as f32 / from[1]],
        tensor: [width as f32, height as f32],
        picture: from,
    };
    (placement, Target { at, size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn corners_lead_back_to_the_picture(w in 1u32..3000, h in 1u32..3000, stretch: bool) {
            let how = if stretch { Resize::Stretch } else { Resize::Letterbox };
            let picture = Picture { width: w, height: h, pixels: Vec::new() };
            let (placement, target) = place(&picture, 128, 96, how);
            let corner = [(target.at[0] + target.size[0]) as f32 / 128.0, (target.at[1] + target.size[1]) as f32 / 96.0];
            let back = placement.in_picture(corner);
            prop_assert!((back[0] - w as f32).abs() < 1.0 && (back[1] - h as f32).abs() < 1.0);
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_picture_that_claims_to_be_huge_is_refused() {
        let mut png = Vec::new();
        image::RgbImage::new(4, 4).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        assert!(decode(&png).is_ok());
        // Width in IHDR, then its CRC over "IHDR" and 13 bytes.
        png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = decode(&png).err().unwrap();
        assert!(error.contains("imit") || error.contains("large"), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |c, _| {
                if c & 1 == 1 {
                    (c >> 1) ^ 0xedb8_8320
                } else {
                    c >> 1
                }
            })
        })
    }
}
