//! Brings a tree into the shape of a type: the names that the type knows, in its spelling.
//!
//! Tyk's files are what Go's `encoding/json` makes of its structs, and three of its habits belong to
//! the format: names are compared without regard to case, `null` is "not given", and of two members
//! with one name the later counts, objects being merged. What the type does not know is told, with
//! the name that was perhaps meant; what has the wrong type is told, all of it at once.

use std::sync::OnceLock;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    document::{Document, Tree},
    problem::{JsonPath, Problem, Report},
    suggest::nearest,
};

/// Members that Tyk's own tools write beside what the gateway reads.
const KNOWN_ELSEWHERE: &[&str] = &[
    "_id",
    "created_at",
    "fromDashboard",
    "hook_references",
    "input",
    "is_site",
    "output",
    "sort_by",
    "updated_at",
    "user_group_owners",
    "user_owners",
];

/// The shape of a type: its JSON schema, without references.
#[derive(Debug)]
pub(crate) struct Shape(Value);

impl Shape {
    /// The shape of `T`.
    pub(crate) fn of<T: JsonSchema>() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
        });
        Self(settings.into_generator().into_root_schema_for::<T>().into())
    }

    /// The shape of `T`, made once.
    pub(crate) fn cached<T: JsonSchema>(cell: &'static OnceLock<Self>) -> &'static Self {
        cell.get_or_init(Self::of::<T>)
    }

    pub(crate) fn root(&self) -> Node<'_> {
        Node(&self.0)
    }
}

/// One place of a shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a>(&'a Value);

/// What may stand at a place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind<'a> {
    Bool,
    Whole,
    Number,
    Text,
    List(Node<'a>),
    /// Any names, with values of one shape.
    Map(Node<'a>),
    Object(&'a Map<String, Value>),
    /// Anything.
    Free,
}

impl<'a> Node<'a> {
    pub(crate) fn of(schema: &'a Value) -> Self {
        Self(schema)
    }

    pub(crate) fn kind(self) -> Kind<'a> {
        if let Some(choices) = self.0.get("anyOf").and_then(Value::as_array) {
            let is_value = |choice: &&Value| choice.get("type") != Some(&Value::from("null"));
            return choices
                .iter()
                .find(is_value)
                .map_or(Kind::Free, |choice| Node(choice).kind());
        }
        match self.type_names().as_slice() {
            ["boolean"] => Kind::Bool,
            ["integer"] => Kind::Whole,
            ["number"] => Kind::Number,
            ["string"] => Kind::Text,
            ["array"] => self
                .0
                .get("items")
                .map_or(Kind::Free, |items| Kind::List(Node(items))),
            ["object"] => self.object(),
            _ => Kind::Free,
        }
    }

    fn object(self) -> Kind<'a> {
        if let Some(Value::Object(properties)) = self.0.get("properties") {
            return Kind::Object(properties);
        }
        match self.0.get("additionalProperties") {
            Some(values) => Kind::Map(Node(values)),
            None => Kind::Free,
        }
    }

    fn type_names(self) -> Vec<&'a str> {
        let names: Vec<&str> = match self.0.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        names.into_iter().filter(|name| *name != "null").collect()
    }

    /// Every place below that holds no further names, with its path; `*` for any name, `[]` for any
    /// item.
    pub(crate) fn leaves(self) -> Vec<(String, Node<'a>)> {
        let mut leaves = Vec::new();
        self.collect_leaves("", &mut leaves);
        leaves
    }

    fn collect_leaves(self, path: &str, leaves: &mut Vec<(String, Node<'a>)>) {
        match self.kind() {
            Kind::Object(properties) => {
                for (name, schema) in properties {
                    let dot = if path.is_empty() { "" } else { "." };
                    Node(schema).collect_leaves(&format!("{path}{dot}{name}"), leaves);
                }
            }
            Kind::Map(values) if matches!(values.kind(), Kind::Object(_)) => {
                values.collect_leaves(&format!("{path}.*"), leaves);
            }
            Kind::List(items) if matches!(items.kind(), Kind::Object(_)) => {
                items.collect_leaves(&format!("{path}[]"), leaves);
            }
            _ => leaves.push((path.to_owned(), self)),
        }
    }
}

