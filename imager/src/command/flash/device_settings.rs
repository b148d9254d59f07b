//! The options of `imager flash` that are settings of one device.

use std::path::PathBuf;

use clap::Args;
use flash::settings::Settings;

/// The settings on the command line.
#[allow(rustdoc::broken_intra_doc_links, reason = "clap prints these comments as they stand")]
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings of this one device, kept on its data partition")]
pub struct DeviceSettingsArgs {
    /// Its host name, instead of the image's
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Its time zone, like Europe/Berlin: TZ of every workload
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Its wireless network; the passphrase is asked for. For images with [network] wifi
    #[arg(long, value_name = "SSID")]
    wifi: Option<String>,
    /// The file with that passphrase in its first line
    #[arg(long, value_name = "FILE", requires = "wifi")]
    wifi_passphrase_file: Option<PathBuf>,
    /// A public SSH key (a .pub file) that root may log in with; may be repeated. For images with
    /// [network] ssh
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
    /// The file with the token that it shows the update server
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// A file for a workload: SRC is here, DST is WORKLOAD/PATH, seen there as /data/PATH; may be
    /// repeated
    #[arg(long, value_name = "SRC:DST")]
    file: Vec<String>,
}

impl DeviceSettingsArgs {
    /// What they say.
    pub fn settings(self) -> Settings {
        Settings {
            hostname: self.hostname,
            timezone: self.timezone,
            wifi: self.wifi,
            wifi_passphrase_file: self.wifi_passphrase_file,
            ssh_keys: self.ssh_key,
            token: self.token,
            files: self.file,
        }
    }
}
