//! How the update client behaves: each module tells one part of it, on a device made of files and
//! against servers that misbehave. The power-cut sweep is a program of its own (`../sweep`).

#[path = "../support/mod.rs"]
mod support;

mod at_once;
mod attacks;
mod bad_servers;
mod candidates;
mod chunk_sources;
mod clocks;
mod command_line;
mod commit_gate;
mod decay;
mod floors;
mod heartbeat;
mod install;
mod reports;
mod resume;
mod sticks;
mod struck_out;
mod thrift;
mod tls;
mod trials;
mod writer;
