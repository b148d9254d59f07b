//! What of a root can be looked at without Debian's packages: the user's own files, and the models.

use anyhow::{Context, Result};
use imagefs::tree::Tree;

use super::{models, programs, root};
use crate::config::workload::Workload;
use crate::config::{Board, Image};
use crate::sources::Inputs;

/// Everything that a build for this board would refuse of them.
pub fn findings(image: &Image, board: &Board, inputs: &Inputs) -> Vec<String> {
    let mut tree = Tree::usr_merged(0);
    let mut wrong: Vec<anyhow::Error> = Vec::new();
    for model in &image.models {
        wrong.extend(root::add_model(&mut tree, inputs, model).err());
    }
    // A model that could not be put there would be missed once more.
    let models_are_there = wrong.is_empty();
    for entry in &image.files {
        wrong.extend(root::add_local(&mut tree, inputs, entry).err());
    }
    for workload in &image.workloads {
        let name = || format!("workload {}", workload.name());
        wrong.extend(add_binary(&mut tree, board, inputs, workload).with_context(name).err());
    }
    let mut found: Vec<String> = wrong.iter().map(|error| format!("{error:#}")).collect();
    if models_are_there {
        found.extend(models::findings(&tree, image));
    }
    found
}

fn add_binary(tree: &mut Tree, board: &Board, inputs: &Inputs, workload: &Workload) -> Result<()> {
    let (Some(binary), Some(program)) = (&workload.binary, workload.command().first()) else {
        return Ok(());
    };
    let content = root::local(inputs, binary)?;
    programs::check_alone(&binary.display().to_string(), &content, board)?;
    tree.file(program, 0o755, content)
}
