//! Go's `text/template`, with the functions of sprig, over JSON and XML.
//!
//! A [`Template`] is parsed once and rendered any number of times. It prints what Go prints for the same
//! document: numbers of JSON are floats (`1000000` is `1e+06`), what is missing is `<no value>`, maps are
//! sorted. Recorded output of Go is this crate's test, and what differs is [told below](self#differences-from-go).
//!
//! # Example
//!
//! ```
//! use serde_json::json;
//! use tollgate_template::Template;
//!
//! let template = Template::parse("greeting", r#"{"hello": {{ .name | jsonMarshal }}}"#)?;
//! let text = template.render(&json!({"name": "Ann \"A\" Lee"}))?;
//! assert_eq!(text, br#"{"hello": "Ann \"A\" Lee"}"#);
//! # Ok::<(), tollgate_template::TemplateError>(())
//! ```
//!
//! # Escaping
//!
//! Nothing is escaped by itself: `"{{ .name }}"` in JSON is open to whoever chooses the name. The
//! functions that make a value fit where it is put:
//!
//! | into | function |
//! |---|---|
//! | JSON | `{{ .x \| jsonMarshal }}`, without quotes of your own around it |
//! | XML, HTML | `{{ .x \| html }}`, in text and in attributes in quotes |
//! | XML, whole | `{{ .x \| xmlMarshal }}` of a map |
//! | a query | `{{ .x \| urlquery }}` |
//! | JavaScript | `{{ .x \| js }}` within a string |
//!
//! # Bounds
//!
//! A template may come from others than those who run it. [`Limits`] bound what a rendering reads, writes,
//! holds and does, and [`Template::render_body`] what all of it takes of memory together; it reads no file, no environment and, but for functions that have to be switched on, no network.
//! Data is never changed: `set` on a map of the document changes a copy that lives as long as the rendering.
//!
//! # Differences from Go
//!
//! - The zone of `date` and of times without a zone is UTC, wherever the program runs.
//! - `keys` and `values` are sorted. In Go their order is random.
//! - `abbrev`, `abbrevboth` and `initials` cut between characters, not within them, and `nospace` leaves them whole.
//! - `xmlMarshal` repeats the element for every list, and reports keys that are no names of XML and
//!   characters that XML can not hold.
//! - XML is read in the encoding that it declares. In Go it is guessed.
//! - Functions that take long or ask the network (`bcrypt`, `genCA`, `getHostByName` …) are refused unless
//!   [`Options::with_costly_functions`] switches them on; keys of RSA and DSA are not made.
//! - Error messages name a value's type and never the value.
//! - Templates do not know each other: what one defines no other can call.
//! - Values nest and templates call each other up to a depth ([`Limits::depth`]).
//! - Of the methods of Go's types there are those of times, versions and forms that templates use.

mod case;
mod certificate;
mod decimal;
mod error;
mod escape;
mod float;
mod form;
mod format;
mod funcs;
mod json;
mod lex;
mod literal;
mod out;
mod parse;
mod print;
mod quote;
mod read;
mod regexes;
mod render;
mod semver;
mod text;
mod time;
mod tree;
mod unicode;
mod value;
mod xml;

use std::{collections::BTreeMap, fmt};

use serde_json::Value as Json;

pub use self::{
    error::{ErrorKind, TemplateError},
    render::Input,
};
use self::{
    error::{Fault, place},
    funcs::Functions,
    out::Out,
    regexes::Regexes,
    render::{Render, root},
    tree::Body,
    value::{Heap, Value},
};

/// A parsed template.
///
/// See the [crate's docs](crate) for an example.
pub struct Template {
    name: Box<str>,
    text: Box<[u8]>,
    main: Body,
    named: BTreeMap<Box<str>, Body>,
    regexes: Regexes,
    limits: Limits,
}

/// What a rendering may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How much it writes, in bytes.
    pub output: usize,
    /// How much it makes on the way, in bytes: texts, lists and maps.
    pub memory: usize,
    /// How much a body of JSON takes once it is read, in bytes, beside the body itself; see
    /// [`Template::render_body`]. What takes more is not refused: its lists and objects stay texts, whose items are
    /// looked for when they are asked for, which takes steps.
    pub document: usize,
    /// How much it does: nodes, calls, turns of a range, and the work of functions on long values.
    pub steps: u64,
    /// How deeply templates call each other.
    pub depth: u16,
}

