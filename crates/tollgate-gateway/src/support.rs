//! What this gateway does of what a file asks for: one table, walked over the file.
//!
//! Fail closed: what is asked for, not built, and decides who may pass or what leaves is refused by
//! name. Only what can neither grant nor leak may warn.

use serde_json::Value;

use crate::problem::{JsonPath, Problem, Report, Step};

/// What becomes of a field that is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Support {
    /// It does what it says.
    Works,
    /// It does what it says with these values, empty ones included; others are refused.
    Only(&'static [&'static str], &'static str),
    /// It is read only where another field is asked for, which tells what becomes of both.
    PartOf(&'static str),
    /// It does nothing, and nobody gets in or out by that.
    Warns(&'static str),
    /// It is not built, so what asks for it is not used.
    Refused(&'static str),
}

/// One line of a table: a field, with everything below it that has no line of its own.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The field: `*` for any name, `[]` for any item.
    pub path: &'static str,
    /// What becomes of it.
    pub support: Support,
}

/// A field that does what it says.
pub(crate) const fn works(path: &'static str) -> Row {
    Row {
        path,
        support: Support::Works,
    }
}

/// A field that works with some values.
pub(crate) const fn only(
    path: &'static str,
    values: &'static [&'static str],
    reason: &'static str,
) -> Row {
    Row {
        path,
        support: Support::Only(values, reason),
    }
}

/// A field that is read only with another.
pub(crate) const fn part_of(path: &'static str, other: &'static str) -> Row {
    Row {
        path,
        support: Support::PartOf(other),
    }
}

/// A field that does nothing.
pub(crate) const fn warns(path: &'static str, reason: &'static str) -> Row {
    Row {
        path,
        support: Support::Warns(reason),
    }
}

/// A field that is refused.
pub(crate) const fn refused(path: &'static str, reason: &'static str) -> Row {
    Row {
        path,
        support: Support::Refused(reason),
    }
}

/// A member that is read only where one beside it has this value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switch {
    pub(crate) member: &'static str,
    pub(crate) beside: &'static str,
    pub(crate) value: bool,
}

/// A table, and the switches of the files it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) rows: &'static [Row],
    pub(crate) switches: &'static [Switch],
}

impl Table {
    /// The line that is about the place: the longest that begins it.
    #[cfg(test)]
    pub(crate) fn row(&self, pattern: &str) -> Option<&'static Row> {
        let begins = |row: &&Row| {
            let rest = pattern.strip_prefix(row.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.rows
            .iter()
            .filter(begins)
            .max_by_key(|row| row.path.len())
    }

    /// What of a value is not done, in the order of the value.
    pub(crate) fn evaluate(&self, value: &Value) -> Report {
        let mut walk = Walk {
            table: self,
            report: Report::default(),
        };
        walk.value(value, &JsonPath::root(), &mut Vec::new());
        walk.report
    }

    fn is_switched_off(&self, members: &serde_json::Map<String, Value>, member: &str) -> bool {
        let is_true = |name: &str| {
            let mut members = members.iter();
            let found = members.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.is_some_and(|(_, value)| *value == Value::Bool(true))
        };
        let mut switches = self.switches.iter();
        let switch = switches.find(|switch| switch.member.eq_ignore_ascii_case(member));
        is_true(&format!("{member}_disabled"))
            || switch.is_some_and(|switch| is_true(switch.beside) != switch.value)
    }
}

struct Walk<'a> {
    table: &'a Table,
    report: Report,
}

impl Walk<'_> {
    fn value(&mut self, value: &Value, path: &JsonPath, pattern: &mut Vec<Step>) {
        if let Some(row) = self.row_at(pattern)
            && self.is_settled(row, value, path)
        {
            return;
        }
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate().filter(|(_, item)| asks(item)) {
                    self.step(item, &path.index(index), Step::Index(index), pattern);
                }
            }
            Value::Object(members) => {
                for (key, member) in members {
                    if asks(member) && !self.table.is_switched_off(members, key) {
                        self.step(member, &path.key(key), Step::Key(key.clone()), pattern);
                    }
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, value: &Value, path: &JsonPath, step: Step, pattern: &mut Vec<Step>) {
        pattern.push(step);
        self.value(value, path, pattern);
        pattern.pop();
    }

    /// The row of exactly this place.
    fn row_at(&self, place: &[Step]) -> Option<&'static Row> {
        let mut rows = self.table.rows.iter();
        rows.find(|row| is_at(row.path, place))
    }

    /// Tells what the row says of the value, and whether nothing below it is to be looked at.
    fn is_settled(&mut self, row: &Row, value: &Value, path: &JsonPath) -> bool {
        if !asks(value) {
            return true;
        }
        let problem = match row.support {
            Support::Works | Support::PartOf(_) => return false,
            Support::Only(values, reason) => {
                let text = value.as_str().unwrap_or_default();
                if values.iter().any(|known| known.eq_ignore_ascii_case(text)) {
                    return true;
                }
                let known = values.iter().map(|known| format!("`{known}`"));
                let known = known.collect::<Vec<_>>().join(", ");
                Problem::error("", reason).help(format!("{known} would do"))
            }
            Support::Warns(reason) => Problem::warning("", reason),
            Support::Refused(reason) => Problem::error("", reason),
        };
        self.report.push(problem.at(first_asked(value, path)));
        true
    }
}

