//! What is wrong with a file: where, what, and what would help.

use std::{fmt, path::PathBuf};

use serde::{Serialize, Serializer};

/// How much a problem matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is not as written, and nobody gets in or out by it.
    Warning,
    /// What the problem is about is not used: the start stops, or the API answers 503.
    Error,
}

/// A step into a JSON value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// A member of an object.
    Key(String),
    /// An item of a list, from zero.
    Index(usize),
}

/// A place in a JSON value, as `version_data.versions.Default.expires`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JsonPath(Vec<Step>);

impl JsonPath {
    /// The whole value.
    pub fn root() -> Self {
        Self::default()
    }

    /// The steps from the whole value to the place.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether it is the whole value.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The place of a member.
    pub fn key(&self, key: &str) -> Self {
        self.and(Step::Key(key.to_owned()))
    }

    /// The place of an item.
    pub fn index(&self, index: usize) -> Self {
        self.and(Step::Index(index))
    }

    /// The place that `inner` names within this one.
    pub fn join(&self, inner: &Self) -> Self {
        Self(self.0.iter().chain(&inner.0).cloned().collect())
    }

    fn and(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

/// Reads keys that hold no dot: the form that tables and errors of serde have.
impl From<&str> for JsonPath {
    fn from(text: &str) -> Self {
        let mut path = Self::root();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let mut pieces = part.split('[');
            path = match pieces.next() {
                Some(key) if !key.is_empty() => path.key(key),
                _ => path,
            };
            for piece in pieces {
                if let Ok(index) = piece.trim_end_matches(']').parse() {
                    path = path.index(index);
                }
            }
        }
        path
    }
}

impl From<&serde_path_to_error::Path> for JsonPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        let step = |segment: &Segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            _ => None,
        };
        Self(path.iter().filter_map(step).collect())
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Serialize for JsonPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Line and column of a text, both from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in bytes.
    pub column: usize,
}

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The file, or `environment`.
    pub file: PathBuf,
    /// The place in the file.
    pub path: JsonPath,
    /// The place in the text, where it was found.
    #[serde(flatten)]
    pub position: Option<Position>,
    /// What is wrong, without the place.
    pub message: Box<str>,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Box<str>>,
}

impl Problem {
    /// An error about the whole file.
    pub fn error(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, file.into(), message.into().into())
    }

    /// A warning about the whole file.
    pub fn warning(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, file.into(), message.into().into())
    }

    fn new(severity: Severity, file: PathBuf, message: Box<str>) -> Self {
        Self {
            severity,
            file,
            path: JsonPath::root(),
            position: None,
            message,
            hint: None,
        }
    }

    /// Names the place.
    #[must_use]
    pub fn at(mut self, path: JsonPath) -> Self {
        self.path = path;
        self
    }

    /// Says what would help.
    #[must_use]
    pub fn help(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.path.is_root() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// The last line of a text of several: errors of patterns draw before they speak.
pub(crate) fn last_line(text: &impl ToString) -> String {
    let text = text.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.trim().trim_start_matches("error: ").to_owned()
}

/// Everything that was found wrong, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The problems.
    pub problems: Vec<Problem>,
}

impl Report {
    /// A report of this alone.
    pub(crate) fn of_one(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
        }
    }

    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The problems of one severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Problem> {
        let is_mine = move |problem: &&Problem| problem.severity == severity;
        self.problems.iter().filter(is_mine)
    }

    /// Whether anything is an error.
    pub fn has_errors(&self) -> bool {
        self.of(Severity::Error).next().is_some()
    }

    /// Whether anything is a warning.
    pub fn has_warnings(&self) -> bool {
        self.of(Severity::Warning).next().is_some()
    }
}

impl Extend<Problem> for Report {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.problems.extend(problems);
    }
}

/// One line for each problem.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problems
            .iter()
            .try_for_each(|problem| writeln!(f, "{problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_and_written_alike() {
        for text in ["", "a", "a.b[0].c", "a[1][2]"] {
            assert_eq!(JsonPath::from(text).to_string(), text);
        }
    }

    #[test]
    fn a_problem_is_one_line() {
        let mut problem = Problem::error("a.json", "no")
            .at("x.y".into())
            .help("say yes");
        assert_eq!(problem.to_string(), "error: a.json: x.y: no (say yes)");
        problem.position = Some(Position { line: 2, column: 3 });
        assert_eq!(problem.to_string(), "error: a.json:2:3: x.y: no (say yes)");
    }
}
