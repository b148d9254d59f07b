use super::*;

/// A small model of Keras, with one channel of 8 × 8 pixels.
const MODEL: &[u8] = include_bytes!("../../../../runner/tests/models/keras_int8.tflite");
const CONFIG: &str = "name = \"face\"\n[input]\nkind = \"picture\"\nwidth = 8\nheight = 8\nchannels = \"gray\"\nrange = [0, 1]\n[decoder]\nkind = \"raw\"\n";
const RUNNER: &str = "command = [\"/usr/bin/runner\", \"--model=/usr/share/models/face\"]";

/// An image with the model `face` and one workload, as files on the disk and on the root.
struct World {
    config: String,
    model: Vec<u8>,
    files: Vec<&'static str>,
    beside: Vec<&'static str>,
    workload: String,
}

impl World {
    fn new() -> World {
        World {
            config: CONFIG.into(),
            model: MODEL.to_vec(),
            files: vec!["golden.png", "golden.json"],
            beside: vec![],
            workload: RUNNER.into(),
        }
    }

    fn check(&self) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        std::fs::create_dir(dir.path().join("face")).unwrap();
        let files: Vec<String> = self.files.iter().map(|name| format!("face/{name}")).collect();
        let head = format!(
            "name = \"demo\"\nversion = \"1\"\nsequence = 1\n[[model]]\nname = \"face\"\nmodel = \"face/m.tflite\"\nconfig = \"face/model.toml\"\nfiles = {files:?}\n[[workload]]\nname = \"own\"\n{}\n",
            self.workload
        );
        write("demo.toml", head.as_bytes());
        write("face/model.toml", self.config.as_bytes());
        let mut tree = Tree::usr_merged(0);
        let mut add = |name: &str, bytes: &[u8]| {
            tree.file(&format!("/usr/share/models/face/{name}"), 0o644, bytes).unwrap();
        };
        add("model.toml", self.config.as_bytes());
        add("model.tflite", &self.model);
        for name in &self.files {
            add(name, b"x");
        }
        self.beside.iter().for_each(|name| write(&format!("face/{name}"), b"x"));
        check(&tree, &Image::load(&dir.path().join("demo.toml"))?)
    }

    #[track_caller]
    fn refused(self, words: &[&str]) {
        let message = format!("{:#}", self.check().unwrap_err());
        for word in words {
            assert!(message.contains(word), "no {word:?} in: {message}");
        }
    }
}

#[test]
fn a_model_that_the_runner_takes_is_built() {
    assert_eq!(World::new().check().unwrap(), Vec::<String>::new());
    let sha256 = hex::encode(&Sha256::digest(MODEL));
    let config = format!("sha256 = \"{}\"\n{CONFIG}", sha256.to_uppercase());
    World { config, ..World::new() }.check().unwrap();
}

#[test]
fn a_misspelt_key_of_model_toml_is_named_with_its_line() {
    let config = CONFIG.replace("width", "widht");
    let world = World { config, ..World::new() };
    world.refused(&["model face", "face/model.toml: line 4", "`widht`", "did you mean `width`?"]);
    let config = CONFIG.replace("width = 8", "width = 0");
    World { config, ..World::new() }.refused(&["face/model.toml: ", "width"]);
}

#[test]
fn a_file_that_is_no_model_is_refused() {
    let model = b"import tensorflow\n".to_vec();
    World { model, ..World::new() }.refused(&["face/m.tflite: ", "is not a .tflite model", "text"]);
    let model = MODEL[..MODEL.len() - 100].to_vec();
    World { model, ..World::new() }.refused(&["face/m.tflite: ", "cut off or damaged"]);
    let config = format!("sha256 = \"{}\"\n{CONFIG}", "0".repeat(64));
    World { config, ..World::new() }.refused(&["face/model.toml pins", "0000"]);
}

#[test]
fn golden_files_that_are_left_out_are_named() {
    let files = vec!["golden.png"];
    let world = World { files: files.clone(), beside: vec!["golden.json"], ..World::new() };
    world.refused(&["face/golden.json is left out", "add \"face/golden.json\" to the `files`"]);
    World { files, ..World::new() }
        .refused(&["expected result golden.json", "imager model golden"]);
    let config = format!("{CONFIG}[golden]\nsample = \"other.png\"\n");
    World { config, ..World::new() }.refused(&["sample other.png"]);
}

#[test]
fn a_command_of_the_runner_names_a_model_of_the_image() {
    let workload = RUNNER.replace("face", "fase");
    let world = World { workload, ..World::new() };
    world.refused(&[
        "workload own",
        "--model=/usr/share/models/fase",
        "did you mean /usr/share/models/face?",
    ]);
    let workload = RUNNER.replace("--model", "--modle");
    World { workload, ..World::new() }.refused(&["workload own", "unknown option --modle"]);
    let workload = "command = [\"/usr/bin/runner\"]".to_owned();
    World { workload, ..World::new() }.refused(&["--model=DIR is missing"]);
}

#[test]
fn a_model_that_no_workload_uses_is_said() {
    let workload = "command = [\"/usr/bin/own\"]".to_owned();
    let notices = World { workload, ..World::new() }.check().unwrap();
    assert!(notices[0].contains("no workload names /usr/share/models/face"), "{notices:?}");
    let workload = "command = [\"/usr/bin/own\"]\nenv = { M = \"/usr/share/models/face/x\" }";
    assert!(World { workload: workload.into(), ..World::new() }.check().unwrap().is_empty());
    let image = "name = \"demo\"\nversion = \"1\"\nsequence = 1\n[[model]]\nname = \"a\"\nmodel = \"a\"\nconfig = \"a\"\n[[workload]]\nname = \"own\"\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i.toml");
    std::fs::write(&path, format!("{image}{RUNNER}\n")).unwrap();
    let message = unused(&Image::load(&path).unwrap(), &[]).unwrap_err().to_string();
    assert!(
        message.contains("model a: no workload names") && message.contains("take the model out")
    );
}

#[test]
fn a_model_of_a_program_of_the_users_own_needs_no_golden_sample() {
    let workload = "command = [\"/usr/bin/own\", \"/usr/share/models/face\"]".to_owned();
    let world = World { workload, files: vec![], ..World::new() };
    assert_eq!(world.check().unwrap(), Vec::<String>::new());
}
