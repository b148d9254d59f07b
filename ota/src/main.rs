//! Update client of Ferrite.
fn main() {}
