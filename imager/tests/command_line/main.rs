//! The command line as a person or a script meets it: the built `imager`, run on files.

mod bad_input;
mod image_keys;
mod own_kernel;
mod real_build;
mod world;
