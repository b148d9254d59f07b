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
    /// Truth (outputs only).
    Bool,
    /// One that is not read; its name as the schema has it.
    Other(&'static str),
}

/// The types that are read, for messages.
pub const KNOWN_TYPES: &str = "float32, int8, uint8, int32, int64 and bool";

impl ElementType {
    /// Bytes of one element; `None` where that does not matter, as its values are not read.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Int8 | Self::Uint8 | Self::Bool => Some(1),
            Self::Float32 | Self::Int32 => Some(4),
            Self::Int64 => Some(8),
            Self::Other(_) => None,
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
            Self::Bool => "bool",
            Self::Other(name) => name,
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

impl TensorInfo {
    /// The tensor's bytes of these numbers, quantised where it asks for that.
    pub fn stored(&self, numbers: &[f64]) -> Vec<u8> {
        let q = self.quantisation;
        let quantised = |least: i32, most: i32| {
            numbers.iter().map(move |n| q.stored(*n as f32, least, most) as u8).collect()
        };
        match self.element {
            ElementType::Int8 => quantised(-128, 127),
            ElementType::Uint8 => quantised(0, 255),
            ElementType::Bool => numbers.iter().map(|n| u8::from(*n != 0.0)).collect(),
            ElementType::Int32 => {
                numbers.iter().flat_map(|n| (n.round() as i32).to_le_bytes()).collect()
            }
            ElementType::Int64 => {
                numbers.iter().flat_map(|n| (n.round() as i64).to_le_bytes()).collect()
            }
            ElementType::Float32 | ElementType::Other(_) => {
                numbers.iter().flat_map(|n| (*n as f32).to_le_bytes()).collect()
            }
        }
    }

    /// The first of these numbers that the tensor cannot hold, in words; numbers that are quantised
    /// and float32 are rounded instead, as those of a picture are.
    pub fn unfit(&self, numbers: &[f64]) -> Option<String> {
        let bare = self.quantisation.scale == 1.0 && self.quantisation.zero_point == 0;
        let (least, most) = match self.element {
            ElementType::Int8 if bare => (-128.0, 127.0),
            ElementType::Uint8 if bare => (0.0, 255.0),
            ElementType::Bool => (0.0, 1.0),
            ElementType::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            // Beyond these a number in a list is not exact any more.
            ElementType::Int64 => (-9_007_199_254_740_992.0, 9_007_199_254_740_992.0),
            _ => return None,
        };
        let wrong = |n: &&f64| n.fract() != 0.0 || !(least..=most).contains(*n);
        let number = numbers.iter().find(wrong)?;
        Some(format!("{number} is no whole number from {least} to {most}"))
    }

    /// Its numbers in bytes, as whoever sends them has to know it: `6 × float32, little endian,
    /// 24 bytes`.
    pub fn in_bytes(&self) -> String {
        let size = self.element.size().unwrap_or(1);
        let order = if size > 1 { "little endian, " } else { "" };
        format!("{} × {}, {order}{} bytes", self.bytes / size, self.element.name(), self.bytes)
    }
}

/// An output with its values as real numbers.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// What it is.
    pub info: TensorInfo,
    /// Its values, last axis fastest; none of a type that is not read.
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

    #[test]
    fn numbers_that_a_tensor_of_integers_cannot_hold_are_named() {
        let tensor = |element, scale| TensorInfo {
            name: "x".into(),
            shape: vec![2],
            element,
            quantisation: Quantisation { scale, zero_point: 0 },
            bytes: 2,
        };
        for (element, good, bad) in [
            (ElementType::Uint8, [0.0, 255.0], 300.0),
            (ElementType::Int8, [-128.0, 127.0], 128.0),
            (ElementType::Int32, [-5.0, 7.0], 3e9),
            (ElementType::Int64, [0.0, 1e15], 1e17),
            (ElementType::Bool, [0.0, 1.0], 2.0),
            (ElementType::Int32, [0.0, 1.0], 1.7),
        ] {
            let tensor = tensor(element, 1.0);
            assert_eq!(tensor.unfit(&good), None);
            assert!(tensor.unfit(&[good[0], bad]).unwrap().contains("no whole number"));
        }
        assert_eq!(tensor(ElementType::Int8, 0.5).unfit(&[0.3, 500.0]), None);
        assert_eq!(tensor(ElementType::Float32, 1.0).unfit(&[0.3, 5e9]), None);
    }
    use proptest::prelude::*;

    #[test]
    fn numbers_are_stored_as_the_tensor_has_them() {
        let info = |element, bytes| TensorInfo {
            name: "x".into(),
            shape: vec![1, 2],
            element,
            quantisation: Quantisation { scale: 0.5, zero_point: -1 },
            bytes,
        };
        let float = info(ElementType::Float32, 24);
        assert_eq!(float.in_bytes(), "6 × float32, little endian, 24 bytes");
        assert_eq!(float.stored(&[1.5]), 1.5f32.to_le_bytes());
        let int8 = info(ElementType::Int8, 6);
        assert_eq!(int8.in_bytes(), "6 × int8, 6 bytes");
        assert_eq!(int8.stored(&[1.0, -3.0, 1e9]), [1, -7i8 as u8, 127]);
        // What no 32-bit float holds.
        let id = 16_777_217i32;
        assert_eq!(
            info(ElementType::Int64, 8).stored(&[f64::from(id)]),
            i64::from(id).to_le_bytes()
        );
        assert_eq!(info(ElementType::Int32, 4).stored(&[f64::from(id)]), id.to_le_bytes());
    }

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
