//! The command line: one file a subcommand.

pub mod boards;
pub mod build;
pub mod bundle;
pub mod check;
mod clock;
mod failure;
pub mod flash;
pub mod inspect;
pub mod keygen;
pub mod lock;
pub mod model;
pub mod new;
pub mod publish;
pub mod release;
pub mod repo;
pub mod run;
pub mod serve;
pub mod settings;
mod signing_keys;
mod sparse;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// From a few lines of TOML, a model and a board's name to a signed image and its updates.
#[derive(Parser)]
#[command(
    name = "imager",
    version,
    after_help = "The way, in order:
  imager new my-product && cd my-product
  imager keygen --out keys
  imager build --image my-product.toml --board qemu-arm64 --out out
  imager run out/my-product-qemu-arm64-0.1.0.img
  imager flash out/my-product-qemu-arm64-0.1.0.img
  imager release patch --image my-product.toml
  imager publish --repo repo out/my-product-qemu-arm64-0.1.1.update
  imager serve --repo repo

Exit codes: 0 done, 1 failed (the reason is the last line on standard error), 2 wrong arguments."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a project that builds, boots and answers at once
    New(new::NewArgs),
    /// Make the keys that sign images and repositories
    Keygen(keygen::KeygenArgs),
    /// Resolve every input of an image and write its lock
    Lock(lock::LockArgs),
    /// List the boards, and how much has been seen of each
    Boards(boards::BoardsArgs),
    /// Say everything that is wrong with a project
    Check(check::CheckArgs),
    /// Run a model on this machine, write its golden sample, measure it
    Model(model::ModelArgs),
    /// Build the disk image and the update of an image
    Build(build::BuildArgs),
    /// Say what a file is, what is in it, who signed it and whether it verifies
    Inspect(inspect::InspectArgs),
    /// Raise the version and the sequence of an image file
    Release(release::ReleaseArgs),
    /// Put updates into a repository that any HTTP server can serve
    Publish(publish::PublishArgs),
    /// Put one update with all its metadata into one file, for a stick
    Bundle(bundle::BundleArgs),
    /// Look after a repository: keys, thresholds, signing elsewhere, renewing, checking
    Repo(repo::RepoArgs),
    /// Serve a repository for development
    Serve(serve::ServeArgs),
    /// Write an image to a card, a stick or a disk, and read it back
    Flash(flash::FlashArgs),
    /// Show the settings of a flashed device, without the secrets
    Settings(settings::SettingsArgs),
    /// Run an image in QEMU, with its console in this terminal
    Run(run::RunArgs),
}

/// The command line's definition, for man pages and completions.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Parses the command line and runs the subcommand.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::New(args) => new::run(args),
        Command::Keygen(args) => keygen::run(args),
        Command::Lock(args) => lock::run(args),
        Command::Boards(args) => boards::run(args),
        Command::Check(args) => check::run(args),
        Command::Model(args) => model::run(args),
        Command::Build(args) => build::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Release(args) => release::run(args),
        Command::Publish(args) => publish::run(args),
        Command::Bundle(args) => bundle::run(args),
        Command::Repo(args) => repo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Flash(args) => flash::run(args),
        Command::Settings(args) => settings::run(args),
        Command::Run(args) => run::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("imager: {}", failure::in_words(&error));
            ExitCode::FAILURE
        }
    }
}
