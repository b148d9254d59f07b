//! What the image says about updates: `/etc/ferrite/ota.json`.

pub use formats::ota_settings::{OtaSettings as Settings, Reboot};
