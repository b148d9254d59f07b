//! The output tensors as they are.

use crate::tensor::{ElementType, Tensor};
use serde::{Deserialize, Serialize};

/// `[decoder] kind = "raw"`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// At most this many values of each tensor are written.
    #[serde(default = "thousand")]
    pub max_values: usize,
}

fn thousand() -> usize {
    1000
}

impl Settings {
    /// Fails on numbers that make no sense, naming the key.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=1_000_000).contains(&self.max_values) {
            return Err(format!("decoder.max_values = {}: expected 1 to 1000000", self.max_values));
        }
        Ok(())
    }
}

/// One output tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output {
    /// Its name in the model.
    pub name: String,
    /// Elements along each axis.
    pub shape: Vec<usize>,
    /// Real values (dequantised), last axis fastest; null where the model said NaN.
    pub values: Vec<f32>,
    /// Values left out at the end.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// The type, where it is one whose values are not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<&'static str>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// All tensors, each cut at `max_values`.
pub fn decode(settings: &Settings, outputs: &[Tensor]) -> Vec<Output> {
    outputs
        .iter()
        .map(|tensor| Output {
            name: tensor.info.name.clone(),
            shape: tensor.info.shape.clone(),
            values: tensor.values.iter().take(settings.max_values).copied().collect(),
            left_out: tensor.values.len().saturating_sub(settings.max_values),
            unread: match tensor.info.element {
                ElementType::Other(kind) => Some(kind),
                _ => None,
            },
        })
        .collect()
}