impl Kind<'_> {
    /// The kind in words: what is expected.
    fn expected(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Whole => "a whole number",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Object(_) => "an object",
            Self::Free => "a value",
        }
    }

    /// What `null` in a list stands for.
    fn zero(self) -> Value {
        match self {
            Self::Bool => Value::Bool(false),
            Self::Whole | Self::Number => Value::from(0),
            Self::Text => Value::from(""),
            Self::List(_) => Value::Array(Vec::new()),
            Self::Map(_) | Self::Object(_) => Value::Object(Map::new()),
            Self::Free => Value::Null,
        }
    }
}

/// A document in the shape of a type.
pub(crate) struct Shaped {
    /// The value, without what the type does not know and without `null`.
    pub(crate) value: Value,
    /// Unknown names, wrong types. In the document's file and with places.
    pub(crate) report: Report,
}

/// Brings the document into this shape.
pub(crate) fn shape(document: &Document, shape: &Shape) -> Shaped {
    let mut shaping = Shaping {
        document,
        report: Report::default(),
    };
    let value = shaping.value(document.tree.clone(), shape.root(), &JsonPath::root());
    Shaped {
        value: value.unwrap_or_else(|| Value::Object(Map::new())),
        report: shaping.report,
    }
}

/// Reads the shaped value into its type; what could not be read is one more problem.
pub(crate) fn read<T: DeserializeOwned>(document: &Document, value: &Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|err| {
        let path = JsonPath::from(err.path());
        document.place(Problem::error("", err.inner().to_string()).at(path))
    })
}

struct Shaping<'a> {
    document: &'a Document,
    report: Report,
}

impl Shaping<'_> {
    /// `None` where nothing is given, or something of the wrong type.
    fn value(&mut self, tree: Tree, node: Node<'_>, path: &JsonPath) -> Option<Value> {
        match (node.kind(), tree) {
            (_, Tree::Null) => None,
            (Kind::Free, tree) => Some(tree.into_value()),
            (Kind::Bool, Tree::Bool(bool)) => Some(Value::Bool(bool)),
            (Kind::Whole, Tree::Number(number)) if !number.is_f64() => Some(Value::Number(number)),
            (Kind::Number, Tree::Number(number)) => Some(Value::Number(number)),
            (Kind::Text, Tree::Text(text)) => Some(Value::String(text)),
            (Kind::List(items), Tree::List(list)) => Some(self.list(list, items, path)),
            (Kind::Map(values), Tree::Object(members)) => Some(self.map(members, values, path)),
            (Kind::Object(known), Tree::Object(members)) => Some(self.object(members, known, path)),
            (kind, tree) => {
                let message = format!("expected {}, found {}", kind.expected(), tree.kind());
                self.push(Problem::error("", message).at(path.clone()));
                None
            }
        }
    }

    fn list(&mut self, list: Vec<Tree>, items: Node<'_>, path: &JsonPath) -> Value {
        let mut values = Vec::with_capacity(list.len());
        for (index, item) in list.into_iter().enumerate() {
            let value = self.value(item, items, &path.index(index));
            values.push(value.unwrap_or_else(|| items.kind().zero()));
        }
        Value::Array(values)
    }

    fn map(&mut self, members: Vec<(String, Tree)>, values: Node<'_>, path: &JsonPath) -> Value {
        let mut map = Map::new();
        for (key, member) in members {
            let at = path.key(&key);
            let value = self.value(member, values, &at);
            map.insert(key, value.unwrap_or_else(|| values.kind().zero()));
        }
        Value::Object(map)
    }

    fn object(
        &mut self,
        members: Vec<(String, Tree)>,
        known: &Map<String, Value>,
        path: &JsonPath,
    ) -> Value {
        let mut given: Vec<(&String, &Value, Tree)> = Vec::with_capacity(members.len());
        for (key, member) in members {
            let Some((name, schema)) = find(known, &key) else {
                self.unknown(&key, known, path);
                continue;
            };
            match given.iter_mut().find(|(other, ..)| *other == name) {
                Some((.., earlier)) => {
                    let message = "given more than once; the last one counts";
                    self.push(Problem::warning("", message).at(path.key(name)));
                    merge(earlier, member);
                }
                None => given.push((name, schema, member)),
            }
        }
        let mut object = Map::new();
        for (name, schema, member) in given {
            if let Some(value) = self.value(member, Node(schema), &path.key(name)) {
                object.insert(name.clone(), value);
            }
        }
        Value::Object(object)
    }

    fn unknown(&mut self, key: &str, known: &Map<String, Value>, path: &JsonPath) {
        let is_key = |other: &&str| other.eq_ignore_ascii_case(key);
        if KNOWN_ELSEWHERE.iter().any(is_key) {
            return;
        }
        let mut problem = Problem::warning("", "unknown, and not read").at(path.key(key));
        if let Some(name) = nearest(key, known.keys().map(String::as_str)) {
            problem = problem.help(format!("did you mean `{name}`?"));
        }
        self.push(problem);
    }

    fn push(&mut self, problem: Problem) {
        self.report.push(self.document.place(problem));
    }
}

