//! From the bytes of a PNG or JPEG to the bytes of the input tensor.
//!
//! A picture is judged by its head, before a pixel is decoded: by its sides and pixels, which bound
//! the time, and by what decoding it takes, which bounds the memory (`budget`). The rows then go
//! into the resizer one by one.

mod jpeg;
mod orientation;
mod png;
mod refusal;
mod rows;

use crate::error::Error;
use crate::input::{Channels, Dtype, Filter, Layout, PictureInput, Resize, other_shape};
use crate::tensor::{ElementType, TensorInfo};
pub use orientation::Orientation;
pub use refusal::Refusal;
use resample::Resizer;
use rows::MAX_SIDE;
pub use rows::Size;
use std::time::{Duration, Instant};

/// Most pixels taken: a small board needs some seconds for so many, in which no other picture is
/// decoded.
const MAX_PIXELS: u64 = 64 << 20;

/// A picture whose head was read.
pub struct Picture<'a> {
    /// Columns and rows as they are stored; neither is 0.
    pub size: Size,
    /// Which way up it is.
    pub orientation: Orientation,
    source: Source<'a>,
}

enum Source<'a> {
    Png(Box<png::Png<'a>>),
    Jpeg(Box<jpeg::Jpeg<'a>>),
}

/// Reads the head of a PNG or JPEG, told apart by its content. Fails on anything else, on damage, and
/// on pictures beyond the limits above.
pub fn open(bytes: &[u8]) -> Result<Picture<'_>, Refusal> {
    let (source, size, orientation) = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        let png = png::open(bytes)?;
        let (size, orientation) = (png.size(), png.orientation());
        (Source::Png(Box::new(png)), size, orientation)
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        let jpeg = jpeg::open(bytes)?;
        let (size, orientation) = (jpeg.size(), jpeg.orientation());
        (Source::Jpeg(Box::new(jpeg)), size, orientation)
    } else {
        return Err(Refusal::wrong(format!("not a PNG or JPEG picture{}", other_kind(bytes))));
    };
    let Size { width, height } = size;
    if width == 0 || height == 0 {
        return Err(Refusal::wrong("the picture is empty"));
    }
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(Refusal::too_large(format!(
            "the picture has {width} × {height} pixels, a side may have {MAX_SIDE}"
        )));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Refusal::too_large(format!(
            "the picture has {width} × {height} pixels, it may have {MAX_PIXELS}"
        )));
    }
    Ok(Picture { size, orientation, source })
}

/// What people send instead, by its head.
fn other_kind(bytes: &[u8]) -> &'static str {
    let brand = bytes.get(4..12).unwrap_or_default();
    match bytes {
        _ if brand.starts_with(b"ftyphei") || brand.starts_with(b"ftypmif") => {
            ", but HEIC, as phones write it: have the phone take JPEG, or convert it"
        }
        _ if brand == b"ftypavif" => ", but AVIF: convert it",
        _ if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => {
            ", but WebP: convert it"
        }
        _ if bytes.starts_with(b"GIF8") => ", but GIF: convert it",
        _ if bytes.starts_with(b"BM") => ", but BMP: convert it",
        _ if bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*") => ", but TIFF: convert it",
        _ if bytes.starts_with(b"%PDF") => ", but PDF",
        _ if bytes.starts_with(b"--") => {
            ", but a form: its Content-Type has to be multipart/form-data with the boundary, as curl -F sends it"
        }
        _ => "",
    }
}

impl Picture<'_> {
    /// The most bytes that decoding takes, without the input and what the rows are for.
    pub fn peak(&self) -> u64 {
        match &self.source {
            Source::Png(png) => png.peak(),
            Source::Jpeg(jpeg) => jpeg.peak(),
        }
    }

    fn read(self, take: impl FnMut(&[u8])) -> Result<(), Refusal> {
        match self.source {
            Source::Png(png) => png.read(take),
            Source::Jpeg(jpeg) => jpeg.read(take),
        }
    }
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
    /// Size of the picture, upright.
    pub picture: [f32; 2],
    /// How it was turned for that.
    pub orientation: Orientation,
}

impl Placement {
    /// A place given in fractions of the tensor (0…1), in pixels of the picture.
    pub fn in_picture(&self, fraction: [f32; 2]) -> [f32; 2] {
        [0, 1]
            .map(|axis| (fraction[axis] * self.tensor[axis] - self.offset[axis]) / self.scale[axis])
    }
}

