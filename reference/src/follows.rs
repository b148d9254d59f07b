//! Whether a value follows a JSON schema: as much of draft 2020-12 as the schemas here use. A keyword
//! that is not known here is an error, so none is passed over.

use regex::Regex;
use serde_json::{Map, Value};

/// `Ok` if `value` follows `schema`, a part of `root`; else where and why it does not.
pub fn follows(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Object(schema) => schema,
        _ => return Err(format!("nothing is allowed here, not {value}")),
    };
    schema.iter().try_for_each(|(keyword, rule)| one(root, schema, keyword, rule, value))
}

fn one(
    root: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    rule: &Value,
    value: &Value,
) -> Result<(), String> {
    let holds = |holds: bool| {
        if holds { Ok(()) } else { Err(format!("{value} breaks {keyword}: {rule}")) }
    };
    match keyword {
        "$schema" | "$defs" | "title" | "description" | "default" | "format" => Ok(()),
        "$ref" => follows(root, referred(root, rule), value),
        "type" => holds(is_of(rule, value)),
        "const" => holds(value == rule),
        "enum" => holds(list(rule).contains(value)),
        "pattern" => holds(value.as_str().is_none_or(|text| matches(rule, text))),
        "minimum" => holds(value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap())),
        "maximum" => holds(value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap())),
        "minItems" => {
            holds(value.as_array().is_none_or(|v| v.len() as u64 >= rule.as_u64().unwrap()))
        }
        "maxItems" => {
            holds(value.as_array().is_none_or(|v| v.len() as u64 <= rule.as_u64().unwrap()))
        }
        "items" => value.as_array().into_iter().flatten().try_for_each(|v| follows(root, rule, v)),
        "anyOf" | "oneOf" => {
            let all = list(rule).iter().map(|choice| follows(root, choice, value));
            let (good, bad): (Vec<_>, Vec<_>) = all.partition(Result::is_ok);
            let reasons: Vec<_> = bad.into_iter().filter_map(Result::err).collect();
            match good.len() {
                1 => Ok(()),
                0 => Err(reasons.join("; or ")),
                _ if keyword == "anyOf" => Ok(()),
                _ => Err(format!("{value} follows several of oneOf")),
            }
        }
        "properties" | "additionalProperties" => properties(root, schema, keyword, value),
        "required" => {
            let missing = list(rule).iter().find(|key| value.get(key.as_str().unwrap()).is_none());
            missing.map_or(Ok(()), |key| Err(format!("{key} is missing")))
        }
        other => panic!("the test does not know the keyword {other}"),
    }
}

fn properties(
    root: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    value: &Value,
) -> Result<(), String> {
    let known = schema.get("properties").and_then(Value::as_object);
    for (key, value) in value.as_object().into_iter().flatten() {
        let rule = match (known.and_then(|known| known.get(key)), keyword) {
            (Some(rule), "properties") => rule,
            (None, "additionalProperties") => &schema[keyword],
            _ => continue,
        };
        follows(root, rule, value).map_err(|why| format!("{key}: {why}"))?;
    }
    Ok(())
}

fn referred<'a>(root: &'a Value, rule: &Value) -> &'a Value {
    root.pointer(rule.as_str().unwrap().trim_start_matches('#')).expect("a definition")
}

fn list(rule: &Value) -> &[Value] {
    rule.as_array().expect("a list")
}

fn matches(rule: &Value, text: &str) -> bool {
    Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)
}

fn is_of(rule: &Value, value: &Value) -> bool {
    let one = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("the test does not know the type {other}"),
    };
    rule.as_array().map_or_else(|| one(rule), |names| names.iter().any(one))
}