fn find<'a>(known: &'a Map<String, Value>, key: &str) -> Option<(&'a String, &'a Value)> {
    known.get_key_value(key).or_else(|| {
        let mut names = known.iter();
        names.find(|(name, _)| name.eq_ignore_ascii_case(key))
    })
}

/// What Go's decoder leaves of two members with one name.
fn merge(earlier: &mut Tree, later: Tree) {
    match (earlier, later) {
        (_, Tree::Null) => {}
        (Tree::Object(earlier), Tree::Object(later)) => earlier.extend(later),
        (earlier, later) => *earlier = later,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, JsonSchema, PartialEq)]
    #[serde(default)]
    struct Inner {
        on: bool,
        list: Vec<String>,
    }

    #[derive(Debug, Default, Deserialize, JsonSchema, PartialEq)]
    #[serde(default)]
    struct Outer {
        count: i64,
        share: f64,
        given: Option<bool>,
        inner: Inner,
        by_name: BTreeMap<String, Inner>,
        free: Value,
    }

    fn read_outer(json: &str) -> (Outer, Vec<String>) {
        let document = Document::parse(Path::new("f"), json.into()).unwrap();
        let shaped = shape(&document, &Shape::of::<Outer>());
        let problems = shaped.report.problems.iter().map(ToString::to_string);
        (read(&document, &shaped.value).unwrap(), problems.collect())
    }

    #[track_caller]
    fn check(json: &str, expected: &Outer, problems: &[&str]) {
        let (outer, found) = read_outer(json);
        assert_eq!(outer, *expected);
        assert_eq!(found, problems);
    }

    #[test]
    fn names_are_found_in_any_case_and_null_is_not_given() {
        let expected = Outer {
            count: 3,
            ..Outer::default()
        };
        check(
            r#"{"COUNT": 3, "share": null, "inner": null}"#,
            &expected,
            &[],
        );
    }

    #[test]
    fn null_in_a_list_is_an_empty_item() {
        let inner = Inner {
            on: false,
            list: vec![String::new(), "x".into()],
        };
        let expected = Outer {
            inner,
            ..Outer::default()
        };
        check(r#"{"inner": {"list": [null, "x"]}}"#, &expected, &[]);
    }

    #[test]
    fn a_name_given_twice_is_merged_as_go_merges_it() {
        let inner = Inner {
            on: true,
            list: vec!["x".into()],
        };
        let expected = Outer {
            count: 2,
            inner,
            ..Outer::default()
        };
        check(
            r#"{"count": 1, "Count": 2, "inner": {"on": true}, "inner": {"list": ["x"]}}"#,
            &expected,
            &[
                "warning: f:1:23: count: given more than once; the last one counts",
                "warning: f:1:58: inner: given more than once; the last one counts",
            ],
        );
    }

    #[test]
    fn every_wrong_type_is_told_with_its_place() {
        check(
            "{\n\"count\": 1.5, \"given\": \"secret\",\n\"by_name\": {\"a\": {\"list\": {}}}}",
            &Outer {
                by_name: [("a".into(), Inner::default())].into(),
                ..Outer::default()
            },
            &[
                "error: f:2:10: count: expected a whole number, found a number with a fraction",
                "error: f:2:24: given: expected true or false, found a text",
                "error: f:3:27: by_name.a.list: expected a list, found an object",
            ],
        );
    }

    #[test]
    fn an_unknown_name_is_told_with_what_was_meant() {
        check(
            r#"{"cuont": 1, "strange": 2, "inner": {"fromDashboard": true}}"#,
            &Outer::default(),
            &[
                "warning: f:1:11: cuont: unknown, and not read (did you mean `count`?)",
                "warning: f:1:25: strange: unknown, and not read",
            ],
        );
    }

    #[test]
    fn leaves_are_named_by_pattern() {
        let shape = Shape::of::<Outer>();
        let names: Vec<_> = shape
            .root()
            .leaves()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let expected = [
            "by_name.*.list",
            "by_name.*.on",
            "count",
            "free",
            "given",
            "inner.list",
            "inner.on",
            "share",
        ];
        assert_eq!(names, expected);
    }
}
