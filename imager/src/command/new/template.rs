//! What a new project consists of: the files of `imager/template`, with the project's name in them.

use std::path::Path;

use super::{Language, ProjectFile};

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../../template/", $path))
    };
}

/// The files of a project.
pub fn files(name: &str, with: Option<Language>) -> Vec<ProjectFile> {
    let own = with.map(Language::about);
    let file = |path: &str, bytes: &[u8]| ProjectFile {
        path: path.to_owned(),
        bytes: bytes.to_vec(),
        executable: EXECUTABLE.contains(&path),
    };
    let text = |path: &str, text: &str| file(path, filled(text, name, own.as_ref()).as_bytes());
    let image = format!("{}{}", template!("image.toml"), own.as_ref().map_or("", |o| o.tables));
    let mut all = vec![
        text(&format!("{name}.toml"), &image),
        text("README.md", template!("README.md")),
        text("ci/build-and-boot", template!("ci/build-and-boot")),
        text("ci/github-workflow.yml", template!("ci/github-workflow.yml")),
        text("face/model.toml", template!("face/model.toml")),
        file("face/model.tflite", include_bytes!("../../../template/face/model.tflite")),
        file("face/golden.png", include_bytes!("../../../../demo/face/golden.png")),
        file("face/golden.json", include_bytes!("../../../../demo/face/golden.json")),
        text(".gitignore", template!("gitignore")),
    ];
    if let Some(own) = &own {
        all.extend(own.files.iter().map(|(path, content)| text(path, content)));
    }
    all
}

const EXECUTABLE: [&str; 2] = ["ci/build-and-boot", "app/app.sh"];

/// What is special about a program in one language.
struct Own {
    /// Of the image file.
    tables: &'static str,
    /// Its sources.
    files: &'static [(&'static str, &'static str)],
    /// What makes the program, to be run in the project's folder; nothing for a script.
    build: Option<&'static str>,
    /// Debian packages that `build` needs on the PC.
    packages: &'static str,
    /// For people.
    about: &'static str,
}

impl Language {
    fn about(self) -> Own {
        match self {
            Language::Rust => Own {
                tables: concat!(template!("app/rust/image.toml"), template!("app/workload.toml")),
                files: &[
                    ("app/Cargo.toml", template!("app/rust/Cargo.toml")),
                    ("app/rust-toolchain.toml", template!("app/rust/rust-toolchain.toml")),
                    ("app/.cargo/config.toml", template!("app/rust/.cargo/config.toml")),
                    ("app/src/main.rs", template!("app/rust/src/main.rs")),
                    ("app/.gitignore", "/target/\n"),
                ],
                build: Some("(cd app && cargo build --release)"),
                packages: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross rustup",
                about: "`rustup target add aarch64-unknown-linux-gnu` once",
            },
            Language::C => Own {
                tables: concat!(template!("app/c/image.toml"), template!("app/workload.toml")),
                files: &[
                    ("app/Makefile", template!("app/c/Makefile")),
                    ("app/app.c", template!("app/c/app.c")),
                    ("app/.gitignore", "/app\n"),
                ],
                build: Some("make -C app"),
                packages: "make gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
                about: "packages gcc-aarch64-linux-gnu and libc6-dev-arm64-cross",
            },
            Language::Python => Own {
                tables: concat!(template!("app/python/image.toml"), template!("app/workload.toml")),
                files: &[("app/app.py", template!("app/python/app.py"))],
                build: None,
                packages: "",
                about: "`[debian]` brings python3, and takes more packages for it: python3-numpy …",
            },
            Language::Shell => Own {
                tables: concat!(template!("app/shell/image.toml"), template!("app/workload.toml")),
                files: &[("app/app.sh", template!("app/shell/app.sh"))],
                build: None,
                packages: "",
                about: "busybox is the only shell on the device",
            },
        }
    }
}

fn filled(text: &str, name: &str, own: Option<&Own>) -> String {
    let build = own.and_then(|own| own.build).map(|build| format!("{build}\n"));
    let wait = own.map(|_| template!("ci/wait-for-app"));
    let app = own.map(|own| {
        let build = own.build.map(|build| format!("`{build}` builds it; ")).unwrap_or_default();
        format!("- **Your own program** lies in `app/`. {build}{}.\n", own.about)
    });
    text.replace("@NAME@", name)
        .replace("@BUILD@", &build.unwrap_or_default())
        .replace("@WAIT@", wait.unwrap_or_default())
        .replace("@APP@", &app.unwrap_or_default())
        .replace(
            " @PACKAGES@",
            &own.map_or(String::new(), |own| match own.packages {
                "" => String::new(),
                packages => format!(" {packages}"),
            }),
        )
}

/// What is printed at the end.
pub fn next_commands(folder: &Path, name: &str, with: Option<Language>) -> String {
    let build = with.and_then(|language| language.about().build);
    let build = build.map(|build| format!("  {build}\n")).unwrap_or_default();
    format!(
        "{folder} is ready. The next commands (README.md has more):
  cd {folder}
{build}  imager keygen --out keys
  imager build --image {name}.toml --board qemu-arm64 --out out
  imager run out/{name}-qemu-arm64-0.1.0.img --forward 8080:8080
  curl --data-binary @face/golden.png http://127.0.0.1:8080/infer
",
        folder = folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn nothing_of_a_template_is_left_unfilled() {
        for with in Language::value_variants().iter().map(|l| Some(*l)).chain([None]) {
            for file in files("mine", with) {
                if let Ok(text) = std::str::from_utf8(&file.bytes) {
                    assert!(!text.contains("@NAME@") && !text.contains("@APP@"), "{}", file.path);
                    let marks = ["@BUILD@", "@WAIT@", "@PACKAGES@"];
                    assert!(!marks.iter().any(|mark| text.contains(mark)), "{}", file.path);
                }
            }
        }
    }

    #[test]
    fn the_model_is_the_one_that_its_golden_sample_was_made_with() {
        let all = files("mine", None);
        let file = |path| all.iter().find(|file| file.path == path).unwrap().bytes.as_slice();
        let golden: serde_json::Value = serde_json::from_slice(file("face/golden.json")).unwrap();
        let sha256 = debian::hash::Sha256::of(file("face/model.tflite"));
        assert_eq!(golden["model_sha256"], sha256.to_string());
    }
}
