//! Why a picture is not taken.

/// Why an input is not used, for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub text: String,
    /// It may be a good one, and is too large for this device.
    pub too_large: bool,
}

impl Refusal {
    /// It is not what the model takes.
    pub fn wrong(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), too_large: false }
    }

    /// It is too large for this device.
    pub fn too_large(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), too_large: true }
    }

    /// Its file is not whole.
    pub(super) fn ends_early() -> Refusal {
        Refusal::wrong("the picture ends early: it was not sent or written to its end")
    }

    /// It is none of its format; why is the decoder's opinion, which helps nobody who sent it.
    pub(super) fn damaged(format: &str) -> Refusal {
        Refusal::wrong(format!("the picture is damaged: as a {format} it cannot be decoded"))
    }
}
