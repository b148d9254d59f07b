//! What this device has and its image does not (`formats::settings`), once `/data` is there.
//!
//! The file is not signed: a value that is no good is said and left out, and never stops a boot.

use std::path::Path;

use formats::{Result, layout, settings};

use crate::console::say;
use crate::data;
use crate::debug_programs::DebugPrograms;
use crate::system_conf::Provision;
use crate::wireless::Wireless;
use crate::workload::supervise::Unit;

/// Where the time zone database lies, in images that have it.
const ZONES: &str = "/usr/share/zoneinfo";

/// Gives the device its own name, the workloads that start from now on its time zone, and `wireless`
/// its network, `debug` who may log in.
pub fn apply(units: &mut [Unit], wireless: &mut Wireless, debug: &mut DebugPrograms) {
    let text = data::collected(layout::SETTINGS);
    let conf = match text.as_ref().map(|text| settings::parse(text)).transpose() {
        Ok(conf) => conf,
        Err(e) => {
            complain(&e.to_string());
            None
        }
    };
    let joins = units.iter().find(|unit| unit.conf.needs == Some(Provision::Wifi));
    if let Some(unit) = joins {
        wireless.settle(conf.as_ref(), unit.conf.uid);
    }
    let Some(conf) = conf else { return };
    if let Some(name) = good(settings::hostname(&conf)) {
        match rustix::system::sethostname(name.as_bytes()) {
            Ok(()) => say(&["settings: host name ", name]),
            Err(e) => complain(&["host name: ", &e.to_string()].concat()),
        }
    }
    if let Err(e) = settings::ssh_keys(&conf).and_then(|keys| debug.admit(&keys)) {
        complain(&e.to_string());
    }
    if let Some(zone) = good(settings::timezone(&conf)) {
        let has_database = Path::new(ZONES).join(zone.name).is_file();
        let variable = variable(zone, has_database);
        for unit in units {
            add(&mut unit.conf.environment, &variable);
        }
        say(&["settings: time zone ", zone.name]);
    }
}

fn good<T>(value: Result<Option<T>>) -> Option<T> {
    value.unwrap_or_else(|e| {
        complain(&e.to_string());
        None
    })
}

fn complain(what: &str) {
    say(&[layout::SETTINGS, ": ", what]);
}

/// `TZ` for a C library: by name where the image has the database, which knows the past too; else
/// the rule, which needs none.
fn variable(zone: settings::TimeZone<'_>, has_database: bool) -> String {
    ["TZ=", if has_database { zone.name } else { zone.rule }].concat()
}

/// Adds a variable that the image did not set for this workload.
fn add(environment: &mut Vec<String>, variable: &str) {
    if !environment.iter().any(|own| own.starts_with("TZ=")) {
        environment.push(variable.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_goes_by_name_only_where_the_database_is() {
        let zone = settings::TimeZone { name: "Europe/Berlin", rule: "CET-1CEST,M3.5.0,M10.5.0/3" };
        assert_eq!(variable(zone, true), "TZ=Europe/Berlin");
        assert_eq!(variable(zone, false), "TZ=CET-1CEST,M3.5.0,M10.5.0/3");
    }

    #[test]
    fn what_the_image_says_of_a_workload_wins() {
        let mut own = vec!["TZ=UTC".to_string()];
        add(&mut own, "TZ=X1");
        assert_eq!(own, ["TZ=UTC"]);
        let mut other = vec!["A=TZ=".to_string()];
        add(&mut other, "TZ=X1");
        assert_eq!(other, ["A=TZ=", "TZ=X1"]);
    }
}
