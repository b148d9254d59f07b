//! Faces with six points, from MediaPipe's BlazeFace models.
//!
//! The model and its numbers are documented in "BlazeFace: Sub-millisecond Neural Face Detection
//! on Mobile GPUs" (arXiv 1907.05047) and in MediaPipe's graph for the short-range model
//! (`mediapipe/modules/face_detection`, options of SsdAnchorsCalculator, TensorsToDetections and
//! NonMaxSuppression): anchors of size 1 at cell centres, two a cell for each layer that uses
//! the stride, box and points as offsets from the anchor's centre in input pixels, a score
//! before the sigmoid.

use super::nms::{self, Detection, Keypoint, Overlap, Rectangle};
use super::output_index::output_index;
use crate::error::Error;
use crate::input::Input;
use crate::picture::Placement;
use crate::tensor::{Tensor, TensorInfo};
use serde::Deserialize;

/// x, y, width, height of the box come first.
const BOX_VALUES: usize = 4;
/// Anchors of one cell for each layer of its stride: aspect ratio 1 at the layer's own scale
/// and at the one interpolated to the next layer.
const ANCHORS_PER_LAYER: usize = 2;
/// The points in the model's order.
const POINTS: [&str; 6] = ["right_eye", "left_eye", "nose", "mouth", "right_ear", "left_ear"];

/// `[decoder] kind = "ssd-faces"`. The defaults are the short-range model's.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Output with boxes and points.
    #[serde(default = "boxes")]
    pub boxes: String,
    /// Output with scores.
    #[serde(default = "scores")]
    pub scores: String,
    /// Stride of each layer in input pixels.
    #[serde(default = "strides")]
    pub strides: Vec<usize>,
    /// Detections below this score are dropped.
    #[serde(default = "half")]
    pub min_score: f32,
    /// Scores are clipped to ± this before the sigmoid.
    #[serde(default = "hundred")]
    pub clip: f32,
    /// Boxes that overlap more than this (intersection over union) are one face.
    #[serde(default = "three_tenths")]
    pub overlap: f32,
    /// What becomes of boxes that are one face.
    #[serde(default)]
    pub merge: Overlap,
    /// At most this many faces.
    #[serde(default = "hundred_faces")]
    pub max: usize,
}

fn boxes() -> String {
    "regressors".into()
}
fn scores() -> String {
    "classificators".into()
}
fn strides() -> Vec<usize> {
    vec![8, 16, 16, 16]
}
fn half() -> f32 {
    0.5
}
fn hundred() -> f32 {
    100.0
}
fn three_tenths() -> f32 {
    0.3
}
fn hundred_faces() -> usize {
    100
}

impl Settings {
    /// Fails on numbers that make no sense, naming the key.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in [("min_score", self.min_score), ("overlap", self.overlap)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("decoder.{key} = {value}: expected 0 to 1"));
            }
        }
        if self.strides.is_empty()
            || self.strides.len() > 16
            || self.strides.iter().any(|s| !(1..=512).contains(s))
        {
            return Err("decoder.strides: expected 1 to 16 numbers of 1 to 512".into());
        }
        let sensible = self.clip > 0.0 && self.clip.is_finite() && (1..=10_000).contains(&self.max);
        if !sensible {
            return Err("decoder: clip is above 0, max is 1 to 10000".into());
        }
        Ok(())
    }
}

/// The decoder with its anchors.
pub struct SsdFaces {
    settings: Settings,
    boxes: usize,
    scores: usize,
    input: [f32; 2],
    anchors: Vec<[f32; 2]>,
}

