//! `[input]` of `model.toml`: the input tensor and how it is filled.

use serde::Deserialize;

/// The input tensor and how it is filled.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Input {
    /// A PNG or JPEG, resized and normalised. The tensor is `[1, height, width, channels]`
    /// (or `[1, channels, height, width]` with `layout = "nchw"`), and says its own type and
    /// quantisation.
    Picture(PictureInput),
    /// The tensor's bytes as they are (little endian), of exactly its length.
    Tensor {
        /// Index of the input tensor.
        #[serde(default)]
        tensor: usize,
    },
}

/// How a picture becomes a tensor.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PictureInput {
    /// Index of the input tensor.
    #[serde(default)]
    pub tensor: usize,
    /// Columns of the tensor.
    pub width: u32,
    /// Rows of the tensor.
    pub height: u32,
    /// Colours.
    #[serde(default)]
    pub channels: Channels,
    /// Order of the tensor's axes.
    #[serde(default)]
    pub layout: Layout,
    /// Element type, checked against the tensor.
    pub dtype: Option<Dtype>,
    /// What 0 and 255 become, linear between: `[-1, 1]`. Not together with `mean`/`std`.
    pub range: Option<[f32; 2]>,
    /// Subtracted from 0…255, one for each channel.
    pub mean: Option<Vec<f32>>,
    /// Divides after `mean`, one for each channel.
    pub std: Option<Vec<f32>>,
    /// How another aspect ratio fits.
    #[serde(default)]
    pub resize: Resize,
    /// How pixels are interpolated.
    #[serde(default)]
    pub filter: Filter,
}

/// Colours of the input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma (ITU-R BT.601).
    Gray,
}

impl Channels {
    /// Values a pixel has.
    pub fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Gray => 1,
        }
    }
}

/// Order of the tensor's axes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Rows, columns, channels.
    #[default]
    Nhwc,
    /// Channels, rows, columns.
    Nchw,
}

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// IEEE 754 single precision.
    Float32,
    /// Signed, with scale and zero point.
    Int8,
    /// Unsigned, with scale and zero point.
    Uint8,
}

/// How a picture of another aspect ratio fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Keeps the aspect ratio, centred, the rest black.
    #[default]
    Letterbox,
    /// Fills the tensor.
    Stretch,
}

/// How pixels are interpolated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Linear, its reach growing with the reduction, so that no pixel is left out.
    #[default]
    Antialias,
    /// The four nearest pixels, as most training pipelines do.
    Bilinear,
}

impl PictureInput {
    /// Fails on numbers that make no sense, naming the key.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in [("width", self.width), ("height", self.height)] {
            if !(1..=4096).contains(&value) {
                return Err(format!("input.{key} = {value}: expected 1 to 4096"));
            }
        }
        if self.range.is_some() && (self.mean.is_some() || self.std.is_some()) {
            return Err("input: give either range or mean and std, not both".into());
        }
        for (key, list) in [("mean", &self.mean), ("std", &self.std)] {
            if list.as_ref().is_some_and(|l| l.len() != self.channels.count()) {
                return Err(format!(
                    "input.{key}: expected {} numbers, one a channel",
                    self.channels.count()
                ));
            }
        }
        let numbers = self
            .range
            .iter()
            .flatten()
            .chain(self.mean.iter().flatten())
            .chain(self.std.iter().flatten());
        if numbers.into_iter().any(|n| !n.is_finite())
            || self.std.iter().flatten().any(|s| *s == 0.0)
        {
            return Err("input: range, mean and std are finite numbers, and std is never 0".into());
        }
        Ok(())
    }
}
