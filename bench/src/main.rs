//! Ferrite beside its peers, in one run: measures the bars of docs/benchmarks.md and prints one
//! table, which is also left as `out/bench/table.md`.
//!
//! Every part gets what it needs from [`workspace`] (images and folders) and hands [`table`] its
//! rows: [`building`], [`sizes`], [`boot`] (with [`peers`], which [`direct`] starts), [`memory`],
//! [`updating`], [`inference`], [`deltas`], [`flashing`].

mod arguments;
mod boot;
mod building;
mod cpio;
mod deltas;
mod direct;
mod flashing;
mod guest;
mod inference;
mod memory;
mod peers;
mod sizes;
mod statistics;
mod table;
mod updating;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use arguments::Arguments;
use table::Table;
use workspace::Workspace;

type Part = fn(&Workspace, &Arguments, &mut Table) -> Result<()>;

/// The parts in the order of the table. Each can be asked for alone.
const PARTS: [(&str, Part); 8] = [
    ("building", building::measure),
    ("sizes", sizes::measure),
    ("boot", boot::measure),
    ("memory", memory::measure),
    ("updating", updating::measure),
    ("inference", inference::measure),
    ("deltas", deltas::measure),
    ("flash", flashing::measure),
];

fn main() -> ExitCode {
    // The bench starts itself to measure a process.
    if let Some(code) = deltas::process::main(&std::env::args_os().skip(1).collect::<Vec<_>>()) {
        return code;
    }
    let arguments = match arguments::parse(std::env::args().skip(1), &PARTS.map(|(name, _)| name)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("bench: {error:#}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every part could be measured. A missed bar is a figure, not a failure.
fn run(arguments: &Arguments) -> Result<bool> {
    let workspace = Workspace::open()?;
    let mut table = Table::default();
    let mut whole = true;
    for (name, measure) in PARTS {
        if !arguments.wants(name) {
            continue;
        }
        eprintln!("bench: {name}");
        if let Err(error) = measure(&workspace, arguments, &mut table) {
            eprintln!("bench: {name}: {error:#}");
            table.failed(name, &error);
            whole = false;
        }
    }
    let text = table.markdown(&workspace.about(arguments.runs));
    print!("{text}");
    workspace.leave("table.md", &text)?;
    Ok(whole)
}
