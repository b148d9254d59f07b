//! The golden sample of every model, run on this machine before anything is signed: a model that
//! was confused with another never reaches a device.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use debian::hash::Sha256;

use crate::config::Image;
use crate::config::image::{ModelEntry, Origin};
use crate::host_runner::{HostRunner, golden_files};
use crate::sources::Inputs;

/// Whether they are run.
#[derive(Debug)]
pub enum Golden {
    /// By this runner, as always.
    Run(HostRunner),
    /// There is no runner for this machine.
    NoRunner,
    /// The user has said so.
    Skip,
}

impl Golden {
    /// As the user and this machine have it.
    pub fn choose(skip: bool) -> Result<Golden> {
        if skip {
            return Ok(Golden::Skip);
        }
        Ok(HostRunner::find()?.map_or(Golden::NoRunner, Golden::Run))
    }

    /// What a build that is up to date must have had as well: one without samples that were run
    /// stands for none with them.
    pub fn stamp(&self) -> &'static [u8] {
        match self {
            Golden::Run(_) => b"run",
            Golden::NoRunner | Golden::Skip => b"not run",
        }
    }

    /// Runs them all. Fails on the first model that answers otherwise; says which could not be run.
    pub fn check(&self, image: &Image, inputs: &Inputs) -> Result<()> {
        match self {
            Golden::Run(runner) => {
                image.models.iter().try_for_each(|model| check_model(model, inputs, runner))
            }
            Golden::NoRunner if !image.models.is_empty() => {
                eprintln!("NOTICE: no golden sample was run: {}", HostRunner::missing());
                Ok(())
            }
            Golden::NoRunner | Golden::Skip => Ok(()),
        }
    }
}

fn check_model(model: &ModelEntry, inputs: &Inputs, runner: &HostRunner) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let sha256 = lay_out(model, inputs, folder.path())?;
    let text = fs::read_to_string(folder.path().join("model.toml"))
        .with_context(|| format!("{}: is not text", model.config.display()))?;
    let golden = golden_files(&text).with_context(|| model.config.display().to_string())?;
    if let Some(missing) = golden.iter().find(|name| !folder.path().join(name).is_file()) {
        eprintln!(
            "NOTICE: model {} has no golden sample ({} is not among its `files`): nothing shows that it answers as it should; `imager model golden` writes one",
            model.name(),
            missing.display()
        );
        return Ok(());
    }
    let output = runner
        .command("check", folder.path(), &sha256)
        .output()
        .context("the runner of this machine cannot be started")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!(
        "model {} does not pass its golden sample on this machine: {}; `imager model golden` writes it anew, --skip-golden builds all the same",
        model.name(),
        said.trim().lines().last().unwrap_or("the runner said nothing")
    );
}

/// Puts a model's files into `folder` as they lie on the device, and gives the model's hash.
fn lay_out(model: &ModelEntry, inputs: &Inputs, folder: &Path) -> Result<Sha256> {
    let read = |origin: &Origin| match origin {
        Origin::Local(path) => inputs.local(path),
        Origin::Wheel { name, member } => inputs.wheel(name)?.member(member),
    };
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("{}: cannot be written", path.display()))
    };
    let bytes = read(model.model())?;
    write("model.tflite", &bytes)?;
    write("model.toml", &inputs.local(&model.config)?)?;
    for origin in model.files() {
        write(origin.file_name(), &read(origin)?)?;
    }
    Ok(Sha256::of(&bytes))
}
