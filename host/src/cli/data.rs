//! A command's structured result as text for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use super::table::{self, Column, Side};
use crate::sanitize::excerpt;
use crate::units::kib;

/// The longest cell of a column that nobody here knows.
const CELL: usize = 60;

/// The most columns of such a table. A guest that names every entry's fields anew would make it as wide as it is long.
const COLUMNS: usize = 12;

/// The longest text outside of tables.
const TEXT: usize = 2000;

/// A column of a table that is known: heading, field, how wide, and how the field is shown.
type Known = (&'static str, &'static str, usize, Show);

/// How a field is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    Text,
    Figure,
    Kib,
    Percent,
}

const SERVICES: &[Known] = &[
    ("NAME", "name", 48, Show::Text),
    ("STATUS", "status", 10, Show::Text),
    ("STARTUP", "startup_type", 12, Show::Text),
    ("PID", "pid", 8, Show::Figure),
    ("WHAT IT IS", "display_name", 60, Show::Text),
];

const PACKAGES: &[Known] = &[
    ("NAME", "name", 48, Show::Text),
    ("VERSION", "version", 32, Show::Text),
    ("INSTALLED", "installed", 9, Show::Text),
    ("SOURCE", "source", 16, Show::Text),
    ("WHAT IT IS", "description", 60, Show::Text),
];

const PROCESSES: &[Known] = &[
    ("PID", "pid", 8, Show::Figure),
    ("USER", "user", 16, Show::Text),
    ("CPU%", "cpu_usage", 8, Show::Percent),
    ("MEMORY", "memory_kb", 10, Show::Kib),
    ("STATUS", "status", 10, Show::Text),
    ("NAME", "name", 24, Show::Text),
    ("COMMAND", "command_line", 100, Show::Text),
];

/// The table of an action's list, where its columns are known.
fn known(action: &str) -> Option<&'static [Known]> {
    match action {
        "ServiceList" | "ServiceControl" => Some(SERVICES),
        "PackageList" | "PackageSearch" => Some(PACKAGES),
        "ProcessList" | "ProcessTop" => Some(PROCESSES),
        _ => None,
    }
}

/// The result of an action. Everything in it is the guest's: of no shape, until it has one, and with nothing left that a terminal
/// acts on.
pub fn text(action: &str, data: &Value) -> String {
    let mut out = String::new();
    match data {
        Value::Array(rows) => list(&mut out, action, rows),
        Value::Object(fields) if action == "ServiceControl" => {
            list(&mut out, action, std::slice::from_ref(&Value::Object(fields.clone())));
        }
        Value::Object(fields) => object(&mut out, action, fields),
        other => line(&mut out, &cell(other)),
    }
    out
}

/// The plain fields, then the lists.
fn object(out: &mut String, action: &str, fields: &Map<String, Value>) {
    let mut plain = Vec::new();
    flatten(&mut plain, "", fields);
    let width = plain.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &plain {
        line(out, &format!("{name:<width$}  {}", excerpt(&cell(value), TEXT)));
    }
    for (name, rows) in fields {
        let Value::Array(rows) = rows else { continue };
        if !out.is_empty() {
            out.push('\n');
        }
        line(out, &format!("{}:{}", excerpt(name, CELL), if rows.is_empty() { " none" } else { "" }));
        list(out, action, rows);
    }
}

/// Fields that are no lists, those of an object in an object as `outer.inner`.
fn flatten<'a>(plain: &mut Vec<(String, &'a Value)>, outer: &str, fields: &'a Map<String, Value>) {
    for (name, value) in fields {
        let name = format!("{outer}{}", excerpt(name, CELL));
        match value {
            Value::Object(inner) if outer.is_empty() => flatten(plain, &format!("{name}."), inner),
            Value::Array(_) if outer.is_empty() => {}
            value => plain.push((name, value)),
        }
    }
}

fn list(out: &mut String, action: &str, rows: &[Value]) {
    let objects: Vec<&Map<String, Value>> = rows.iter().filter_map(Value::as_object).collect();
    if objects.len() < rows.len() {
        rows.iter().for_each(|row| line(out, &excerpt(&cell(row), TEXT)));
    } else if let (Some(columns), false) = (known(action), rows.is_empty()) {
        let rows: Vec<Vec<String>> = objects
            .iter()
            .map(|row| columns.iter().map(|&(_, field, _, show)| shown(row.get(field), show)).collect())
            .collect();
        out.push_str(&table::text(&columns.iter().map(column).collect::<Vec<_>>(), &rows));
    } else if !rows.is_empty() {
        unknown(out, &objects);
    }
}

fn column(&(title, _, widest, show): &Known) -> Column {
    let side = if show == Show::Text { Side::Left } else { Side::Right };
    Column { title: title.to_owned(), widest, side }
}

