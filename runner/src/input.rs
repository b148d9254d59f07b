//! `[input]` of `model.toml`: the input tensor and how it is filled.

use crate::config::section;
use crate::model_file::InputTensor;
use serde::{Deserialize, Deserializer};

/// Most numbers that a tensor of `kind = "tensor"` has.
const MAX_NUMBERS: usize = 64 << 20;

/// The input tensor and how it is filled.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)
)]
pub enum Input {
    /// A PNG or JPEG, resized and normalised. The tensor is `[1, height, width, channels]`
    /// (or `[1, channels, height, width]` with `layout = "nchw"`), and says its own type and
    /// quantisation.
    Picture(PictureInput),
    /// The tensor's bytes as they are (little endian), of exactly its length, or its numbers as a
    /// JSON list or CSV.
    Tensor(TensorInput),
}

/// A tensor that is sent as it is.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TensorInput {
    /// Index of the input tensor.
    #[serde(default)]
    pub tensor: usize,
    /// Its shape, where the model leaves some of it open.
    pub shape: Option<Vec<usize>>,
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        match section::take_kind(&mut table, &["picture", "tensor"])?.as_str() {
            "picture" => section::read(table).map(Self::Picture),
            _ => section::read(table).map(Self::Tensor),
        }
    }
}

impl Input {
    /// Index of the input tensor.
    pub fn tensor(&self) -> usize {
        match self {
            Self::Picture(picture) => picture.tensor,
            Self::Tensor(input) => input.tensor,
        }
    }

    /// Fails on numbers that make no sense, naming the key.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Picture(picture) => picture.check(),
            Self::Tensor(input) => input.check(),
        }
    }

    /// The shape that the tensor has to be given: `None` where the model has it already. Fails where
    /// the model has another one that it does not leave open.
    pub fn resize(&self, tensor: &InputTensor) -> Result<Option<Vec<usize>>, String> {
        let wanted = match self {
            Self::Picture(picture) => picture.shape().to_vec(),
            Self::Tensor(TensorInput { shape: Some(shape), .. }) => shape.clone(),
            Self::Tensor(_) => return Ok(None),
        };
        if wanted == tensor.shape {
            return Ok(None);
        }
        let open = wanted.len() == tensor.shape.len()
            && (0..wanted.len())
                .all(|axis| wanted[axis] == tensor.shape[axis] || tensor.open[axis]);
        match open {
            true => Ok(Some(wanted)),
            false => Err(other_shape(&wanted, &tensor.name, &tensor.shape)),
        }
    }
}

/// The sentence for a model that is not what `model.toml` says.
pub fn other_shape(wanted: &[usize], name: &str, shape: &[usize]) -> String {
    format!(
        "input: model.toml describes a tensor of shape {wanted:?}, but {name:?} of model.tflite has {shape:?}"
    )
}

impl TensorInput {
    fn check(&self) -> Result<(), String> {
        let Some(shape) = &self.shape else { return Ok(()) };
        let numbers = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n));
        if shape.len() > 8 || !numbers.is_some_and(|n| (1..=MAX_NUMBERS).contains(&n)) {
            return Err(format!(
                "input.shape: expected at most 8 numbers of at least 1, whose product is at most {MAX_NUMBERS}"
            ));
        }
        Ok(())
    }
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
    /// The tensor's shape.
    pub fn shape(&self) -> [usize; 4] {
        let (w, h, c) = (self.width as usize, self.height as usize, self.channels.count());
        match self.layout {
            Layout::Nhwc => [1, h, w, c],
            Layout::Nchw => [1, c, h, w],
        }
    }

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
        match self.range {
            None if self.mean.is_none() && self.std.is_none() => {
                return Err("input.range is missing: what 0 and 255 become, [0.0, 1.0] or [-1.0, 1.0] with most models, [0.0, 255.0] if the model takes them as they are; ask the one who trained it (or mean and std)".into());
            }
            Some([low, high]) if low == high => {
                return Err(format!(
                    "input.range = [{low:?}, {high:?}]: every pixel would be {low:?}; the first number is what black becomes, the second what white does"
                ));
            }
            _ => {}
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
