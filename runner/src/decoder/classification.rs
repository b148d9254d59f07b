//! One score for each class.

use super::output_index::output_index;
use crate::error::Error;
use crate::tensor::{Tensor, TensorInfo};
use serde::{Deserialize, Serialize};

/// `[decoder] kind = "classification"`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The output, by name or index.
    #[serde(default = "first")]
    pub output: String,
    /// Names of the classes, in the model's order. Without them a class is its number.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Classes in a result.
    #[serde(default = "one")]
    pub top: usize,
    /// The model's numbers are logits.
    #[serde(default)]
    pub softmax: bool,
}

/// A class and how sure the model is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Class {
    /// Its name, or its number.
    pub label: String,
    /// The model's score.
    pub score: f32,
}

fn first() -> String {
    "0".into()
}
fn one() -> usize {
    1
}

impl Settings {
    /// Fails on numbers that make no sense, naming the key.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=1000).contains(&self.top) {
            return Err(format!("decoder.top = {}: expected 1 to 1000", self.top));
        }
        Ok(())
    }
}

/// The decoder.
pub struct Classification {
    settings: Settings,
    output: usize,
}

impl Classification {
    /// Fails when the number of labels is not the output's length.
    pub fn new(settings: &Settings, outputs: &[TensorInfo]) -> Result<Self, Error> {
        let output = output_index("output", &settings.output, outputs)?;
        let classes: usize = outputs[output].shape.iter().product();
        if !settings.labels.is_empty() && settings.labels.len() != classes {
            return Err(Error::config(format!(
                "decoder.labels: {} names, but output {:?} has {classes} classes",
                settings.labels.len(),
                outputs[output].name
            )));
        }
        Ok(Self { settings: settings.clone(), output })
    }

    /// The best classes, best first; of equals the one with the lower number. A class without a
    /// finite score is left out.
    pub fn decode(&self, outputs: &[Tensor]) -> Vec<Class> {
        let mut scores = outputs[self.output].values.clone();
        let mut order: Vec<usize> = (0..scores.len()).filter(|i| scores[*i].is_finite()).collect();
        if self.settings.softmax {
            softmax(&mut scores, &order);
        }
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order
            .into_iter()
            .take(self.settings.top)
            .map(|i| Class {
                label: self.settings.labels.get(i).cloned().unwrap_or_else(|| i.to_string()),
                score: scores[i],
            })
            .collect()
    }
}

/// Over the values at `indices` alone.
fn softmax(values: &mut [f32], indices: &[usize]) {
    let most = indices.iter().map(|i| values[*i]).fold(f32::NEG_INFINITY, f32::max);
    indices.iter().for_each(|i| values[*i] = (values[*i] - most).exp());
    let sum: f32 = indices.iter().map(|i| values[*i]).sum();
    indices.iter().for_each(|i| values[*i] /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{ElementType, Quantisation};

    fn tensor(values: &[f32]) -> Tensor {
        Tensor {
            info: TensorInfo {
                name: "scores".into(),
                shape: vec![1, values.len()],
                element: ElementType::Float32,
                quantisation: Quantisation::default(),
                bytes: values.len() * 4,
            },
            values: values.to_vec(),
        }
    }

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn best_first_with_labels_and_softmax() {
        let t = tensor(&[1.0, 3.0, 1.0]);
        let s = settings("labels = [\"cat\", \"dog\", \"eel\"]\ntop = 2\nsoftmax = true");
        let classes = Classification::new(&s, std::slice::from_ref(&t.info)).unwrap().decode(&[t]);
        assert_eq!([&classes[0].label, &classes[1].label], ["dog", "cat"]);
        let expected = 1.0 / (1.0 + 2.0 * (-2.0f32).exp());
        assert!((classes[0].score - expected).abs() < 1e-6);
    }

    #[test]
    fn a_class_without_a_number_never_wins() {
        for softmax in ["", "softmax = true"] {
            for nan in [f32::NAN, -f32::NAN, f32::INFINITY] {
                let t = tensor(&[1.0, nan, 3.0]);
                let s = settings(&format!("top = 3\n{softmax}"));
                let decoder = Classification::new(&s, std::slice::from_ref(&t.info)).unwrap();
                let classes = decoder.decode(&[t]);
                let labels: Vec<&str> = classes.iter().map(|c| c.label.as_str()).collect();
                assert_eq!(labels, ["2", "0"]);
                assert!(classes.iter().all(|c| c.score.is_finite()));
            }
        }
    }

    #[test]
    fn a_wrong_number_of_labels_is_refused() {
        let t = tensor(&[0.0; 3]);
        let error = Classification::new(&settings("labels = [\"a\"]"), &[t.info]).err().unwrap();
        assert!(error.to_string().contains("labels"));
    }
}