/// A table of the fields that most of the rows have.
fn unknown(out: &mut String, rows: &[&Map<String, Value>]) {
    let mut counts = BTreeMap::<&str, usize>::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        *counts.entry(name).or_default() += 1;
    }
    let mut names: Vec<(&str, usize)> = counts.into_iter().collect();
    // What a thing is called comes first, the rest as the alphabet has it.
    let is_name = |name: &str| matches!(name, "name" | "title" | "drive_letter" | "id");
    names.sort_by_key(|&(name, count)| (!is_name(name), std::cmp::Reverse(count)));
    let left_out = names.len().saturating_sub(COLUMNS);
    names.truncate(COLUMNS);
    let side = |name: &str| {
        let figures = rows.iter().filter_map(|row| row.get(name)).all(|value| value.is_number() || value.is_null());
        if figures { Side::Right } else { Side::Left }
    };
    let columns: Vec<Column> =
        names.iter().map(|&(name, _)| Column { title: name.to_uppercase(), widest: CELL, side: side(name) }).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| names.iter().map(|&(name, _)| shown(row.get(name), Show::Text)).collect()).collect();
    out.push_str(&table::text(&columns, &rows));
    if left_out > 0 {
        line(out, &format!("({left_out} more fields: --json shows them)"));
    }
}

fn shown(value: Option<&Value>, show: Show) -> String {
    match (value, show) {
        (None, _) => "-".to_owned(),
        (Some(value), Show::Kib) => value.as_u64().map_or_else(|| cell(value), kib),
        (Some(value), Show::Percent) => value.as_f64().map_or_else(|| cell(value), |share| format!("{share:.1}")),
        (Some(value), Show::Text | Show::Figure) => cell(value),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A line whose parts have been made safe already.
fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    writeln!(out, "{}", crate::sanitize::sanitize(text)).ok();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sanitize::is_dangerous;

    #[test]
    fn processes_are_a_table() {
        let data = json!([
            { "pid": 1, "name": "systemd", "cpu_usage": 0.25, "memory_kb": 12_000, "status": "sleeping",
              "command_line": "/sbin/init", "user": "root", "start_time": "2026-01-31T12:00:00.000Z" },
            { "pid": 4242, "name": "x\u{1b}[2J", "cpu_usage": 101.5, "memory_kb": 900, "status": "running", "user": "web" },
        ]);
        let expected = "\x20PID  USER   CPU%    MEMORY  STATUS    NAME     COMMAND
   1  root    0.2  11.7 MiB  sleeping  systemd  /sbin/init
4242  web   101.5   900 KiB  running   x␛[2J    -
";
        assert_eq!(text("ProcessTop", &data), expected);
    }

    #[test]
    fn a_list_in_an_object_follows_its_fields() {
        let data = json!({ "packages": [{ "name": "htop", "version": "3.2.1-1", "description": "an interactive process viewer",
            "installed": true, "source": "apt" }], "count": 1, "manager": "apt" });
        let expected = "\
count    1
manager  apt

packages:
NAME  VERSION  INSTALLED  SOURCE  WHAT IT IS
htop  3.2.1-1  yes        apt     an interactive process viewer
";
        assert_eq!(text("PackageList", &data), expected);
    }

    #[test]
    fn what_has_no_table_of_its_own_shows_its_fields() {
        let data = json!({ "overall_health": "Warning", "firewall": { "active": false }, "recommendations": ["reboot"],
            "checks": [{ "name": "disk", "status": "Warning", "message": "/ is 91 % full" }], "errors": [] });
        let expected = "\
firewall.active  no
overall_health   Warning

checks:
NAME  MESSAGE         STATUS
disk  / is 91 % full  Warning

errors: none

recommendations:
reboot
";
        assert_eq!(text("RunAllHealthChecks", &data), expected);
        assert_eq!(text("ServiceControl", &json!({ "name": "nginx", "status": "running" })).lines().count(), 2);
    }

    #[test]
    fn a_guest_can_send_what_it_likes() {
        let row = |number: usize| json!({ format!("k{number}\u{1b}"): number, "name": "\u{202e}" });
        let many: Vec<Value> = (0..3000).map(row).collect();
        for data in [
            json!(null),
            json!(7),
            json!("\u{1b}[2J"),
            json!([1, { "a\u{9b}": ["\u{7}"] }, "\u{1b}"]),
            json!({ "a\u{1b}": { "b\u{1b}": { "c": ["\u{1b}"] } }, "\u{1b}": [] }),
            Value::Array(many),
            json!([]),
        ] {
            for action in ["ServiceList", "ServiceControl", "PackageList", "Other"] {
                let shown = text(action, &data);
                let bad = |c: char| c != '\n' && is_dangerous(c);
                assert!(!shown.contains(bad), "{action}: {shown:?}");
                assert!(shown.len() < 4 << 20, "{action}: {} bytes", shown.len());
            }
        }
    }
}
