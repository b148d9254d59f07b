//! JSON schemas (draft 2020-12) of image files, board files and `model.toml`, from the types that
//! the programs read them with.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// The name of each schema's file, and the schema.
pub fn all() -> [(&'static str, Value); 3] {
    [
        ("image", of::<imager::config::Image>("A Ferrite image file")),
        ("board", of::<imager::config::Board>("A Ferrite board file")),
        ("model", of::<runner::config::Config>("A model.toml of Ferrite's runner")),
    ]
}

fn of<T: JsonSchema>(title: &str) -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    for_toml(&mut schema);
    if let Value::Object(root) = &mut schema {
        root.insert("title".to_owned(), title.into());
    }
    schema
}

/// TOML has no null, and a number that one wrote as 0.3 is 0.3 though a `f32` holds a neighbour.
fn for_toml(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(for_toml),
        Value::Object(object) => {
            without_null(object);
            object.values_mut().for_each(for_toml);
        }
        Value::Number(number) if number.is_f64() => {
            let short = number.as_f64().and_then(|n| (n as f32).to_string().parse().ok());
            if let Some(short) = short.and_then(serde_json::Number::from_f64) {
                *number = short;
            }
        }
        _ => {}
    }
}

/// Takes null out of what one schema allows: `["string", "null"]` becomes `"string"`.
fn without_null(schema: &mut Map<String, Value>) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_mut_slice() {
            let only = only.take();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = choices.as_mut_slice() {
            let only = std::mem::take(only);
            schema.remove("anyOf");
            schema.extend(only);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::follows::follows;

    fn project() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn schema(name: &str) -> Value {
        all().into_iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn check(schema: &Value, text: &str) -> Result<(), String> {
        follows(
            schema,
            schema,
            &serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap(),
        )
    }

    #[test]
    fn every_file_of_the_project_follows_its_schema() {
        let mut files = vec![
            ("image", project().join("demo/demo.toml")),
            ("model", project().join("demo/face/model.toml")),
        ];
        for entry in fs::read_dir(project().join("board-configs")).unwrap() {
            files.push(("board", entry.unwrap().path()));
        }
        assert!(files.len() > 10);
        for (kind, file) in
            files.into_iter().filter(|(_, f)| f.extension().is_some_and(|e| e == "toml"))
        {
            let text = fs::read_to_string(&file).unwrap();
            check(&schema(kind), &text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        }
    }

    #[test]
    fn a_misspelt_key_or_a_wrong_value_does_not_follow_it() {
        for (kind, file, old, new, word) in [
            ("image", "demo/demo.toml", "\nversion = ", "\nversoin = ", "versoin"),
            ("image", "demo/demo.toml", "\nready_timeout", "\nready_timout", "ready_timout"),
            ("image", "demo/demo.toml", "\"128M\"", "\"128MB\"", "128MB"),
            ("image", "demo/demo.toml", "\nsequence = 1\n", "\nsequence = \"1\"\n", "sequence"),
            ("image", "demo/demo.toml", "\nname = \"demo\"\n", "\nname = \"Demo\"\n", "Demo"),
            ("image", "demo/demo.toml", "\nsequence = 1\n", "\n", "sequence"),
            ("board", "board-configs/qemu-arm64.toml", "suites = ", "suits = ", "suits"),
            ("board", "board-configs/qemu-arm64.toml", "\"uboot\"", "\"grub\"", "grub"),
            ("model", "demo/face/model.toml", "width = ", "widht = ", "widht"),
            ("model", "demo/face/model.toml", "\"ssd-faces\"", "\"ssd-face\"", "decoder"),
        ] {
            let text = fs::read_to_string(project().join(file)).unwrap();
            assert!(text.contains(old), "{file} has no {old:?}");
            let why = check(&schema(kind), &text.replacen(old, new, 1)).unwrap_err();
            assert!(why.contains(word), "{file}, {new:?}: {why}");
        }
    }

    #[test]
    fn keys_come_with_their_explanation_and_default() {
        let image = schema("image");
        let update = &image["$defs"]["Update"]["properties"];
        assert_eq!(update["poll"]["description"], "Time between two looks.");
        let model = schema("model");
        assert_eq!(model["properties"]["threads"]["default"], 1);
        assert_eq!(image["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let text = format!("{image}{model}{}", schema("board"));
        assert!(!text.contains("\"null\""), "{text}");
    }

    mod patterns {
        use imager::config::values::*;
        use proptest::prelude::*;

        use super::*;

        /// Whether a text follows the schema that scalar values of this name have.
        fn fits(name: &str, text: &str) -> bool {
            all().iter().any(|(_, schema)| {
                let definition = &schema["$defs"][name];
                definition.is_object() && follows(schema, definition, &text.into()).is_ok()
            })
        }

        proptest! {
            #[test]
            fn a_value_that_is_read_follows_its_schema(text in "[a-zA-Z0-9.:/_+~ -]{0,12}") {
                let read = [
                    ("Name", Name::new(&*text).is_ok()),
                    ("BoardName", BoardName::new(&*text).is_ok()),
                    ("Version", Version::new(&*text).is_ok()),
                    ("DevicePath", DevicePath::new(&*text).is_ok()),
                    ("PackageName", PackageName::new(&*text).is_ok()),
                    ("PackageVersion", PackageVersion::new(&*text).is_ok()),
                    ("Suite", Suite::new(&*text).is_ok()),
                    ("Country", Country::new(&*text).is_ok()),
                    ("ProjectName", ProjectName::new(&*text).is_ok()),
                    ("ProjectVersion", ProjectVersion::new(&*text).is_ok()),
                    ("PlatformTag", PlatformTag::new(&*text).is_ok()),
                    ("PythonVersion", PythonVersion::new(&*text).is_ok()),
                    ("Line", Line::new(&*text).is_ok()),
                    ("Mode", parse_mode(&text).is_ok()),
                ];
                for (name, is_read) in read {
                    prop_assert!(!is_read || fits(name, &text), "{name}: {text:?}");
                }
            }

            #[test]
            fn sizes_and_spans_that_are_read_follow_their_schema(number in 0_u64..3000, unit in "(|B|K|KiB|M|MiB|G|T| MiB|ms|s|m|h|d|1h30m)") {
                let text = format!("{number}{unit}");
                prop_assert!(parse_size(&text).is_err() || fits("Size", &text), "{text}");
                prop_assert!(parse_span(&text).is_err() || fits("Span", &text), "{text}");
            }
        }
    }
}
