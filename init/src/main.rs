//! PID 1 of Ferrite: first life in the initramfs, second life on the root.
fn main() {}
