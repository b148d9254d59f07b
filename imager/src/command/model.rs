//! `imager model`: a model on this machine, run by the same program and engine as on a device.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use debian::hash::Sha256;

use crate::config::values::Name;
use crate::host_runner::{HostRunner, golden_files};

/// Arguments of `imager model`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  imager model try mine photo.jpg
  imager model golden mine photo.png
  imager model bench mine

MODEL is a folder with model.tflite and model.toml (docs/models.md).")]
pub struct ModelArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run a model on files: one line of JSON for each
    Try {
        /// The model's folder
        model: PathBuf,
        /// What it is to look at
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Write a model's golden sample, and print what an image file says of the model
    Golden {
        /// The model's folder
        model: PathBuf,
        /// What becomes the sample; else the one that lies in the folder
        sample: Option<PathBuf>,
    },
    /// Measure the times of a model, as JSON
    Bench {
        /// The model's folder
        model: PathBuf,
        /// Runs that are measured
        #[arg(short = 'n', long, value_name = "N")]
        runs: Option<u32>,
    },
}

/// Runs `imager model`.
pub fn run(args: ModelArgs) -> Result<()> {
    let (What::Try { model, .. } | What::Golden { model, .. } | What::Bench { model, .. }) =
        &args.what;
    let model = Model::open(model)?;
    let runner = HostRunner::find()?.context(HostRunner::missing())?;
    eprintln!("{}: SHA-256 {}", model.folder.join("model.tflite").display(), model.sha256);
    let command = |verb: &str| runner.command(verb, &model.folder, &model.sha256);
    match &args.what {
        What::Try { files, .. } => become_runner(command("infer").args(files)),
        What::Bench { runs, .. } => {
            let runs = runs.map(|runs| format!("--runs={runs}"));
            become_runner(command("bench").args(runs))
        }
        What::Golden { sample, .. } => {
            let copied = sample.as_deref().map(|sample| model.take_sample(sample)).transpose()?;
            let status = command("golden")
                .status()
                .context("the runner of this machine cannot be started")?;
            if !status.success() {
                // The next try may be with another one.
                if let Some(copied) = copied.flatten() {
                    let _ = fs::remove_file(copied);
                }
                bail!("no golden sample was written");
            }
            print!("{}", model.in_image_file()?);
            Ok(())
        }
    }
}

/// Its exit codes and its signals are the runner's own. Comes back only with an error.
fn become_runner(command: &mut Command) -> Result<()> {
    Err(command.exec()).context("the runner of this machine cannot be started")
}

/// A model's folder.
struct Model {
    folder: PathBuf,
    sha256: Sha256,
    /// Its golden sample's files: what goes in, what comes out.
    golden: [PathBuf; 2],
}

impl Model {
    /// Looks at the folder, or at the folder of a `model.tflite`.
    fn open(path: &Path) -> Result<Model> {
        let folder = match path.file_name() {
            Some(name) if name == "model.tflite" && path.is_file() => {
                path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
            }
            _ => path,
        };
        if !folder.is_dir() {
            bail!(
                "{}: is not a model's folder, which has model.tflite and model.toml in it (docs/models.md)",
                path.display()
            );
        }
        let tflite = folder.join("model.tflite");
        let file = fs::File::open(&tflite).with_context(|| {
            format!("{}: cannot be read; the model lies under this name", tflite.display())
        })?;
        let (sha256, _) = Sha256::of_stream(std::io::BufReader::new(file))
            .with_context(|| format!("{}: cannot be read", tflite.display()))?;
        let config = folder.join("model.toml");
        let text = fs::read_to_string(&config).with_context(|| {
            format!(
                "{}: cannot be read; it says how the model is fed and what its answers mean (docs/models.md, \"Your own model\")",
                config.display()
            )
        })?;
        let golden = golden_files(&text).with_context(|| config.display().to_string())?;
        Ok(Model { folder: folder.to_owned(), sha256, golden })
    }

    /// Makes a file the golden sample, and gives its new path. One that is there and differs stays;
    /// one that is the same is no new one.
    fn take_sample(&self, from: &Path) -> Result<Option<PathBuf>> {
        let to = self.folder.join(&self.golden[0]);
        let bytes =
            fs::read(from).with_context(|| format!("{}: cannot be read", from.display()))?;
        match fs::read(&to) {
            Ok(there) if there == bytes => return Ok(None),
            Ok(_) => {
                bail!("{} is there already, and is another sample: remove it first", to.display())
            }
            Err(_) => {}
        }
        fs::write(&to, bytes).with_context(|| format!("{}: cannot be written", to.display()))?;
        Ok(Some(to))
    }

    /// The tables of an image file that put this model on a device.
    fn in_image_file(&self) -> Result<String> {
        let folder =
            self.folder.canonicalize().with_context(|| self.folder.display().to_string())?;
        let last = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let name = Name::new(last.replace(['_', '.', ' '], "-")).ok();
        let name = name.map_or("model".to_owned(), |name| name.to_string());
        let path = |file: &Path| toml::Value::from(self.folder.join(file).display().to_string());
        let [sample, expected] = &self.golden;
        Ok(format!(
            "
For the image file, with paths from where it lies:

[[model]]
name = \"{name}\"
model = {}
config = {}
files = [{}, {}]

[[workload]]
name = \"{name}\"
command = [\"/usr/bin/runner\", \"--model=/usr/share/models/{name}\"]
data = true
ready = \"notify\"
ready_timeout = \"60s\"
heartbeat = \"30s\"
",
            path(Path::new("model.tflite")),
            path(Path::new("model.toml")),
            path(sample),
            path(expected),
        ))
    }
}
