//! Small `.tflite` models, written field by field as TensorFlow's `schema.fbs` numbers them.

/// A FlatBuffer table: its fields' numbers and values.
struct Table(Vec<(usize, Value)>);

enum Value {
    /// A number of up to 32 bits.
    Number(i32),
    Table(Table),
    Tables(Vec<Table>),
    Numbers(Vec<i32>),
    Bytes(Vec<u8>),
}

use Value::{Bytes, Number, Numbers, Tables};

/// TensorType.
const FLOAT32: i32 = 0;
const INT32: i32 = 2;
const COMPLEX64: i32 = 8;
/// BuiltinOperator.
const FULLY_CONNECTED: i32 = 9;
const RESHAPE: i32 = 22;
const STRIDED_SLICE: i32 = 45;
const CAST: i32 = 53;
const SHAPE: i32 = 77;
const PACK: i32 = 83;

/// What Keras makes of `Sequential([Input((8, 8, 1)), Flatten(), Dense(3)])`: the batch size is open,
/// and Flatten computes its shape, so that TensorFlow Lite knows the output's only after an invoke.
/// Class n is the sum of the pixels n, n + 3, n + 6 … Behind it an output `complex` of a type that no
/// decoder reads.
pub fn dense_with_open_batch() -> Vec<u8> {
    let weights: Vec<f32> =
        (0..3 * 64).map(|at| f32::from(u8::from(at % 64 % 3 == at / 64))).collect();
    let mut graph = Graph::default();
    let x = graph.tensor("x", FLOAT32, &[-1, 8, 8, 1]);
    let shape = graph.tensor("shape", INT32, &[4]);
    let [zero, one] = [("zero", 0), ("one", 1)].map(|(name, n)| graph.constant(name, &[1], &[n]));
    let batch = graph.tensor("batch", INT32, &[]);
    let pixels = graph.constant("pixels", &[], &[64]);
    let flat_shape = graph.tensor("flat_shape", INT32, &[2]);
    let flat = graph.tensor("flat", FLOAT32, &[-1, 64]);
    let weights = graph.weights("weights", &[3, 64], &weights);
    let bias = graph.weights("bias", &[3], &[0.0; 3]);
    let scores = graph.tensor("scores", FLOAT32, &[-1, 3]);
    let complex = graph.tensor("complex", COMPLEX64, &[-1, 3]);
    graph.operator(SHAPE, &[x], shape, 55, vec![(0, Number(INT32))]);
    graph.operator(STRIDED_SLICE, &[shape, zero, one, one], batch, 32, vec![(4, Number(1))]);
    graph.operator(PACK, &[batch, pixels], flat_shape, 59, vec![(0, Number(2))]);
    graph.operator(RESHAPE, &[x, flat_shape], flat, 17, vec![]);
    graph.operator(FULLY_CONNECTED, &[flat, weights, bias], scores, 8, vec![]);
    graph.operator(
        CAST,
        &[scores],
        complex,
        37,
        vec![(0, Number(FLOAT32)), (1, Number(COMPLEX64))],
    );
    graph.model(x, &[scores, complex])
}

/// A model's only graph.
#[derive(Default)]
struct Graph {
    tensors: Vec<Table>,
    operators: Vec<Table>,
    codes: Vec<Table>,
    buffers: Vec<Table>,
}

impl Graph {
    /// A tensor that is computed; -1 is an axis whose size is open.
    fn tensor(&mut self, name: &str, element: i32, signature: &[i32]) -> i32 {
        self.add(name, element, signature, Vec::new())
    }

    fn constant(&mut self, name: &str, shape: &[i32], values: &[i32]) -> i32 {
        self.add(name, INT32, shape, values.iter().flat_map(|n| n.to_le_bytes()).collect())
    }

    fn weights(&mut self, name: &str, shape: &[i32], values: &[f32]) -> i32 {
        self.add(name, FLOAT32, shape, values.iter().flat_map(|n| n.to_le_bytes()).collect())
    }