impl Default for Limits {
    /// 8 MiB written, 32 MiB made, 64 MiB read, a million steps, 64 calls deep.
    fn default() -> Self {
        Self {
            output: 8 << 20,
            memory: 32 << 20,
            document: 64 << 20,
            steps: 1_000_000,
            depth: 64,
        }
    }
}

/// How templates are parsed and rendered.
///
/// ```
/// use tollgate_template::{Limits, Options};
///
/// let options = Options::new().with_limits(Limits { output: 1024, ..Limits::default() });
/// let template = options.parse("long", "{{ range until 10000 }}x{{ end }}")?;
/// assert!(template.render(&serde_json::json!({})).is_err());
/// # Ok::<(), tollgate_template::TemplateError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Options {
    limits: Limits,
    functions: Functions,
}

impl Options {
    /// Go's and sprig's functions but for the costly ones, within the [default limits](Limits::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Renders within these limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds functions that take long (`bcrypt`, `htpasswd`, `derivePassword`, `gen…`, `buildCustomCert`;
    /// these with the feature `costly` of this crate) or wait for the network (`getHostByName`).
    pub fn with_costly_functions(mut self) -> Self {
        self.functions.with_costly = true;
        self
    }

    /// Parses a template. Its name is for errors.
    ///
    /// # Errors
    ///
    /// Fails where the text is no template, with the place.
    pub fn parse(self, name: &str, text: impl AsRef<[u8]>) -> Result<Template, TemplateError> {
        self.parse_with_texts(name, text, |_| None)
    }

    /// Parses a template some of whose texts are made anew for each rendering: those outside of actions for
    /// which `texts` gives a number. [`Template::render_filled`] is then asked for them.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_with_texts(
        self,
        name: &str,
        text: impl AsRef<[u8]>,
        mut texts: impl FnMut(&[u8]) -> Option<usize>,
    ) -> Result<Template, TemplateError> {
        let text = text.as_ref();
        let parsed = parse::parse(text, &self.functions, &mut texts);
        let parsed = parsed.map_err(|(at, message)| {
            let (line, column) = place(text, at);
            TemplateError {
                kind: ErrorKind::Parse,
                name: name.into(),
                line,
                column,
                message: message.into(),
            }
        })?;
        Ok(Template {
            name: name.into(),
            text: text.into(),
            main: parsed.main,
            named: parsed.named,
            regexes: Regexes::default(),
            limits: self.limits,
        })
    }
}

impl Template {
    /// Parses a template with the [default options](Options::new). Its name is for errors.
    ///
    /// # Errors
    ///
    /// Fails where the text is no template, with the place.
    pub fn parse(name: &str, text: impl AsRef<[u8]>) -> Result<Self, TemplateError> {
        Options::new().parse(name, text)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its text has this word.
    pub fn mentions(&self, word: &str) -> bool {
        memchr::memmem::find(&self.text, word.as_bytes()).is_some()
    }

    /// Renders a document. The result is UTF-8 unless the template or its functions make it otherwise.
    ///
    /// # Errors
    ///
    /// Fails where an action can not be done, or a limit is met, with the place. Nothing of what was
    /// written is given then.
    pub fn render(&self, document: &Json) -> Result<Vec<u8>, TemplateError> {
        self.render_with(document, &[])
    }

    /// Renders a document, with more values among its members. They hide members of the same names.
    ///
    /// ```
    /// use serde_json::json;
    /// use tollgate_template::{Input, Template};
    ///
    /// let template = Template::parse("who", "{{ .user }} asks for {{ .n }}")?;
    /// let text = template.render_with(&json!({"n": 2, "user": "forged"}), &[("user", Input::Text("ann".into()))])?;
    /// assert_eq!(text, b"ann asks for 2");
    /// # Ok::<(), tollgate_template::TemplateError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`render`](Self::render).
    pub fn render_with<'a>(
        &'a self,
        document: &'a Json,
        besides: &'a [(&'a str, Input<'a>)],
    ) -> Result<Vec<u8>, TemplateError> {
        self.render_filled(document, besides, &|_| String::new())
    }

