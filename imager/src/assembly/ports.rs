//! The TCP ports that belong to each workload: those of `ports`, and the one that a model is served
//! on, which its `model.toml` names.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::root::{MODELS, RUNNER_PATH};
use crate::config::image::{Image, Workload};
use crate::config::workload::MAX_PORTS;
use imagefs::tree::{Kind, Tree};

/// The addresses that each workload, by its name, is handed sockets of.
pub type Ports = BTreeMap<String, Vec<SocketAddr>>;

/// Of a finished tree. Fails when one port would belong to two workloads.
pub fn of(tree: &Tree, image: &Image) -> Result<Ports> {
    let mut owners: BTreeMap<u16, &str> = BTreeMap::new();
    let mut all = Ports::new();
    for workload in &image.workloads {
        let name = workload.name().as_str();
        let served = served(tree, workload).with_context(|| format!("workload {name}"))?;
        // As it is written in `model.toml`, which may be narrower than every address.
        let mut addresses: Vec<SocketAddr> = served.into_iter().collect();
        for port in &workload.ports {
            if addresses.iter().all(|address| address.port() != *port) {
                addresses.push(SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port)));
            }
        }
        if addresses.len() > MAX_PORTS {
            bail!("workload {name}: {MAX_PORTS} ports at most, its model's included");
        }
        for address in &addresses {
            if let Some(other) = owners.insert(address.port(), name) {
                bail!(
                    "workloads {other} and {name} would both have port {}: give one another port",
                    address.port()
                );
            }
        }
        all.insert(name.to_owned(), addresses);
    }
    Ok(all)
}

/// What matters here of a `model.toml`.
#[derive(Deserialize)]
struct ModelConfig {
    #[serde(default)]
    source: Source,
}

#[derive(Default, Deserialize)]
struct Source {
    http: Option<String>,
}

/// The address that a workload which runs a model serves it on. One that is no number, such as a
/// host's name, is left to the runner.
fn served(tree: &Tree, workload: &Workload) -> Result<Option<SocketAddr>> {
    let mut words = workload.command().iter().map(|word| word.as_str());
    if words.next() != Some(RUNNER_PATH) {
        return Ok(None);
    }
    let words: Vec<&str> = words.collect();
    if let Some(address) = option(&words, "--http") {
        return Ok(address.parse().ok().filter(usable));
    }
    let Some(folder) = option(&words, "--model").filter(|folder| folder.starts_with(MODELS)) else {
        return Ok(None);
    };
    let path = format!("{}/model.toml", folder.trim_end_matches('/'));
    let Some(Kind::File(content)) = tree.follow(&path).map(|node| &node.kind) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(content.bytes()).with_context(|| path.clone())?;
    let config: ModelConfig = toml::from_str(text).with_context(|| path)?;
    Ok(config.source.http.and_then(|address| address.parse().ok()).filter(usable))
}

/// Port 0 is any that is free: nothing to keep.
fn usable(address: &SocketAddr) -> bool {
    address.port() != 0
}

/// The value of an option, given as one word or as two.
fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(i, word)| match word.strip_prefix(key)? {
        "" => words.get(i + 1).copied(),
        rest => rest.strip_prefix('='),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_image(workloads: &str) -> Result<Ports> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.toml");
        let head = "name = \"demo\"\nversion = \"1\"\nsequence = 1\n";
        std::fs::write(&path, format!("{head}{workloads}")).unwrap();
        let mut tree = Tree::usr_merged(0);
        let model = "name = \"face\"\n[source]\nhttp = \"0.0.0.0:8080\"\n";
        tree.file("/usr/share/models/face/model.toml", 0o644, model.as_bytes()).unwrap();
        of(&tree, &Image::load(&path)?)
    }

    fn workload(name: &str, rest: &str) -> String {
        format!("[[workload]]\nname = \"{name}\"\n{rest}\n")
    }

    const RUNNER: &str = "command = [\"/usr/bin/runner\", \"--model=/usr/share/models/face\"]";

    #[test]
    fn a_model_has_its_port_by_itself_and_others_have_what_they_ask_for() {
        let text =
            workload("face", RUNNER) + &workload("web", "command = [\"/x\"]\nports = [80, 443]");
        let ports = of_image(&text).unwrap();
        assert_eq!(ports["face"], ["0.0.0.0:8080".parse().unwrap()]);
        assert_eq!(ports["web"], ["[::]:80".parse().unwrap(), "[::]:443".parse().unwrap()]);
    }

    #[test]
    fn the_command_line_and_the_models_own_address_go_first() {
        let over = RUNNER.replace("\"]", "\", \"--http\", \"127.0.0.1:9\"]");
        assert_eq!(
            of_image(&workload("face", &over)).unwrap()["face"],
            ["127.0.0.1:9".parse().unwrap()]
        );
        let asked = format!("{RUNNER}\nports = [8080]");
        assert_eq!(of_image(&workload("face", &asked)).unwrap()["face"].len(), 1);
    }

    #[test]
    fn one_port_has_one_owner() {
        let web = "command = [\"/x\"]\nports = [8080]";
        let error = of_image(&(workload("face", RUNNER) + &workload("web", web))).unwrap_err();
        assert!(error.to_string().contains("8080"), "{error}");
        let error = of_image(&(workload("a", web) + &workload("b", web))).unwrap_err();
        assert!(format!("{error:#}").contains("belongs to workload `a`"), "{error:#}");
    }
}