    fn add(&mut self, name: &str, element: i32, signature: &[i32], data: Vec<u8>) -> i32 {
        if self.buffers.is_empty() {
            // The first is the empty one, by the schema.
            self.buffers.push(Table(vec![]));
        }
        let buffer = if data.is_empty() { 0 } else { self.buffers.len() };
        if !data.is_empty() {
            self.buffers.push(Table(vec![(0, Bytes(data))]));
        }
        let shape = signature.iter().map(|n| n.abs()).collect();
        let mut fields = vec![
            (0, Numbers(shape)),
            (1, Number(element)),
            (2, Number(buffer as i32)),
            (3, Bytes(name.as_bytes().to_vec())),
        ];
        if signature.contains(&-1) {
            fields.push((7, Numbers(signature.to_vec())));
        }
        self.tensors.push(Table(fields));
        self.tensors.len() as i32 - 1
    }

    fn operator(
        &mut self,
        code: i32,
        inputs: &[i32],
        output: i32,
        options: i32,
        fields: Vec<(usize, Value)>,
    ) {
        self.operators.push(Table(vec![
            (0, Number(self.codes.len() as i32)),
            (1, Numbers(inputs.to_vec())),
            (2, Numbers(vec![output])),
            (3, Number(options)),
            (4, Value::Table(Table(fields))),
        ]));
        self.codes.push(Table(vec![(0, Number(code)), (2, Number(1)), (3, Number(code))]));
    }

    fn model(self, input: i32, outputs: &[i32]) -> Vec<u8> {
        let graph = Table(vec![
            (0, Tables(self.tensors)),
            (1, Numbers(vec![input])),
            (2, Numbers(outputs.to_vec())),
            (3, Tables(self.operators)),
        ]);
        let model = Table(vec![
            (0, Number(3)),
            (1, Tables(self.codes)),
            (2, Tables(vec![graph])),
            (4, Tables(self.buffers)),
        ]);
        let mut out = b"\0\0\0\0TFL3".to_vec();
        let root = table(&mut out, model);
        out[..4].copy_from_slice(&(root as u32).to_le_bytes());
        out
    }
}

/// Appends a table, what it points to behind it; returns where it is.
fn table(out: &mut Vec<u8>, Table(fields): Table) -> usize {
    align(out, 4, 0);
    let entries = fields.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
    let mut offsets = vec![0u16; entries];
    for (slot, (number, _)) in fields.iter().enumerate() {
        offsets[*number] = 4 + 4 * slot as u16;
    }
    let description = out.len();
    out.extend((4 + 2 * entries as u16).to_le_bytes());
    out.extend((4 + 4 * fields.len() as u16).to_le_bytes());
    offsets.iter().for_each(|offset| out.extend(offset.to_le_bytes()));
    align(out, 4, 0);
    let at = out.len();
    out.extend(((at - description) as u32).to_le_bytes());
    out.resize(at + 4 + 4 * fields.len(), 0);
    for (slot, (_, value)) in fields.into_iter().enumerate() {
        let field = at + 4 + 4 * slot;
        let number = match value {
            Number(number) => number as u32,
            other => (self::value(out, other) - field) as u32,
        };
        out[field..field + 4].copy_from_slice(&number.to_le_bytes());
    }
    at
}

/// Appends what is not kept in a table itself; returns where it is.
fn value(out: &mut Vec<u8>, value: Value) -> usize {
    match value {
        Value::Table(inner) => table(out, inner),
        Numbers(numbers) => {
            align(out, 4, 0);
            let at = out.len();
            out.extend((numbers.len() as u32).to_le_bytes());
            numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
            at
        }
        Bytes(bytes) => {
            // Weights are read in place, and must be aligned for that. Text ends with a zero.
            align(out, 16, 4);
            let at = out.len();
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
            out.push(0);
            at
        }
        Tables(tables) => {
            align(out, 4, 0);
            let at = out.len();
            out.extend((tables.len() as u32).to_le_bytes());
            out.resize(at + 4 + 4 * tables.len(), 0);
            for (index, inner) in tables.into_iter().enumerate() {
                let entry = at + 4 + 4 * index;
                let offset = (table(out, inner) - entry) as u32;
                out[entry..entry + 4].copy_from_slice(&offset.to_le_bytes());
            }
            at
        }
        Number(_) => unreachable!("kept in the table"),
    }
}

/// Zeros, until what comes `before` bytes later is aligned.
fn align(out: &mut Vec<u8>, to: usize, before: usize) {
    while !(out.len() + before).is_multiple_of(to) {
        out.push(0);
    }
}
