//! A table that `kind` says the keys of, as `[input]` and `[decoder]` are. serde's own tagged enums
//! forget in which key a mistake was.

use serde::de::{DeserializeOwned, Error};
use toml::{Table, Value};

/// Takes `kind` out of the table; `known` are its values.
pub fn take_kind<E: Error>(table: &mut Table, known: &[&str]) -> Result<String, E> {
    match table.remove("kind") {
        Some(Value::String(kind)) if known.contains(&kind.as_str()) => Ok(kind),
        Some(Value::String(kind)) => Err(E::custom(format!(
            "unknown variant `{kind}`, expected `{}`\nin `kind`",
            known.join("`, `")
        ))),
        Some(_) => Err(E::custom("expected text in quotes\nin `kind`")),
        None => Err(E::missing_field("kind")),
    }
}

/// The other keys.
pub fn read<T: DeserializeOwned, E: Error>(table: Table) -> Result<T, E> {
    T::deserialize(Value::Table(table)).map_err(E::custom)
}