    /// As [`render_with`](Self::render_with), with the texts that
    /// [`parse_with_texts`](Options::parse_with_texts) numbered. They are written as they are given.
    ///
    /// ```
    /// use serde_json::json;
    /// use tollgate_template::Options;
    ///
    /// let template = Options::new().parse_with_texts("t", "Dear {{ .name }}, @sender", |text| {
    ///     text.ends_with(b"@sender").then_some(7)
    /// })?;
    /// let text = template.render_filled(&json!({"name": "Ann"}), &[], &|number| format!(", by {number}"))?;
    /// assert_eq!(text, b"Dear Ann, by 7");
    /// # Ok::<(), tollgate_template::TemplateError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`render`](Self::render).
    pub fn render_filled<'a>(
        &'a self,
        document: &'a Json,
        besides: &'a [(&'a str, Input<'a>)],
        fill: &'a dyn Fn(usize) -> String,
    ) -> Result<Vec<u8>, TemplateError> {
        let heap = Heap::new(self.limits.memory);
        let dot = match document {
            document if besides.is_empty() => Ok(document.into()),
            Json::Object(map) => {
                let members = map.iter();
                let members = members.map(|(key, value)| (key.as_bytes(), value.into()));
                root(&heap, members.collect(), besides)
            }
            _ => root(&heap, Vec::new(), besides),
        };
        dot.and_then(|dot| self.rendered(&heap, dot, 0, fill))
            .map_err(|fault| self.error(fault))
    }

    /// Reads JSON as [`json`] does and renders it, without a document in between: texts stay where they are, and
    /// all else is let go at once. This is faster, and takes a fraction of the memory. It is
    /// [`render_body`](Self::render_body) without a bound on what all of it takes together.
    ///
    /// ```
    /// use tollgate_template::{Input, Template};
    ///
    /// let template = Template::parse("who", "{{ .user }} asks for {{ .n }}")?;
    /// let besides = [("user", Input::Text("ann".into()))];
    /// let text = template.render_json(br#"{"n": 2, "user": "forged"}"#, &besides, &|_| String::new())?;
    /// assert_eq!(text, b"ann asks for 2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails where the text is no JSON or is nested too deeply; and as [`render`](Self::render).
    pub fn render_json<'a>(
        &'a self,
        body: &'a [u8],
        besides: &'a [(&'a str, Input<'a>)],
        fill: &'a dyn Fn(usize) -> String,
    ) -> Result<Vec<u8>, RenderError> {
        self.render_body(body, Format::Json, besides, fill, usize::MAX)
    }

    /// Reads a body and renders it, and takes no more memory for that than so many bytes at any moment, beside the
    /// body itself: for the document, what the template makes, and what it writes. A buffer that grows counts with
    /// the one that it grows out of.
    ///
    /// JSON that would take too much when it is read is not read, but looked through where it is asked for; so a list
    /// may be as large as the bound and a few steps are all that it takes. XML and forms are always read.
    ///
    /// ```
    /// use tollgate_template::{ErrorKind, Format, RenderError, Template};
    ///
    /// let template = Template::parse("t", "{{ len .array }}: {{ .array | jsonMarshal }}")?;
    /// let body = format!("[{}7]", "7,".repeat(99_999));
    /// let render = |most| template.render_body(body.as_bytes(), Format::Json, &[], &|_| String::new(), most);
    /// assert!(render(300_000)?.starts_with(b"100000: [7,7,"));
    /// assert!(matches!(render(100_000), Err(RenderError::Template(err)) if err.kind() == ErrorKind::Memory));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails where the body is no document of the format, is nested too deeply, or takes too much memory when it is
    /// read ([`InputError::is_too_large`]); where the rendering does ([`ErrorKind::Memory`]); and as
    /// [`render`](Self::render).
    pub fn render_body<'a>(
        &'a self,
        body: &'a [u8],
        format: Format,
        besides: &'a [(&'a str, Input<'a>)],
        fill: &'a dyn Fn(usize) -> String,
        most: usize,
    ) -> Result<Vec<u8>, RenderError> {
        /// What is small and not counted one by one: variables, open blocks, the first chunk of each shelf.
        const UNCOUNTED: usize = 16 << 10;
        let most = most.saturating_sub(UNCOUNTED);
        let heap = Heap::within(self.limits.memory, most, read::room(body.len(), most));
        let members = match format {
            Format::Json => read::json(&heap, body, self.limits.document)?,
            Format::Xml(mixed) => xml::read::members(&heap, body, mixed)?,
            Format::Form => form::members(&heap, body).map_err(|_| InputError::too_large())?,
        };
        root(&heap, members, besides)
            .and_then(|dot| self.rendered(&heap, dot, body.len(), fill))
            .map_err(|fault| self.error(fault).into())
    }

    fn error(&self, fault: Fault) -> TemplateError {
        let (line, column) = place(&self.text, fault.at.unwrap_or(0));
        TemplateError {
            kind: fault.kind,
            name: self.name.clone(),
            line,
            column,
            message: fault.message,
        }
    }

    fn rendered<'r>(
        &'r self,
        heap: &'r Heap<'r>,
        dot: Value<'r>,
        body: usize,
        fill: &'r dyn Fn(usize) -> String,
    ) -> Result<Vec<u8>, Fault> {
        let room = (self.text.len() * 2).min(self.limits.output);
        let out = Out::with_room(heap, room, read::likely_output(body));
        let render = Render::new(heap, &self.regexes, &self.named, &self.limits, out, fill);
        render.run(&self.main, dot)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.name)
    }
}

