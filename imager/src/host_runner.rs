//! The runner of this machine, with its engine: what a model answers here is what it answers on a
//! device, but for the last digits of its numbers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use debian::hash::Sha256;

use crate::installation;

/// The engine's library, as the runner is linked with it.
const ENGINE: &str = "libtensorflowlite_c.so";

/// A runner that can be started here.
#[derive(Debug)]
pub struct HostRunner {
    program: PathBuf,
    /// The folder with the engine.
    engine: PathBuf,
}

impl HostRunner {
    /// The program that `FERRITE_RUNNER` names, else the one that imager was installed with; `None`
    /// if there is neither. The engine lies beside it.
    pub fn find() -> Result<Option<HostRunner>> {
        let named = std::env::var_os("FERRITE_RUNNER").filter(|name| !name.is_empty());
        let program = match named {
            Some(program) => PathBuf::from(program),
            None => match installation::host()? {
                Some(folder) => folder.join("runner"),
                None => return Ok(None),
            },
        };
        let engine = program.parent().unwrap_or(Path::new(".")).to_owned();
        for needed in [&program, &engine.join(ENGINE)] {
            if !needed.is_file() {
                bail!("{} is not there; `./do host` builds it in a checkout", needed.display());
            }
        }
        Ok(Some(HostRunner { program, engine }))
    }

    /// `runner VERB --model=FOLDER` on a model with this hash, which finds its engine.
    pub fn command(&self, verb: &str, folder: &Path, model: &Sha256) -> Command {
        let mut library_path: OsString = self.engine.clone().into();
        if let Some(others) = std::env::var_os("LD_LIBRARY_PATH").filter(|path| !path.is_empty()) {
            library_path.push(":");
            library_path.push(others);
        }
        let mut option = OsString::from("--model=");
        option.push(folder);
        let mut command = Command::new(&self.program);
        command.env("LD_LIBRARY_PATH", library_path);
        command.arg(verb).arg(option).arg(format!("--expect-sha256={model}"));
        command
    }

    /// Why nothing runs without it.
    pub fn missing() -> &'static str {
        "there is no runner for this machine beside imager; a release brings it along, `./do host` builds it in a checkout"
    }
}

/// Which files are a model's golden sample: what a `model.toml` says, or leaves to the runner.
pub fn golden_files(model_toml: &str) -> Result<[PathBuf; 2]> {
    let config: toml::Table = toml::from_str(model_toml).context("is not a model.toml")?;
    let golden = config.get("golden").and_then(toml::Value::as_table);
    let name = |key: &str, default: &str| -> Result<PathBuf> {
        let named = golden.and_then(|table| table.get(key)).and_then(toml::Value::as_str);
        let name = PathBuf::from(named.unwrap_or(default));
        runner::config::check_golden_name(key, &name).map_err(anyhow::Error::msg)?;
        Ok(name)
    };
    Ok([name("sample", "golden.png")?, name("expected", "golden.json")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_sample_has_the_runners_names_unless_the_model_says_others() {
        let names = |text: &str| golden_files(text).unwrap().map(|p| p.display().to_string());
        assert_eq!(names("name = \"x\"\n"), ["golden.png", "golden.json"]);
        assert_eq!(names("[golden]\nsample = \"a.jpg\"\n"), ["a.jpg", "golden.json"]);
        assert!(golden_files("name = = 1").is_err());
        for away in ["/etc/x", "../keys/image.key", "a/b", "model.tflite", "model.toml", ""] {
            let error = golden_files(&format!("[golden]\nsample = \"{away}\"\n")).unwrap_err();
            assert!(error.to_string().contains("golden.sample"), "{error}");
        }
    }
}
