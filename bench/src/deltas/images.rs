//! Pairs of what `imager build` makes: images that differ in one thing, as `imager publish` gets
//! them. `bench/images/deltas.toml` is the newer one, `deltas-13.lock` and `deltas-12.lock` (its
//! userland from Debian 12) its packages, `deltas-older.toml` the older packages.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use toml::{Table, Value};

use super::Pair;
use super::ferrite::Origin;
use super::slot_stream::SlotStream;
use crate::workspace::{BOARD, Workspace, read, write_if_new};

/// The board's own kernel, and the one before.
const KERNEL: &str = "7.2.12";
const KERNEL_BEFORE: &str = "7.2.11";
const MODEL: &str = "palm_detection_full";
const MODEL_BEFORE: &str = "palm_detection_lite";
/// OpenSSL's package in Debian 13, and in 12.
const OPENSSL: &str = "libssl3t64";
const OPENSSL_12: &str = "libssl3";

/// A release of Debian that an image's userland is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    Bookworm,
    Trixie,
}

/// What an image has in an older version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Older {
    Nothing,
    Kernel,
    Model,
    Packages(&'static [&'static str]),
}

/// An image file with its board and lock.
#[derive(Debug, Clone, Copy)]
struct Recipe {
    release: Release,
    older: Older,
    /// Its place in the order of versions.
    sequence: i64,
}

/// A column: the name of its folder, its head, the old image; the new one.
const PAIRS: [(&str, &str, Recipe, Recipe); 6] = [
    ("kernel", "image: kernel", old(Release::Trixie, Older::Kernel), NEW),
    ("library", "image: libstdc++", old(Release::Trixie, Older::Packages(&["libstdc++6"])), NEW),
    ("model", "image: model", old(Release::Trixie, Older::Model), NEW),
    ("program", "image: program", old(Release::Trixie, Older::Packages(&["busybox-static"])), NEW),
    (
        "openssl-libc",
        "image: OpenSSL and libc",
        old(Release::Bookworm, Older::Packages(&["libc6", OPENSSL_12])),
        Recipe { release: Release::Bookworm, ..NEW },
    ),
    ("release", "image: Debian 12 → 13", old(Release::Bookworm, Older::Nothing), NEW),
];
const NEW: Recipe = Recipe { release: Release::Trixie, older: Older::Nothing, sequence: 2 };

const fn old(release: Release, older: Older) -> Recipe {
    Recipe { release, older, sequence: 1 }
}

/// Builds the images and takes the slot streams out of the updates.
pub fn pairs(workspace: &Workspace) -> Result<Vec<Pair>> {
    let older = read(&workspace.source("bench/images/deltas-older.toml"))?;
    let older: Table = toml::from_str(&older).context("bench/images/deltas-older.toml")?;
    let mut pairs = Vec::new();
    for (name, title, before, after) in PAIRS {
        let (old, old_pins) = build(workspace, &format!("{name}-old"), &before, &older)?;
        let (new, new_pins) = build(workspace, &format!("{name}-new"), &after, &older)?;
        let stream = |update: &PathBuf| -> Result<PathBuf> {
            let path = update.with_extension("stream");
            write_if_new(&path, &SlotStream::read(update)?.covered)?;
            Ok(path)
        };
        pairs.push(Pair {
            title,
            versions: versions(&before, &after, &old_pins, &new_pins),
            old: stream(&old)?,
            new: stream(&new)?,
            origin: Origin::Updates { old, new },
        });
    }
    Ok(pairs)
}

