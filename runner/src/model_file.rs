//! What a `.tflite` file says of its inputs, read without an engine: which of their sizes the model
//! leaves open, which no function of TensorFlow Lite's bindings tells, and for whoever builds an image.
//!
//! The file is a FlatBuffer (flatbuffers.dev, "Internals") of TensorFlow's `schema.fbs`, whose field
//! numbers stand here. Whatever is not as they have it is `None`, never a fault: the engine judges it.

/// The file identifier of TensorFlow Lite's schema.
const IDENTIFIER: &[u8] = b"TFL3";
/// More inputs or axes than this are a damaged model.
const MAX_COUNT: usize = 256;

/// One input of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTensor {
    /// Its name in the model.
    pub name: String,
    /// Elements along each axis, 1 where that is open.
    pub shape: Vec<usize>,
    /// The axes whose size is open: -1 in the model's signature.
    pub open: Vec<bool>,
}

/// Fails, with what it seems to be, on a file that is no `.tflite` model.
pub fn check_head(bytes: &[u8]) -> Result<(), String> {
    if bytes.get(4..8) == Some(IDENTIFIER) {
        return Ok(());
    }
    const CONVERT: &str = "convert it with tf.lite.TFLiteConverter";
    let what = match bytes {
        [] => "it is empty".into(),
        _ if bytes.starts_with(b"\x89HDF") => format!("it is a Keras model (.h5); {CONVERT}"),
        _ if bytes.starts_with(b"PK\x03\x04") => {
            format!("it is a zip file, as Keras (.keras) and PyTorch write; {CONVERT}")
        }
        _ if bytes.starts_with(b"version https://git-lfs") => {
            "it is a pointer of Git LFS; fetch the file with git lfs pull".into()
        }
        _ if is_text(bytes) => "it is a text file; was another one meant?".into(),
        _ => "its head is not a .tflite model's; is it whole, and the right file?".into(),
    };
    Err(format!("model.tflite is not a .tflite model: {what}"))
}

fn is_text(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(512)];
    head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..))
}

/// Whether operators, tensors and buffers are all there with their bytes, which those of a file that
/// was cut off while it was copied are not.
pub fn is_whole(bytes: &[u8]) -> bool {
    whole(bytes).is_some()
}

fn whole(bytes: &[u8]) -> Option<()> {
    let model = Table::root(bytes)?;
    let (codes, graphs, buffers) = (model.tables(1)?, model.tables(2)?, model.tables(4)?);
    (0..codes.count).try_for_each(|index| codes.get(index)?.inside())?;
    for index in 0..buffers.count {
        let buffer = buffers.get(index)?;
        buffer.inside()?;
        buffer.has_bytes(0)?;
        // Of models above 2 GiB the numbers lie behind the FlatBuffer.
        let number = |field| buffer.field(field).map_or(Some(0), |at| read_u64(bytes, at));
        let end = number(1)?.checked_add(number(2)?)?;
        (end <= bytes.len() as u64).then_some(())?;
    }
    for index in 0..graphs.count {
        let graph = graphs.get(index)?;
        let (tensors, operators) = (graph.tables(0)?, graph.tables(3)?);
        (0..operators.count).try_for_each(|index| operators.get(index)?.inside())?;
        for index in 0..tensors.count {
            let tensor = tensors.get(index)?;
            tensor.inside()?;
            tensor.has_bytes(3)?;
            let buffer = tensor.field(2).map_or(Some(0), |at| read_u32(bytes, at))?;
            ((buffer as usize) < buffers.count).then_some(())?;
        }
    }
    Some(())
}

/// The inputs of the model's main graph.
pub fn inputs(bytes: &[u8]) -> Option<Vec<InputTensor>> {
    check_head(bytes).ok()?;
    let graphs = Table::root(bytes)?.tables(2)?;
    let graph = graphs.get(0)?;
    let tensors = graph.tables(0)?;
    graph
        .numbers(1)?
        .into_iter()
        .map(|index| input(tensors.get(usize::try_from(index).ok()?)?))
        .collect()
}

fn input(tensor: Table<'_>) -> Option<InputTensor> {
    let shape = tensor.numbers(0).unwrap_or_default();
    let signature = tensor.numbers(7).filter(|signature| signature.len() == shape.len());
    let signature = signature.unwrap_or_else(|| shape.clone());
    Some(InputTensor {
        name: tensor.text(3).unwrap_or_default(),
        open: signature.iter().map(|n| *n < 0).collect(),
        shape: shape.into_iter().map(|n| usize::try_from(n).ok()).collect::<Option<_>>()?,
    })
}

/// A table of the file; all offsets count from the start of the file.
#[derive(Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A vector of tables.
struct Tables<'a> {
    bytes: &'a [u8],
    first: usize,
    count: usize,
}

