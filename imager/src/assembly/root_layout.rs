//! Where things lie on the root.

/// Models, each in a folder of its name.
pub const MODELS: &str = "/usr/share/models";
/// The runner.
pub const RUNNER_PATH: &str = "/usr/bin/runner";

/// Where a package's or archive's path lies once `/usr` is merged.
pub fn merged(path: &str) -> String {
    let top = path.split('/').next().unwrap_or_default();
    match top {
        "bin" | "lib" | "lib64" | "sbin" => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}
