//! The command line as a person or a script meets it: the built `imager`, run on files.

mod any_folder;
mod bad_input;
mod image_keys;
mod models;
mod outputs;
mod own_kernel;
mod projects;
mod real_build;
mod world;
