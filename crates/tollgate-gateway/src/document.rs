//! A file as a tree of values, whatever it is written in, and where in it a value stands.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};

use crate::problem::{JsonPath, Position, Problem, Step};

mod locate;

const LARGEST_FILE: u64 = 16 << 20; // Bytes.

/// A JSON value whose members stand in their order, one name as often as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// What it is, in words that show nothing of it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Number(number) if number.is_f64() => "a number with a fraction",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// A member of an object; as in Go its name may be in other letters of either case.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else {
            return None;
        };
        let found = members.iter().rev();
        let mut found = found.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }

    /// The value as it is; of members with one name the last stands.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(bool),
            Self::Number(number) => Value::Number(number),
            Self::Text(text) => Value::String(text),
            Self::List(items) => items.into_iter().map(Self::into_value).collect(),
            Self::Object(members) => {
                let value = |(key, member): (String, Self)| (key, member.into_value());
                Value::Object(members.into_iter().map(value).collect())
            }
        }
    }

    /// Calls `change` on every text; names of members are left alone.
    pub(crate) fn for_each_text(
        &mut self,
        path: &JsonPath,
        change: &mut impl FnMut(&JsonPath, &mut String),
    ) {
        match self {
            Self::Text(text) => change(path, text),
            Self::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    item.for_each_text(&path.index(index), change);
                }
            }
            Self::Object(members) => {
                for (key, member) in members {
                    member.for_each_text(&path.key(key), change);
                }
            }
            _ => {}
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
                Tree::deserialize(deserializer)
            }
            fn visit_bool<E>(self, bool: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(bool))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
                Ok(Tree::Number(number.into()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
                Ok(Tree::Number(number.into()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Tree, E> {
                let number = Number::from_f64(number);
                number
                    .map(Tree::Number)
                    .ok_or_else(|| E::custom("not a finite number"))
            }
            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Tree, E> {
                Ok(Tree::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// What a file is written in, by the ending of its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    Json,
    Toml,
    Yaml,
}

impl Format {
    fn of(file: &Path) -> Self {
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("toml") => Self::Toml,
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::Json,
        }
    }
}

/// A file that was read.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) file: PathBuf,
    pub(crate) tree: Tree,
    text: String,
    format: Format,
}

impl Document {
    /// Reads a file and takes it apart.
    pub(crate) fn read(file: &Path) -> Result<Self, Problem> {
        let text = read_text(file)?;
        Self::parse(file, text)
    }

    /// Takes a text apart that stands in a file of this name.
    pub(crate) fn parse(file: &Path, text: String) -> Result<Self, Problem> {
        let format = Format::of(file);
        let tree = match format {
            Format::Json => serde_json::from_str(&text).map_err(|err| json_problem(file, &err)),
            Format::Toml => toml::from_str(&text).map_err(|err| {
                let problem = Problem::error(file, format!("no TOML: {}", err.message()));
                let at = |span: std::ops::Range<usize>| position(&text, span.start);
                with_position(problem, err.span().map(at))
            }),
            Format::Yaml => serde_norway::from_str(&text).map_err(|err| {
                let problem = Problem::error(file, format!("no YAML: {err}"));
                let at = |place: serde_norway::Location| Position {
                    line: place.line(),
                    column: place.column(),
                };
                with_position(problem, err.location().map(at))
            }),
        }?;
        Ok(Self {
            file: file.to_owned(),
            tree,
            text,
            format,
        })
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Where in the text a value stands, or the nearest one around it. Known of JSON alone.
    pub(crate) fn position(&self, path: &JsonPath) -> Option<Position> {
        (self.format == Format::Json)
            .then(|| locate::offset(&self.text, path.steps()))
            .map(|offset| position(&self.text, offset))
    }

    /// The problem, with its file and its place in the text.
    pub(crate) fn place(&self, mut problem: Problem) -> Problem {
        if problem.position.is_none() && !problem.path.is_root() {
            problem.position = self.position(&problem.path);
        }
        problem.file = self.file.clone();
        problem
    }
}

/// The text of a file; one that is too large is not read.
pub(crate) fn read_text(file: &Path) -> Result<String, Problem> {
    let unreadable = |err: std::io::Error| Problem::error(file, format!("can not be read: {err}"));
    let size = fs::metadata(file).map_err(unreadable)?.len();
    if size > LARGEST_FILE {
        let message = format!("{size} bytes, and no more than {LARGEST_FILE} are read");
        return Err(Problem::error(file, message));
    }
    let bytes = fs::read(file).map_err(unreadable)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn json_problem(file: &Path, err: &serde_json::Error) -> Problem {
    let text = err.to_string();
    let place = format!(" at line {} column {}", err.line(), err.column());
    let message = text.strip_suffix(&place).unwrap_or(&text);
    let position = Position {
        line: err.line(),
        column: err.column().max(1), // At the end of a text it is zero.
    };
    let problem = Problem::error(file, format!("no JSON: {message}"));
    with_position(problem, Some(position))
}

fn with_position(mut problem: Problem, position: Option<Position>) -> Problem {
    problem.position = position;
    problem
}

fn position(text: &str, offset: usize) -> Position {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n');
    Position {
        line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: before.len() - line_start.map_or(0, |at| at + 1) + 1,
    }
}

/// The key that a step names, compared as Go compares it.
fn is_key(step: &Step, key: &str) -> bool {
    matches!(step, Step::Key(name) if name.eq_ignore_ascii_case(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(file: &str, text: &str) -> Result<Document, Problem> {
        Document::parse(Path::new(file), text.into())
    }

    #[test]
    fn three_languages_say_the_same() {
        let json = parse("a.conf", r#"{"a": {"b": [1, "x"]}, "c": true}"#).unwrap();
        let toml = parse("a.toml", "c = true\n[a]\nb = [1, \"x\"]").unwrap();
        let yaml = parse("a.yml", "a:\n  b: [1, x]\nc: true").unwrap();
        assert_eq!(json.tree.clone().into_value(), toml.tree.into_value());
        assert_eq!(json.tree.into_value(), yaml.tree.into_value());
    }

    #[test]
    fn a_broken_file_is_named_with_its_place() {
        for (file, text) in [
            ("a.json", "{\n \"a\": }"),
            ("a.toml", "b = 1\na = = 1"),
            ("a.yaml", "b: 1\na: [1"),
        ] {
            let problem = parse(file, text).unwrap_err();
            assert_eq!(problem.file, Path::new(file));
            assert!(problem.position.is_some_and(|at| at.line >= 2), "{problem}");
        }
    }

    #[test]
    fn a_value_is_found_in_its_text() {
        let text = "{\n  \"x\": \"}\\\"{\",\n  \"A\": [1, {\"b\": 2}]\n}";
        let document = parse("a.json", text).unwrap();
        let line = |path: &str| {
            let at = document.position(&path.into()).unwrap();
            (at.line, at.column)
        };
        assert_eq!(line("x"), (2, 8));
        assert_eq!(line("a[1].b"), (3, 18));
        assert_eq!(line("a[1].none"), (3, 12));
        assert_eq!(line(""), (1, 1));
    }
}
