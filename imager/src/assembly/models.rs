//! Whether the runner would take the models of an image: their `model.toml` is read with the runner's
//! own code, the model has to be one and whole, its golden sample has to be there, and every command
//! line of the runner has to name a model that is.
//!
//! What a model answers is run by `build::golden`, and by the device before it says that it is ready.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use formats::hex;
use runner::args;
use runner::config::Config;
use sha2::{Digest, Sha256};
use wording::nearest;

use super::libraries::bytes;
use super::root_layout::{MODELS, RUNNER_PATH};
use crate::config::Image;
use crate::config::image::{ModelEntry, Origin};
use crate::config::workload::Workload;
use imagefs::tree::Tree;

/// Fails on the first model that the runner would not take, and on a command of it that names none.
/// Gives notices about models that seem to be forgotten.
pub fn check(tree: &Tree, image: &Image) -> Result<Vec<String>> {
    let (used, wrong) = look(tree, image);
    match wrong.into_iter().next() {
        Some(error) => Err(error),
        None => unused(image, &used),
    }
}

/// Everything that [`check`] would fail on.
pub fn findings(tree: &Tree, image: &Image) -> Vec<String> {
    let (used, mut wrong) = look(tree, image);
    if wrong.is_empty() {
        wrong.extend(unused(image, &used).err());
    }
    wrong.iter().map(|error| format!("{error:#}")).collect()
}

/// The models that are run, and what is wrong with workloads and models.
fn look(tree: &Tree, image: &Image) -> (Vec<PathBuf>, Vec<anyhow::Error>) {
    let (mut used, mut wrong) = (Vec::new(), Vec::new());
    for workload in &image.workloads {
        match run_by(tree, image, workload) {
            Ok(folder) => used.extend(folder),
            Err(error) => wrong.push(error.context(format!("workload {}", workload.name()))),
        }
    }
    for model in &image.models {
        let is_run = used.iter().any(|path| path == Path::new(&folder(model)));
        if let Err(error) = check_model(tree, image, model, is_run) {
            wrong.push(error.context(format!("model {}", model.name())));
        }
    }
    (used, wrong)
}

/// The folder of a model on the root.
fn folder(model: &ModelEntry) -> String {
    format!("{MODELS}/{}", model.name())
}

fn check_model(tree: &Tree, image: &Image, model: &ModelEntry, is_run: bool) -> Result<()> {
    let folder = folder(model);
    let content = |name: &str| bytes(tree, &format!("{folder}/{name}"));
    let config = read_config(image, model, content("model.toml").context("it has no model.toml")?)?;
    let weights = content("model.tflite").context("it has no model.tflite")?;
    let from = match model.model() {
        Origin::Local(path) => path.display().to_string(),
        Origin::Wheel { name, member } => format!("wheel:{name}:{member}"),
    };
    config.check_model(weights).map_err(|why| anyhow!("{from}: {why}"))?;
    if let Some(pinned) = &config.sha256 {
        let sha256 = hex::encode(&Sha256::digest(weights));
        ensure!(
            pinned.eq_ignore_ascii_case(&sha256),
            "{} pins the model's `sha256` {pinned}, and {from} has {sha256}: take the file that was meant, or correct it",
            model.config.display()
        );
    }
    match is_run {
        true => golden_sample(image, model, &config, |name| content(name).is_some()),
        false => Ok(()),
    }
}

/// Reads `model.toml` as the runner does.
fn read_config(image: &Image, model: &ModelEntry, toml: &[u8]) -> Result<Config> {
    let path = image.folder().join(&model.config);
    let text = std::str::from_utf8(toml);
    let text = text.with_context(|| format!("{} is not UTF-8", path.display()))?;
    Config::parse(text).map_err(|why| anyhow!("{}: {why}", path.display()))
}

/// The runner runs the sample before it says that it is ready: both of its files have to be there.
fn golden_sample(
    image: &Image,
    model: &ModelEntry,
    config: &Config,
    is_there: impl Fn(&str) -> bool,
) -> Result<()> {
    let beside = model.config.parent().unwrap_or(Path::new(""));
    for (what, name) in
        [("sample", &config.golden.sample), ("expected result", &config.golden.expected)]
    {
        let name = name.to_str().context("[golden] names a file that is not UTF-8")?;
        if is_there(name) {
            continue;
        }
        let local = beside.join(name);
        if image.folder().join(&local).is_file() {
            bail!(
                "the golden sample's {what} {} is left out; add {:?} to the `files` of its [[model]]",
                local.display(),
                local.display().to_string()
            );
        }
        bail!(
            "the golden sample's {what} {name} is not among its `files`, and the runner does not start \
             without: `imager model golden {} FILE` makes both files of a small input; name them in \
             `files`",
            beside.display()
        );
    }
    Ok(())
}

/// The model that a workload has the runner run; `None` for other programs.
fn run_by(tree: &Tree, image: &Image, workload: &Workload) -> Result<Option<PathBuf>> {
    let mut words = workload.command().iter().map(|word| word.as_str());
    if words.next() != Some(RUNNER_PATH) {
        return Ok(None);
    }
    let request = args::parse(words.map(OsString::from)).map_err(|e| anyhow!("runner: {e}"))?;
    let request = request.context("runner: `--help` is no workload: it ends at once")?;
    let named = request.model.to_str().context("runner: --model is not UTF-8")?;
    if bytes(tree, &format!("{named}/model.toml")).is_some()
        && bytes(tree, &format!("{named}/model.tflite")).is_some()
    {
        return Ok(Some(request.model));
    }
    let folders: Vec<String> = image.models.iter().map(folder).collect();
    let hint = nearest(named, folders.iter().map(String::as_str)).or(match &folders[..] {
        [only] => Some(only.as_str()),
        _ => None,
    });
    let hint = match hint {
        Some(folder) => format!("; did you mean {folder}?"),
        None if folders.is_empty() => "; the image has no [[model]]".to_owned(),
        None => format!("; the image has {}", folders.join(", ")),
    };
    bail!("--model={named} is no model of the image{hint}")
}

/// Models that no workload runs. Fails where every workload is the runner, so that nobody can use
/// them; a program of the user's own may find them by itself.
fn unused(image: &Image, used: &[PathBuf]) -> Result<Vec<String>> {
    let mentions = |workload: &Workload, folder: &str| {
        let words = workload.command().iter().chain(workload.env.values());
        words.into_iter().any(|word| word.contains(folder))
    };
    let mut notices = Vec::new();
    let own = image
        .workloads
        .iter()
        .any(|w| w.command().first().is_none_or(|p| p.as_str() != RUNNER_PATH));
    for model in &image.models {
        let folder = folder(model);
        let is_used = used.iter().any(|path| path.starts_with(&folder))
            || image.workloads.iter().any(|workload| mentions(workload, &folder));
        if is_used {
            continue;
        }
        let what = format!("model {}: no workload names {folder}", model.name());
        ensure!(
            own,
            "{what}; add a [[workload]] with `command = [\"{RUNNER_PATH}\", \"--model={folder}\"]`, or take the model out"
        );
        notices.push(format!("{what}; it takes room in the image all the same"));
    }
    Ok(notices)
}

#[cfg(test)]
mod tests;