/// What is said where there is no room for more.
const TOO_MUCH_MEMORY: &str = "it takes more memory than it may";

/// What a body is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// JSON, as [`json`] reads it.
    #[default]
    Json,
    /// XML, as [`xml`] reads it.
    Xml(MixedContent),
    /// A form, as [`form`] reads it.
    Form,
}

/// A body that is no document.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct InputError {
    message: String,
    is_too_large: bool,
}

impl InputError {
    fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            message,
            is_too_large: false,
        }
    }

    fn too_large() -> Self {
        Self {
            is_too_large: true,
            ..Self::new(TOO_MUCH_MEMORY)
        }
    }

    /// Whether it may be a document, but takes more memory when it is read than it may.
    pub fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// What it says of the text may be of use to nobody but its author: the place is enough.
    fn no_json(err: &serde_json::Error) -> Self {
        let (line, column) = (err.line(), err.column());
        Self::new(format!("no JSON, at line {line} column {column}"))
    }
}

/// Why a body can not be rendered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// It is no document.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The rendering failed.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// What becomes of text that stands beside elements, as in `<a>one<b/>two</a>`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MixedContent {
    /// All of it, joined, as `#text`.
    #[default]
    Joined,
    /// As Tyk has it: text before the first element hides the elements, of several texts the last counts.
    Tyk,
}

/// Reads JSON as Go does: nothing is an empty object, an array is the member `array` of one, and of
/// whatever else is no object nothing is seen.
///
/// # Errors
///
/// Fails where it is no JSON, or nested too deeply.
pub fn json(bytes: &[u8]) -> Result<Json, InputError> {
    if bytes.is_empty() {
        return Ok(Json::Object(serde_json::Map::new()));
    }
    let value = json::decode(bytes).map_err(|err| InputError::no_json(&err))?;
    Ok(match value {
        Json::Object(_) => value,
        Json::Array(_) => Json::Object([("array".to_owned(), value)].into_iter().collect()),
        _ => Json::Object(serde_json::Map::new()),
    })
}

/// Reads a form: each name is a member, a text where it comes once and a list where it comes more often.
/// A broken escape stays as it is.
pub fn form(bytes: &[u8]) -> Json {
    let mut members = serde_json::Map::new();
    for (name, value) in form_urlencoded::parse(bytes) {
        let value = Json::String(value.into_owned());
        match members.get_mut(&*name) {
            None => {
                members.insert(name.into_owned(), value);
            }
            Some(Json::Array(all)) => all.push(value),
            Some(first) => *first = Json::Array(vec![first.take(), value]),
        }
    }
    Json::Object(members)
}

/// Reads XML: the root is the one member, attributes are members with `-` before their names, the text
/// beside them is `#text`, and what is repeated is a list. Nothing is read as `<_/>`.
///
/// ```
/// use serde_json::json;
/// use tollgate_template::{MixedContent, xml};
///
/// let read = xml(br#"<a id="1"><b>x</b><b>y</b></a>"#, MixedContent::Joined)?;
/// assert_eq!(read, json!({"a": {"-id": "1", "b": ["x", "y"]}}));
/// # Ok::<(), tollgate_template::InputError>(())
/// ```
///
/// # Errors
///
/// Fails where it is no XML, nested too deeply, in an encoding that is not known, or with entities of its
/// own.
pub fn xml(bytes: &[u8], mixed: MixedContent) -> Result<Json, InputError> {
    xml::read::read(bytes, mixed)
}
