//! Plain data about tensors, and the arithmetic of quantisation.

/// Element types that are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit float.
    Float32,
    /// Signed byte, quantised.
    Int8,
    /// Unsigned byte, quantised.
    Uint8,
    /// 32-bit integer (outputs only).
    Int32,
    /// 64-bit integer (outputs only).
    Int64,
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::Int8 | Self::Uint8 => 1,
            Self::Float32 | Self::Int32 => 4,
            Self::Int64 => 8,
        }
    }

    /// The name as `model.toml` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
        }
    }
}

/// Affine quantisation: real = scale × (stored − zero point), as the .tflite format defines it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// Real value of one step.
    pub scale: f32,
    /// The stored value that means 0.
    pub zero_point: i32,
}

impl Default for Quantisation {
    /// Stored numbers mean themselves.
    fn default() -> Self {
        Self { scale: 1.0, zero_point: 0 }
    }
}

impl Quantisation {
    /// The real values of stored ones.
    pub fn real_all<T: Copy + Into<i32>>(&self, stored: &[T]) -> Vec<f32> {
        // The zero point is any 32-bit number in a damaged model.
        stored
            .iter()
            .map(|v| (i64::from((*v).into()) - i64::from(self.zero_point)) as f32 * self.scale)
            .collect()
    }

    /// The nearest stored value within `least..=most`.
    pub fn stored(&self, real: f32, least: i32, most: i32) -> i32 {
        let steps = f64::from(real) / f64::from(self.scale) + f64::from(self.zero_point);
        // `as` sends NaN to 0 and clips the rest, so no input can leave the range.
        (steps.round() as i32).clamp(least, most)
    }
}

/// What a tensor is.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Its name in the model.
    pub name: String,
    /// Elements along each axis.
    pub shape: Vec<usize>,
    /// Element type.
    pub element: ElementType,
    /// Meaning of stored integers.
    pub quantisation: Quantisation,
    /// Length in bytes.
    pub bytes: usize,
}

/// An output with its values as real numbers.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// What it is.
    pub info: TensorInfo,
    /// Its values, last axis fastest.
    pub values: Vec<f32>,
}

impl Tensor {
    /// Names the first value that is NaN or an infinity.
    pub fn not_finite(&self) -> Option<String> {
        let index = self.values.iter().position(|value| !value.is_finite())?;
        let value = match self.values[index] {
            value if value.is_nan() => "NaN",
            value if value > 0.0 => "infinity",
            _ => "-infinity",
        };
        let name = &self.info.name;
        Some(format!("the model's output {name:?} is {value} at index {index}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantised_values_come_back(scale in 1e-4f32..10.0, zero_point in -128i32..=127, stored in -128i8..=127) {
            let q = Quantisation { scale, zero_point };
            let real = q.real_all(&[stored])[0];
            prop_assert_eq!(q.stored(real, -128, 127), i32::from(stored));
        }

        #[test]
        fn no_number_leaves_the_range(real in any::<f32>(), scale in any::<f32>(), zero_point in any::<i32>()) {
            let stored = Quantisation { scale, zero_point }.stored(real, -128, 127);
            prop_assert!((-128..=127).contains(&stored));
        }
    }
}
