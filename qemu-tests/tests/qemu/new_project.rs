//! What `imager new` writes, as its owner first meets it: `ci/build-and-boot`, whole.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::workspace::project;
use qemu_tests::{free_port, imager, permit};

/// Seconds that the device has; a busy machine needs more than the script's own three minutes.
const PATIENCE: &str = "1200";

#[test]
fn a_new_project_builds_boots_and_answers() -> Result<()> {
    let folder = tempfile::tempdir().context("folder")?;
    let imager = imager()?.canonicalize().context("imager")?;
    let new = ["new", "my-product", "--with", "shell"];
    let made = Command::new(&imager).args(new).current_dir(folder.path()).output()?;
    ensure!(made.status.success(), "{made:?}");
    let product = folder.path().join("my-product");
    // It asks for the same packages as the demo: nothing has to be looked up.
    fs::copy(project().join("demo/demo.lock"), product.join("my-product.lock"))?;
    let _one = permit()?;
    let output = Command::new(product.join("ci/build-and-boot"))
        .env("IMAGER", &imager)
        .env("PORT", free_port()?.to_string())
        .env("PATIENCE", PATIENCE)
        .output()
        .context("ci/build-and-boot cannot be started")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{output:?}");
    ensure!(said.contains("is well, for qemu-arm64") && said.contains("\"score\""), "{said}");
    let console = fs::read_to_string(product.join("out/console.log"))?;
    ensure!(console.contains("app: the model is well"), "{console}");
    Ok(())
}