/// Decodes, resizes and normalises pictures as the `[input]` of `model.toml` says. Needs no model.
pub struct Preprocessor {
    input: PictureInput,
}

impl Preprocessor {
    /// A preprocessor for the tensor that `input` describes.
    pub fn new(input: &PictureInput) -> Self {
        Self { input: input.clone() }
    }

    /// Peak memory of preprocessing this picture in bytes, its decoding included.
    pub fn peak(&self, picture: &Picture<'_>) -> u64 {
        let from = [picture.size.width as usize, picture.size.height as usize];
        let to = Size { width: self.input.width, height: self.input.height };
        let to = picture.orientation.turned(to);
        let to = [to.width as usize, to.height as usize];
        let numbers = to[0] as u64 * to[1] as u64 * self.input.channels.count() as u64 * 4;
        picture.peak() + Resizer::peak(from, to) + numbers
    }

    /// Size of a preprocessed picture in bytes.
    pub fn result_bytes(&self) -> u64 {
        u64::from(self.input.width)
            * u64::from(self.input.height)
            * self.input.channels.count() as u64
            * 4
    }

    /// Decodes, resizes and normalises: real numbers in the tensor's order, and how long everything
    /// but the decoding took. Fails on damage.
    pub fn preprocess(
        &self,
        picture: Picture<'_>,
    ) -> Result<(Vec<f32>, Placement, Duration), Refusal> {
        let (width, height) = (self.input.width as usize, self.input.height as usize);
        let orientation = picture.orientation;
        let (placement, target) =
            place(picture.size, orientation, [width, height], self.input.resize);
        let filter = match self.input.filter {
            Filter::Antialias => resample::Filter::Antialias,
            Filter::Bilinear => resample::Filter::Bilinear,
        };
        let from = [picture.size.width as usize, picture.size.height as usize];
        // Resized as it is stored and turned then: rows can come one by one.
        let stored = target.stored;
        let mut resizer = Resizer::new(from, stored, filter);
        let mut duration = Duration::ZERO;
        picture.read(|row| {
            let started = Instant::now();
            resizer.push(row);
            duration += started.elapsed();
        })?;
        let started = Instant::now();
        let resized = resizer.finish();
        let channels = self.input.channels.count();
        let tables: Vec<[f32; 2]> = (0..channels).map(|c| self.linear(c)).collect();
        let mut numbers = vec![0.0; width * height * channels];
        for y in 0..height {
            let row = y.checked_sub(target.at[1]).filter(|row| *row < target.size[1]);
            for x in 0..width {
                let column = x.checked_sub(target.at[0]).filter(|column| *column < target.size[0]);
                let rgb = match (row, column) {
                    (Some(row), Some(column)) => {
                        let [column, row] = orientation.stored([column, row], target.size);
                        let at = (row * stored[0] + column) * 3;
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
        Ok((numbers, placement, duration + started.elapsed()))
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
        let shape = input.shape();
        if tensor.shape != shape {
            return Err(Error::config(other_shape(&shape, &tensor.name, &tensor.shape)));
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
    /// The size before the picture is turned upright.
    stored: [usize; 2],
}

fn place(
    picture: Size,
    orientation: Orientation,
    to: [usize; 2],
    how: Resize,
) -> (Placement, Target) {
    let picture = orientation.turned(picture);
    let from = [picture.width as f32, picture.height as f32];
    let size = match how {
        Resize::Stretch => to,
        Resize::Letterbox => {
            let factor = (to[0] as f32 / from[0]).min(to[1] as f32 / from[1]);
            [0, 1].map(|axis| ((from[axis] * factor).round() as usize).clamp(1, to[axis]))
        }
    };
    let at = [0, 1].map(|axis| (to[axis] - size[axis]) / 2);
    let placement = Placement {
        offset: at.map(|n| n as f32),
        scale: [size[0] as f32 / from[0], size[1] as f32 / from[1]],
        tensor: to.map(|n| n as f32),
        picture: from,
        orientation,
    };
    let stored = if orientation.transposes() { [size[1], size[0]] } else { size };
    (placement, Target { at, size, stored })
}

#[cfg(test)]
mod tests;