impl SsdFaces {
    /// Fails when the outputs do not have the anchors' number or 16 values each.
    pub fn new(settings: &Settings, outputs: &[TensorInfo], input: &Input) -> Result<Self, Error> {
        let Input::Picture(picture) = input else {
            return Err(Error::config(
                "decoder.kind = \"ssd-faces\" needs input.kind = \"picture\"",
            ));
        };
        let boxes = output_index("boxes", &settings.boxes, outputs)?;
        let scores = output_index("scores", &settings.scores, outputs)?;
        let anchors = anchors(picture.width as usize, picture.height as usize, &settings.strides);
        let values = BOX_VALUES + 2 * POINTS.len();
        for (index, shape) in [(boxes, [1, anchors.len(), values]), (scores, [1, anchors.len(), 1])]
        {
            if outputs[index].shape != shape {
                return Err(Error::config(format!(
                    "decoder: with these strides output {:?} must have shape {shape:?}, but it has {:?}",
                    outputs[index].name, outputs[index].shape
                )));
            }
        }
        Ok(Self {
            settings: settings.clone(),
            boxes,
            scores,
            input: [picture.width as f32, picture.height as f32],
            anchors,
        })
    }

    /// Faces, best first, in pixels of the picture.
    pub fn decode(&self, outputs: &[Tensor], placement: Option<&Placement>) -> Vec<Detection> {
        let per_anchor = outputs[self.boxes].values.chunks_exact(BOX_VALUES + 2 * POINTS.len());
        let found = outputs[self.scores]
            .values
            .iter()
            .zip(per_anchor)
            .zip(&self.anchors)
            .filter_map(|((raw, values), anchor)| {
                let score = sigmoid(raw.clamp(-self.settings.clip, self.settings.clip));
                let ok = values.iter().all(|v| v.is_finite());
                (ok && score >= self.settings.min_score)
                    .then(|| self.detection(score, values, anchor))
            })
            .collect();
        let mut faces =
            nms::suppress(found, self.settings.overlap, self.settings.merge, self.settings.max);
        if let Some(placement) = placement {
            faces.iter_mut().for_each(|face| face.place_in_picture(placement));
        }
        faces
    }

    /// In fractions of the input.
    fn detection(&self, score: f32, values: &[f32], anchor: &[f32; 2]) -> Detection {
        let point =
            |at: usize| [0, 1].map(|axis| values[at + axis] / self.input[axis] + anchor[axis]);
        let centre = point(0);
        let size = [values[2] / self.input[0], values[3] / self.input[1]];
        let keypoints = POINTS
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let [x, y] = point(BOX_VALUES + 2 * i);
                Keypoint { name, x, y }
            })
            .collect();
        Detection {
            score,
            bounds: Rectangle {
                x: centre[0] - size[0] / 2.0,
                y: centre[1] - size[1] / 2.0,
                width: size[0],
                height: size[1],
            },
            keypoints,
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Centres of all anchors, in fractions of the input: layers of one stride in a row share their
/// cells, row by row, each cell with all its anchors.
fn anchors(width: usize, height: usize, strides: &[usize]) -> Vec<[f32; 2]> {
    let mut anchors = Vec::new();
    for layers in strides.chunk_by(|a, b| a == b) {
        let (columns, rows) = (width.div_ceil(layers[0]), height.div_ceil(layers[0]));
        for row in 0..rows {
            for column in 0..columns {
                let centre =
                    [(column as f32 + 0.5) / columns as f32, (row as f32 + 0.5) / rows as f32];
                anchors.extend(std::iter::repeat_n(centre, layers.len() * ANCHORS_PER_LAYER));
            }
        }
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_range_model_has_896_anchors() {
        let anchors = anchors(128, 128, &strides());
        assert_eq!(anchors.len(), 896);
        assert_eq!(anchors[0], [0.5 / 16.0, 0.5 / 16.0]);
        assert_eq!(anchors[2], [1.5 / 16.0, 0.5 / 16.0], "two a cell, columns first");
        assert_eq!(anchors[512], [0.5 / 8.0, 0.5 / 8.0]);
        assert_eq!(
            anchors[512 + 6],
            [1.5 / 8.0, 0.5 / 8.0],
            "six a cell where three layers share it"
        );
        assert_eq!(anchors[895], [7.5 / 8.0, 7.5 / 8.0]);
    }

    #[test]
    fn a_raw_score_of_zero_is_a_half() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert!(sigmoid(-100.0) < 1e-30 && sigmoid(100.0) == 1.0);
    }
}