/// The update of a recipe, and its packages as `name version`.
fn build(
    workspace: &Workspace,
    name: &str,
    recipe: &Recipe,
    older: &Table,
) -> Result<(PathBuf, Vec<String>)> {
    let folder = workspace.path("deltas/images").join(name);
    let face = folder.join("face");
    fs::create_dir_all(&face).with_context(|| face.display().to_string())?;
    for name in ["model.toml", "golden.png", "golden.json"] {
        let from = workspace.source("demo/face").join(name);
        let bytes = fs::read(&from).with_context(|| from.display().to_string())?;
        write_if_new(&face.join(name), &bytes)?;
    }
    let image = image_file(&read(&workspace.source("bench/images/deltas.toml"))?, recipe)?;
    let toml = folder.join("deltas.toml");
    write_if_new(&toml, image.as_bytes())?;
    let board = read(&workspace.source(&format!("board-configs/{BOARD}.toml")))?;
    let board = board_file(&board, recipe)?;
    write_if_new(&folder.join(format!("{BOARD}.toml")), board.as_bytes())?;
    let lock_name = match recipe.release {
        Release::Bookworm => "deltas-12.lock",
        Release::Trixie => "deltas-13.lock",
    };
    let lock = lock(&read(&workspace.source("bench/images").join(lock_name))?, recipe, older)?;
    let lock_path = folder.join("deltas.lock");
    write_if_new(&lock_path, lock.as_bytes())?;
    workspace.build_into(&toml, &folder)?;
    let (asked, used) = (pins(&lock)?, pins(&read(&lock_path)?)?);
    let gone = asked.iter().find(|pin| !used.contains(pin));
    ensure!(
        gone.is_none() && asked.len() == used.len(),
        "{} cannot be had any more: pin one that is there in bench/images/{lock_name} or deltas-older.toml",
        gone.map_or("a package of the lock", String::as_str),
    );
    Ok((folder.join(format!("deltas-{BOARD}-{}.0.0.update", recipe.sequence)), used))
}

fn image_file(text: &str, recipe: &Recipe) -> Result<String> {
    let text = match recipe.release {
        Release::Bookworm => replaced(text, OPENSSL, OPENSSL_12)?,
        Release::Trixie => text.to_owned(),
    };
    let text = match recipe.older {
        Older::Model => replaced(&text, MODEL, MODEL_BEFORE)?,
        _ => text,
    };
    let mut image: Table = toml::from_str(&text).context("bench/images/deltas.toml")?;
    image.insert("version".into(), format!("{}.0.0", recipe.sequence).into());
    image.insert("sequence".into(), recipe.sequence.into());
    toml::to_string(&image).context("image file")
}

fn board_file(text: &str, recipe: &Recipe) -> Result<String> {
    let text = match recipe.older {
        Older::Kernel => replaced(text, KERNEL, KERNEL_BEFORE)?,
        _ => text.to_owned(),
    };
    match recipe.release {
        Release::Bookworm => replaced(&text, "\"trixie", "\"bookworm")
            .map(|text| text.replace("\"bookworm-backports", "\"trixie-backports")),
        Release::Trixie => Ok(text),
    }
}

/// The lock with the older packages in the places of the newer ones.
fn lock(text: &str, recipe: &Recipe, older: &Table) -> Result<String> {
    let mut lock: Table = toml::from_str(text).context("the lock")?;
    if recipe.older == Older::Kernel {
        let board = lock.get_mut("board").context("the lock has no board")?;
        let text = toml::to_string(&Table::from_iter([("board".to_owned(), board.clone())]))?;
        let text = replaced(&text, KERNEL, KERNEL_BEFORE)?;
        *board = toml::from_str::<Table>(&text)?.remove("board").context("the lock's board")?;
    }
    let wanted = |name: &str| match recipe.older {
        Older::Packages(names) => names.contains(&name),
        Older::Kernel => name.starts_with("linux-"),
        Older::Nothing | Older::Model => false,
    };
    let older = older.get("deb").and_then(Value::as_array).context("no older packages")?;
    for deb in older.iter().filter(|deb| wanted(text_of(deb, "name"))) {
        replace_package(&mut lock, deb)?;
    }
    toml::to_string(&lock).context("the lock")
}

