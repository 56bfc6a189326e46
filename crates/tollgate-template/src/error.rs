//! What can be wrong with a template, or with a rendering of it.

use std::fmt;

/// A template that can not be parsed, or a rendering that failed.
///
/// It says where: the template's name, the line and the column, from 1. What it says of values is their
/// type alone, as values may be secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TemplateError {
    pub(crate) kind: ErrorKind,
    pub(crate) name: Box<str>,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) message: Box<str>,
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is no template.
    Parse,
    /// An action can not be done with these values.
    Render,
    /// The rendering went over one of its [`Limits`](crate::Limits).
    Limit,
    /// What it reads, makes and writes takes more memory together than it may; see
    /// [`Template::render_body`](crate::Template::render_body).
    Memory,
}

impl TemplateError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The name of the template.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The line, from 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The column in bytes, from 1.
    pub fn column(&self) -> u32 {
        self.column
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            line,
            column,
            message,
            ..
        } = self;
        write!(f, "template: {name}:{line}:{column}: {message}")
    }
}

impl std::error::Error for TemplateError {}

/// What stops a rendering; the place is added where it is known.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    pub(crate) message: Box<str>,
    pub(crate) at: Option<usize>,
}

impl Fault {
    #[cold]
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Render,
            message: message.into().into(),
            at: None,
        }
    }

    #[cold]
    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Limit,
            ..Self::new(message)
        }
    }

    #[cold]
    pub(crate) fn memory() -> Self {
        Self {
            kind: ErrorKind::Memory,
            ..Self::new(crate::TOO_MUCH_MEMORY)
        }
    }

    pub(crate) fn is_limit(&self) -> bool {
        matches!(self.kind, ErrorKind::Limit | ErrorKind::Memory)
    }

    /// Says which function failed.
    pub(crate) fn of(mut self, function: &str) -> Self {
        let message = &self.message;
        self.message = format!("error calling {function}: {message}").into();
        self
    }

    /// Says where, unless that is known more closely.
    pub(crate) fn at(mut self, at: usize) -> Self {
        self.at.get_or_insert(at);
        self
    }
}

/// The line and the column of a place in a text, from 1.
pub(crate) fn place(text: &[u8], at: usize) -> (u32, u32) {
    let before = &text[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let whole = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (whole(line), whole(before.len() - start + 1))
}