/// The place, or of a list its first item that asks for something.
fn first_asked(value: &Value, path: &JsonPath) -> JsonPath {
    let items = value.as_array().into_iter().flatten();
    match items.enumerate().find(|(_, item)| asks(item)) {
        Some((index, Value::Object(_))) => path.index(index),
        _ => path.clone(),
    }
}

/// Whether a row's path is this place.
fn is_at(row: &str, place: &[Step]) -> bool {
    let mut place = place.iter();
    for part in row.split('.') {
        let (name, items) = match part.split_once('[') {
            Some((name, rest)) => (name, 1 + rest.matches('[').count()),
            None => (part, 0),
        };
        let is_name = |step: Option<&Step>| match step {
            Some(Step::Key(key)) => name == "*" || key.eq_ignore_ascii_case(name),
            _ => false,
        };
        if !is_name(place.next()) {
            return false;
        }
        for _ in 0..items {
            if !matches!(place.next(), Some(Step::Index(_))) {
                return false;
            }
        }
    }
    place.next().is_none()
}

/// Whether a value asks for anything: what is empty, zero, false or disabled does not.
pub(crate) fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(bool) => *bool,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(|item| !is_disabled(item)),
        Value::Object(members) => !is_disabled(value) && members.values().any(asks),
    }
}

fn is_disabled(value: &Value) -> bool {
    let members = value.as_object().into_iter().flatten();
    let mut members = members.filter(|(key, _)| key.eq_ignore_ascii_case("disabled"));
    members.any(|(_, value)| *value == Value::Bool(true))
}

/// How many lines of a table say what.
#[cfg(test)]
pub(crate) fn count(rows: &[Row]) -> String {
    let count =
        |is_kind: fn(&Support) -> bool| rows.iter().filter(|row| is_kind(&row.support)).count();
    format!(
        "{} lines: {} work, {} with some values, {} part of another, {} warn, {} refused",
        rows.len(),
        count(|support| matches!(support, Support::Works)),
        count(|support| matches!(support, Support::Only(..))),
        count(|support| matches!(support, Support::PartOf(_))),
        count(|support| matches!(support, Support::Warns(_))),
        count(|support| matches!(support, Support::Refused(_))),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TABLE: Table = Table {
        rows: &[
            works("name"),
            refused("auth", "auth is not built"),
            warns("cache.enabled", "nothing is cached"),
            part_of("cache", "cache.enabled"),
            only("kind", &["http"], "this kind is not built"),
            refused("v.*.paths.list[].deep", "deep is not built"),
            refused("v.*.paths.hooks", "hooks are not built"),
            works("v"),
        ],
        switches: &[Switch {
            member: "paths",
            beside: "use_paths",
            value: true,
        }],
    };

    #[track_caller]
    fn check(value: Value, expected: &[&str]) {
        let report = TABLE.evaluate(&value);
        let found: Vec<_> = report
            .problems
            .iter()
            .map(|p| format!("{} {}", p.path, p.message))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_asked_for_is_told_and_what_is_empty_is_not() {
        check(
            json!({"name": "x", "auth": false, "cache": {"ttl": 5}}),
            &[],
        );
        check(json!({"AUTH": true}), &["AUTH auth is not built"]);
        check(json!({"auth_disabled": true, "auth": {"x": 1}}), &[]);
        check(
            json!({"cache": {"enabled": true, "ttl": 5}}),
            &["cache.enabled nothing is cached"],
        );
    }

    #[test]
    fn a_value_among_those_that_work_is_told_apart() {
        check(json!({"kind": "http"}), &[]);
        check(json!({"kind": ""}), &[]);
        check(json!({"kind": "tcp"}), &["kind this kind is not built"]);
    }

    #[test]
    fn entries_count_where_they_are_on() {
        let paths = |entry: Value, used: bool| json!({"v": {"1": {"use_paths": used, "paths": {"hooks": [{"disabled": true}, entry]}}}});
        check(
            paths(json!({"path": "/"}), true),
            &["v.1.paths.hooks[1] hooks are not built"],
        );
        check(paths(json!({"path": "/"}), false), &[]);
        check(paths(json!({"disabled": true}), true), &[]);
        check(
            json!({"v": {"1": {"use_paths": true, "paths": {"list": [{"deep": 0}, {"deep": 1}]}}}}),
            &["v.1.paths.list[1].deep deep is not built"],
        );
    }

    #[test]
    fn the_longest_line_is_about_a_place() {
        assert_eq!(TABLE.row("cache.enabled").unwrap().path, "cache.enabled");
        assert_eq!(TABLE.row("cache.ttl").unwrap().path, "cache");
        assert_eq!(TABLE.row("v.*.paths.list[].path").unwrap().path, "v");
        assert!(TABLE.row("names").is_none());
    }
}