impl<'a> Table<'a> {
    fn root(bytes: &'a [u8]) -> Option<Table<'a>> {
        Some(Table { bytes, at: follow(bytes, 0)? })
    }

    /// Where a field's value is.
    fn field(&self, number: usize) -> Option<usize> {
        let back = i64::from(read_u32(self.bytes, self.at)? as i32);
        let description = usize::try_from(i64::try_from(self.at).ok()? - back).ok()?;
        let length = usize::from(read_u16(self.bytes, description)?);
        let entry = 4 + 2 * number;
        if entry + 2 > length {
            return None;
        }
        let offset = usize::from(read_u16(self.bytes, description.checked_add(entry)?)?);
        (offset != 0).then(|| self.at.checked_add(offset))?
    }

    /// A vector: where its first element is, and their number.
    fn vector(&self, number: usize) -> Option<(usize, usize)> {
        let at = follow(self.bytes, self.field(number)?)?;
        Some((at.checked_add(4)?, read_u32(self.bytes, at)? as usize))
    }

    /// Whether the table lies in the file as far as its description says that it goes.
    fn inside(&self) -> Option<()> {
        let back = i64::from(read_u32(self.bytes, self.at)? as i32);
        let description = usize::try_from(i64::try_from(self.at).ok()? - back).ok()?;
        let length = usize::from(read_u16(self.bytes, description.checked_add(2)?)?);
        self.bytes.get(self.at..self.at.checked_add(length)?).map(drop)
    }

    /// Whether a vector of bytes, if there is one, lies in the file.
    fn has_bytes(&self, number: usize) -> Option<()> {
        let Some((first, length)) = self.vector(number) else { return Some(()) };
        self.bytes.get(first..first.checked_add(length)?).map(drop)
    }

    fn tables(&self, number: usize) -> Option<Tables<'a>> {
        let (first, count) = self.vector(number)?;
        Some(Tables { bytes: self.bytes, first, count })
    }

    fn numbers(&self, number: usize) -> Option<Vec<i32>> {
        let (first, count) = self.vector(number).filter(|(_, count)| *count <= MAX_COUNT)?;
        (0..count).map(|i| read_u32(self.bytes, first + 4 * i).map(|n| n as i32)).collect()
    }

    fn text(&self, number: usize) -> Option<String> {
        let (first, length) = self.vector(number)?;
        let text = self.bytes.get(first..first.checked_add(length)?)?;
        String::from_utf8(text.to_vec()).ok()
    }
}

impl<'a> Tables<'a> {
    fn get(&self, index: usize) -> Option<Table<'a>> {
        if index >= self.count {
            return None;
        }
        let entry = self.first.checked_add(index.checked_mul(4)?)?;
        Some(Table { bytes: self.bytes, at: follow(self.bytes, entry)? })
    }
}

/// Where the offset at `at` leads.
fn follow(bytes: &[u8], at: usize) -> Option<usize> {
    at.checked_add(read_u32(bytes, at)? as usize)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
#[path = "../tests/tflite/mod.rs"]
mod tflite;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use proptest::prelude::*;

    fn config(input: &str) -> Config {
        Config::parse(&format!("name = \"x\"\n[input]\n{input}\n[decoder]\nkind = \"raw\"\n"))
            .unwrap()
    }

    fn picture(side: u32, channels: &str) -> Config {
        config(&format!(
            "kind = \"picture\"\nwidth = {side}\nheight = {side}\nchannels = \"{channels}\"\nrange = [0, 1]"
        ))
    }

    #[test]
    fn the_inputs_of_a_keras_export_have_their_open_axes() {
        let found = inputs(&tflite::dense_with_open_batch()).unwrap();
        let [input] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((input.name.as_str(), input.shape.as_slice()), ("x", &[1, 8, 8, 1][..]));
        assert_eq!(input.open, [true, false, false, false]);
    }

    #[test]
    fn a_model_file_is_judged_without_an_engine() {
        let model = tflite::dense_with_open_batch();
        assert_eq!(picture(8, "gray").check_model(&model), Ok(()));
        assert!(picture(9, "gray").check_model(&model).unwrap_err().contains("shape [1, 9, 9, 1]"));
        assert!(picture(8, "rgb").check_model(&model).unwrap_err().contains("shape [1, 8, 8, 3]"));
        let open = config("kind = \"tensor\"\nshape = [4, 8, 8, 1]");
        assert_eq!(open.check_model(&model), Ok(()));
        let another = config("kind = \"tensor\"\ntensor = 1");
        assert!(another.check_model(&model).unwrap_err().contains("1 inputs, counted from 0"));
        for (bytes, word) in [
            (&b""[..], "empty"),
            (b"import tensorflow as tf\n", "text file"),
            (b"PK\x03\x04....", "zip file"),
            (&model[..60], "damaged"),
            (&[0; 64], "is it whole"),
        ] {
            let error = picture(8, "gray").check_model(bytes).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_model_that_was_cut_off_is_not_whole() {
        let keras = include_bytes!("../tests/models/keras_int8.tflite");
        assert!(is_whole(keras));
        for length in 0..keras.len() {
            assert!(!is_whole(&keras[..length]), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_fall_over(at in 0usize..700, value: u8, cut in 0usize..700) {
            let mut bytes = tflite::dense_with_open_batch();
            let length = bytes.len();
            bytes[at % length] = value;
            let _ = (inputs(&bytes), is_whole(&bytes));
            bytes.truncate(cut);
            let _ = (inputs(&bytes), is_whole(&bytes));
        }
    }
}
