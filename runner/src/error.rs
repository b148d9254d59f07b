//! The one error type: a sentence for a person, and the exit code that belongs to it.

use std::fmt;

/// Exit codes other than 0, as `runner --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command line, `model.toml` or a file it names is wrong.
    Config = 2,
    /// The golden sample's result is not the expected one.
    Golden = 3,
    /// The model is not the one the manifest names.
    Refused = 4,
    /// TensorFlow Lite does not take the model, or failed while running it.
    Engine = 5,
    /// A source cannot be opened.
    Source = 6,
}

/// What failed, in one line that names the thing and the next step.
#[derive(Debug)]
pub struct Error {
    /// The process ends with this code when the error is not handled.
    pub exit: Exit,
    text: String,
}

impl Error {
    /// An error with the given exit code and sentence.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// An error in a command line, a setting or a file of the model's folder.
    pub fn config(text: impl Into<String>) -> Self {
        Self::new(Exit::Config, text)
    }

    /// An error of TensorFlow Lite.
    pub fn engine(text: impl Into<String>) -> Self {
        Self::new(Exit::Engine, text)
    }
}

/// What the system says, without the number it has for that.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