fn replace_package(lock: &mut Table, deb: &Value) -> Result<()> {
    let (name, version) = (text_of(deb, "name"), text_of(deb, "version"));
    let debs = lock.get_mut("deb").and_then(Value::as_array_mut).context("no packages")?;
    let newer = name.replace(KERNEL_BEFORE, KERNEL);
    let place = debs.iter_mut().find(|deb| text_of(deb, "name") == newer);
    *place.with_context(|| format!("the lock has no {newer}"))? = deb.clone();
    let boards = lock.get_mut("board").and_then(Value::as_array_mut).context("no board")?;
    for list in boards.iter_mut().filter_map(|board| board.get_mut("root")?.as_array_mut()) {
        for id in list.iter_mut().filter(|id| name_of(id.as_str()) == name) {
            *id = format!("{name} {version}").into();
        }
    }
    Ok(())
}

fn text_of<'a>(deb: &'a Value, key: &str) -> &'a str {
    deb.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn name_of(id: Option<&str>) -> &str {
    id.and_then(|id| id.split(' ').next()).unwrap_or_default()
}

/// All packages of a lock as `name version`.
fn pins(lock: &str) -> Result<Vec<String>> {
    let lock: Table = toml::from_str(lock).context("the lock")?;
    let debs = lock.get("deb").and_then(Value::as_array).context("the lock has no packages")?;
    let id = |deb| format!("{} {}", text_of(deb, "name"), text_of(deb, "version"));
    Ok(debs.iter().map(id).collect())
}

/// What differs, for the line below the table.
fn versions(before: &Recipe, after: &Recipe, old: &[String], new: &[String]) -> String {
    if before.older == Older::Model {
        return format!("{MODEL_BEFORE} → {MODEL} of mediapipe 0.10.14");
    }
    if before.release != after.release {
        return "all of the userland's packages, the same kernel and models".into();
    }
    let version = |id: &str| id.split(' ').nth(1).unwrap_or_default().to_owned();
    let changed = old.iter().filter(|id| !new.contains(id));
    let told = changed.map(|id| {
        let newer = name_of(Some(id)).replace(KERNEL_BEFORE, KERNEL);
        let to = new.iter().find(|id| name_of(Some(id)) == newer);
        format!("{id} → {}", to.map(|id| version(id)).unwrap_or_default())
    });
    told.collect::<Vec<_>>().join(", ")
}

/// `text` with each `from` replaced by `to`; fails when there is none.
fn replaced(text: &str, from: &str, to: &str) -> Result<String> {
    ensure!(text.contains(from), "there is no {from:?} to replace any more");
    Ok(text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> String {
        fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn each_pair_differs_in_what_its_column_says() {
        let older: Table = toml::from_str(&source("images/deltas-older.toml")).unwrap();
        for (name, _, before, after) in PAIRS {
            let made = |recipe: &Recipe| {
                let lock_name = match recipe.release {
                    Release::Bookworm => "images/deltas-12.lock",
                    Release::Trixie => "images/deltas-13.lock",
                };
                pins(&lock(&source(lock_name), recipe, &older).unwrap()).unwrap()
            };
            let (old, new) = (made(&before), made(&after));
            let line = versions(&before, &after, &old, &new);
            let changed = old.iter().filter(|id| !new.contains(id)).count();
            match name {
                "kernel" => assert_eq!(changed, 3, "{line}"),
                "library" | "program" => assert_eq!(changed, 1, "{line}"),
                "openssl-libc" => assert_eq!(changed, 2, "{line}"),
                "model" => assert_eq!(changed, 0, "{line}"),
                _ => assert!(changed > 5, "{line}"),
            }
            assert!(!line.is_empty() && !line.ends_with("→ "), "{name}: {line}");
            let image = source("images/deltas.toml");
            assert_eq!(
                image_file(&image, &before).unwrap().contains(MODEL_BEFORE),
                name == "model"
            );
        }
    }

    #[test]
    fn the_boards_kernel_stays_that_of_backports() {
        let board = source("../board-configs/qemu-arm64.toml");
        let bookworm = old(Release::Bookworm, Older::Nothing);
        let board: Table = toml::from_str(&board_file(&board, &bookworm).unwrap()).unwrap();
        assert_eq!(board["kernel"]["suite"].as_str(), Some("trixie-backports"));
        assert_eq!(board["debian"]["suites"][1].as_str(), Some("bookworm-security"));
    }
}
