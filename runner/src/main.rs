//! Runs one .tflite model as a workload.
fn main() {}
