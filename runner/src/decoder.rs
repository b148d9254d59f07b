//! From output tensors to a result. One kind of decoder, one file.

pub mod classification;
pub mod nms;
mod output_index;
pub mod raw;
pub mod ssd_faces;

use crate::config;
use crate::error::Error;
use crate::input::Input;
use crate::picture::Placement;
use crate::tensor::{Tensor, TensorInfo};
use serde::Serialize;

/// A decoder made ready for one model.
pub enum Decoder {
    /// Faces of MediaPipe's BlazeFace models.
    SsdFaces(ssd_faces::SsdFaces),
    /// One score for each class.
    Classification(classification::Classification),
    /// The tensors as they are.
    Raw(raw::Settings),
}

/// What the model says about one input.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Things found, best first.
    Detections(Vec<nms::Detection>),
    /// Classes, best first.
    Classes(Vec<classification::Class>),
    /// All outputs.
    Tensors(Vec<raw::Output>),
}

impl Decoder {
    /// Checks the settings against the model's outputs and computes what never changes.
    pub fn new(
        settings: &config::Decoder,
        outputs: &[TensorInfo],
        input: &Input,
    ) -> Result<Self, Error> {
        match settings {
            config::Decoder::SsdFaces(s) => {
                ssd_faces::SsdFaces::new(s, outputs, input).map(Self::SsdFaces)
            }
            config::Decoder::Classification(s) => {
                classification::Classification::new(s, outputs).map(Self::Classification)
            }
            config::Decoder::Raw(s) => Ok(Self::Raw(s.clone())),
        }
    }

    /// Reads the outputs of one invoke. `placement` is where the picture lay in the input.
    pub fn decode(&self, outputs: &[Tensor], placement: Option<&Placement>) -> Outcome {
        match self {
            Self::SsdFaces(decoder) => Outcome::Detections(decoder.decode(outputs, placement)),
            Self::Classification(decoder) => Outcome::Classes(decoder.decode(outputs)),
            Self::Raw(settings) => Outcome::Tensors(raw::decode(settings, outputs)),
        }
    }
}
