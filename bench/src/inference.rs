//! What the runner adds to the interpreter's own time.

use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::{Disk, Machine, Options};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::guest::TO_BOOT;
use crate::table::{Bar, Table, Unit};
use crate::workspace::{Variant, Workspace};

/// Timed inferences; `runner bench` takes its own percentiles over them.
const INFERENCES: usize = 30;
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs `runner bench` on the booted demo: infer and bare invoke alternate in one process.
pub fn measure(workspace: &Workspace, _: &Arguments, table: &mut Table) -> Result<()> {
    let built = workspace.build(&Variant::DEMO)?;
    let disk = Disk::copy_of(&built.img)?;
    let options = Options { logs: Some(workspace.path("")), ..Options::default() };
    let mut machine = Machine::start("inference", &disk, &options)?;
    let console = &mut machine.console;
    console.wait_for("\"detections\":[{", TO_BOOT)?;
    console.type_line(&format!("runner bench --model=/usr/share/models/face -n {INFERENCES}"))?;
    let line = console.wait_for("\"invoke_ms\":{\"p50\":", PATIENCE)?.text;
    let start = line.find('{').context("runner bench printed no JSON")?;
    let report: Value = serde_json::from_str(&line[start..])
        .with_context(|| format!("runner bench printed {line:?}"))?;
    let time =
        |what: &str| report[what]["p50"].as_f64().with_context(|| format!("no {what} in {line:?}"));
    let (infer, invoke) = (time("infer_ms")?, time("invoke_ms")?);
    let note = format!("p50 of {INFERENCES}, one thread, XNNPACK, face detector");
    table.add("runner: inference", Unit::Milliseconds, Bar::None, infer, &note);
    table.add(
        "the interpreter's own invoke",
        Unit::Milliseconds,
        Bar::None,
        invoke,
        "same process",
    );
    table.add("runner / invoke", Unit::Ratio, Bar::AtMost(1.05), infer / invoke, "");
    Ok(())
}
