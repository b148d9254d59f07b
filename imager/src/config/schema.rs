//! The JSON schemas of the scalar values, which [`super::values`] checks in more detail as it reads
//! them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::values::{
    BoardName, Country, DevicePath, Line, Mode, Name, PackageName, PackageVersion, PlatformTag,
    ProjectName, ProjectVersion, PythonVersion, Size, Span, Suite, Version,
};
use crate::boot_method;

/// Stands for a hash, whose type is another crate's.
pub struct Sha256;
/// Stands for `hh:mm-hh:mm`.
pub struct DayWindow;
/// Stands for when a device may reboot.
pub struct Reboot;
/// Stands for the boot method, by its name.
pub struct Chooser;

macro_rules! text {
    ($($name:ident $pattern:literal)*) => {
        $(impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        })*
    };
}
text! {
    BoardName r"^[a-z0-9][a-z0-9_-]{0,31}$"
    Country r"^[A-Z]{2}$"
    DayWindow r"^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$"
    DevicePath r"^/.+$"
    Line r"^[^\r\n]*$"
    Mode r"^[0-7]{3,4}$"
    Name r"^[a-z0-9][a-z0-9-]{0,31}$"
    PackageName r"^[a-z0-9][a-z0-9+.-]+$"
    PackageVersion r"^[A-Za-z0-9.+:~-]+$"
    PlatformTag r"^[A-Za-z0-9_]{1,64}$"
    ProjectName r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
    ProjectVersion r"^[A-Za-z0-9.+!_-]{1,64}$"
    PythonVersion r"^[0-9]+\.[0-9]+$"
    Reboot r"^(now|manual|[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2})$"
    Sha256 r"^[0-9A-Fa-f]{64}$"
    Span r"^([0-9]+(ms|s|m|h|d))+$"
    Suite r"^[a-z0-9-]{1,64}$"
    Version r"^[A-Za-z0-9._+~-]{1,64}$"
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "pattern": r"^[0-9]+ *(B|[KMGT](iB)?)?$" },
                { "type": "integer", "minimum": 0 },
            ],
        })
    }
}

impl JsonSchema for Chooser {
    fn schema_name() -> Cow<'static, str> {
        "Chooser".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": boot_method::NAMES })
    }
}
