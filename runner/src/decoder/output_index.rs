//! Which output a key of `[decoder]` means.

use crate::error::Error;
use crate::tensor::{ElementType, KNOWN_TYPES, TensorInfo};

/// The index of the output with this name; `model.toml` may also give the index itself. Fails where
/// there is none, and where its values are of a type that is not read.
pub fn output_index(key: &str, name: &str, outputs: &[TensorInfo]) -> Result<usize, Error> {
    let by_name = outputs.iter().position(|o| o.name == name);
    let by_index = name.parse::<usize>().ok().filter(|i| *i < outputs.len());
    let index = by_name.or(by_index).ok_or_else(|| {
        let names: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
        Error::config(format!(
            "decoder.{key}: model.tflite has no output {name:?}; it has {names:?}"
        ))
    })?;
    match outputs[index].element {
        ElementType::Other(kind) => Err(Error::config(format!(
            "decoder.{key}: output {name:?} has type {kind}; runner reads {KNOWN_TYPES}"
        ))),
        _ => Ok(index),
    }
}
