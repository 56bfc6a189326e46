//! One body made into another: the decision, without HTTP.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, request::Parts};
use serde_json::Value;
use tollgate_core::variables::{Context, NoContext, SecretMissing, SecretName, Text, ValueStyle};
use tollgate_template::{
    ErrorKind, Format, Input, InputError, MixedContent, Options, RenderError, Template,
    TemplateError,
};

use super::memory::Memory;
use crate::{
    buffer,
    coding::{self, CodingError, Recode},
    context::{RequestContext, template_context},
    visit::Visit,
};

/// What a body is read as.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum BodyFormat {
    /// JSON. An array is `.array`, nothing is an empty object.
    #[default]
    Json,
    /// XML, as [`tollgate_template::xml`] reads it.
    Xml,
    /// A form: `.name` is a text, or a list where the name comes more than once.
    Form,
}

/// A template, and what it is given: makes one body into another.
///
/// ```
/// use tollgate::body_transform::{BodyTransform, Given};
///
/// let transform = BodyTransform::parse("order", r#"{"item": {{ .thing | jsonMarshal }}}"#)?;
/// assert_eq!(transform.render(br#"{"thing": "a \"b\""}"#, &Given::nothing())?, br#"{"item": "a \"b\""}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BodyTransform {
    template: Arc<Template>,
    texts: Arc<[Text]>,
    format: BodyFormat,
    mixed: MixedContent,
    style: ValueStyle,
    takes_session: bool,
    takes_context: bool,
}

/// Why a template can not be used for bodies.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyTemplateError {
    /// It is no template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Its text names a secret.
    #[error("a text of the template can not be used")]
    Secret(#[source] SecretMissing),
}

/// Why a body could not be made into another.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyTransformError {
    /// The body's coding can not be undone.
    #[error("the body can not be decoded")]
    Coding(#[source] CodingError),
    /// The body is not in the format that it should be in.
    #[error("the body can not be read")]
    Input(#[source] InputError),
    /// The template failed.
    #[error("the template failed")]
    Template(#[source] TemplateError),
}

impl From<RenderError> for BodyTransformError {
    fn from(err: RenderError) -> Self {
        match err {
            RenderError::Input(err) => Self::Input(err),
            RenderError::Template(err) => Self::Template(err),
        }
    }
}

impl BodyTransformError {
    /// Whether it lies in the body, and not in the template.
    pub fn is_of_body(&self) -> bool {
        !matches!(self, Self::Template(_))
    }

    /// Whether the decoded body is larger than the cap, or the body, what it is read into, what the template makes and
    /// what it writes take more together than [`Memory`] has: with a larger cap it may well work.
    pub fn is_too_large(&self) -> bool {
        match self {
            Self::Coding(err) => {
                matches!(err, CodingError::TooLarge | CodingError::TooMuchMemory)
            }
            Self::Input(err) => err.is_too_large(),
            Self::Template(err) => err.kind() == ErrorKind::Memory,
        }
    }
}

/// What a template is given besides the body.
#[derive(Clone, Default)]
pub struct Given {
    meta: Option<Value>,
    context: Option<Input<'static>>,
    texts: Vec<String>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given") // What it holds is about people.
    }
}

impl Given {
    /// Neither a session nor a request: variables have no values.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Sets a field of `._tyk_context`, where the template is given one.
    #[must_use]
    pub fn with_context_field(mut self, name: &'static str, value: Input<'static>) -> Self {
        if let Some(Input::Map(fields)) = &mut self.context {
            fields.insert(name.into(), value);
        }
        self
    }
}

impl From<Template> for BodyTransform {
    /// The template as it is: `$tyk_meta.x` in its text is text.
    fn from(template: Template) -> Self {
        Self::of(template, [].into())
    }
}

impl BodyTransform {
    fn of(template: Template, texts: Arc<[Text]>) -> Self {
        Self {
            template: Arc::new(template),
            texts,
            format: BodyFormat::default(),
            mixed: MixedContent::default(),
            style: ValueStyle::default(),
            takes_session: false,
            takes_context: false,
        }
    }

    /// Parses a template. Its text, outside of actions, may have `$tyk_meta.x`, and with
    /// [`with_context`](Self::with_context) `$tyk_context.x`. They are filled in escaped as in a query; what an
    /// action writes is never looked at for them.
    ///
    /// # Errors
    ///
    /// Fails where it is no template, or its text names a secret.
    pub fn parse(name: &str, text: impl AsRef<[u8]>) -> Result<Self, BodyTemplateError> {
        let mut missing = None;
        let parsed = Self::parse_with(Options::new(), name, text, |text| {
            let parsed = Text::parse(text);
            parsed
                .map_err(|err| missing.get_or_insert(err).clone())
                .ok()
        })?;
        match missing {
            Some(err) => Err(BodyTemplateError::Secret(err)),
            None => Ok(parsed),
        }
    }

    /// As [`parse`](Self::parse), with options, and with secrets that become part of the text.
    ///
    /// # Errors
    ///
    /// Fails where it is no template.
    pub fn parse_with_secrets(
        options: Options,
        name: &str,
        text: impl AsRef<[u8]>,
        mut secret: impl FnMut(SecretName<'_>) -> Option<String>,
    ) -> Result<Self, TemplateError> {
        Self::parse_with(options, name, text, |text| {
            Some(Text::with_secrets(text, &mut secret))
        })
    }

    fn parse_with(
        options: Options,
        name: &str,
        text: impl AsRef<[u8]>,
        mut parse: impl FnMut(&str) -> Option<Text>,
    ) -> Result<Self, TemplateError> {
        let mut texts = Vec::new();
        let template = options.parse_with_texts(name, text, |text| {
            let text = str::from_utf8(text)
                .ok()
                .filter(|text| text.contains('$'))?;
            let parsed = parse(text)?;
            if parsed.as_literal() == Some(text) {
                return None;
            }
            texts.push(parsed);
            Some(texts.len() - 1)
        })?;
        Ok(Self::of(template, texts.into()))
    }

    /// Reads bodies as this.
    pub fn with_format(mut self, format: BodyFormat) -> Self {
        self.format = format;
        self
    }

    /// Gives the session's metadata to the template, as `._tyk_meta`.
    pub fn with_session(mut self) -> Self {
        self.takes_session = true;
        self
    }

    /// Gives the request to the template, as `._tyk_context`; see [`context`](crate::context) for its names.
    pub fn with_context(mut self) -> Self {
        self.takes_context = true;
        self
    }

    /// Reads XML with text beside elements, and writes values into the text, as Tyk does: part of that text
    /// is lost, and booleans and objects are nothing.
    pub fn with_tyk_rules(mut self) -> Self {
        self.mixed = MixedContent::Tyk;
        self.style = ValueStyle::Tyk;
        self
    }

    /// What the template is to be given of a request and its session.
    pub fn given(&self, head: &Parts, visit: Option<&Visit>) -> Given {
        let nobody = Visit::default();
        let context = RequestContext {
            head,
            visit: visit.unwrap_or(&nobody),
        };
        let meta = context.visit.session().map(|session| &session.meta_data);
        let of_request: &dyn Context = if self.takes_context {
            &context
        } else {
            &NoContext
        };
        let texts = self.texts.iter();
        let texts = texts.map(|text| text.fill_escaped(meta, of_request, self.style));
        let meta = meta.filter(|_| self.takes_session);
        Given {
            meta: meta.map(|meta| meta.read().unwrap_or_default()),
            context: self.takes_context.then(|| template_context(&context)),
            texts: texts.collect(),
        }
    }

    /// Makes a body into another, with the memory for bodies of up to 1 MiB, or of this size where it is larger.
    ///
    /// # Errors
    ///
    /// Fails where the body can not be read, or the template can not be rendered with it.
    pub fn render(&self, body: &[u8], given: &Given) -> Result<Vec<u8>, BodyTransformError> {
        let memory = Memory::for_bodies_up_to(body.len().max(buffer::MOST));
        self.render_within(body, given, memory.besides(body.len()))
    }

    /// Makes a body into another, and takes so many bytes for that, beside the body.
    ///
    /// # Errors
    ///
    /// As [`render`](Self::render), and where it takes [more](BodyTransformError::is_too_large).
    pub fn render_within(
        &self,
        body: &[u8],
        given: &Given,
        room: usize,
    ) -> Result<Vec<u8>, BodyTransformError> {
        // What a client sends under these names is never taken for what the gateway knows.
        let meta = given.meta.as_ref().map_or(Input::Missing, Input::Json);
        let context = given.context.as_ref();
        let context = context.map_or(Input::Missing, Input::Borrowed);
        let besides = [("_tyk_meta", meta), ("_tyk_context", context)];
        let fill = |number: usize| given.texts.get(number).cloned().unwrap_or_default();
        let format = match self.format {
            BodyFormat::Json => Format::Json,
            BodyFormat::Xml => Format::Xml(self.mixed),
            BodyFormat::Form => Format::Form,
        };
        let rendered = self
            .template
            .render_body(body, format, &besides, &fill, room);
        Ok(rendered?)
    }

    /// The context variables that the text names.
    pub fn context_names(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().flat_map(Text::context_names)
    }

    /// Whether the template's text has this word, in an action or outside of one: where it has not, what is
    /// called so need not be found out.
    pub fn mentions(&self, word: &str) -> bool {
        self.template.mentions(word)
    }
}

/// Undoes the coding of a body of up to `most` bytes, has another made of it, and codes that as the first was. Headers
/// that tell of the coding are set; the length is not. `make` is told how many bytes it may take beside the body: all
/// together is within the [`Memory`] for such bodies.
///
/// # Errors
///
/// Fails where the body can not be decoded, or `make` fails.
pub fn recoded(
    headers: &mut HeaderMap,
    body: &Bytes,
    most: usize,
    recode: Recode,
    make: impl FnOnce(&[u8], usize) -> Result<Vec<u8>, BodyTransformError>,
) -> Result<Bytes, BodyTransformError> {
    let room = Memory::for_bodies_up_to(most).besides(body.len());
    let decoded = coding::decode(headers, body, most, room).map_err(BodyTransformError::Coding)?;
    let decoded = decoded.recoded(recode);
    let again = decoded.again;
    let is_copy = decoded.bytes.as_ptr() != body.as_ptr();
    let room_to_make = match is_copy {
        true => room.saturating_sub(decoded.bytes.len()),
        false => room,
    };
    let made = make(&decoded.bytes, room_to_make)?;
    drop(decoded);
    let room = room.saturating_sub(made.capacity());
    Ok(coding::encode(again, made, headers, room))
}

/// Takes out of a response what was said of the body that another stands for.
pub fn forget_old_body(headers: &mut HeaderMap) {
    for name in [
        "etag",
        "content-md5",
        "digest",
        "content-digest",
        "repr-digest",
        "accept-ranges",
    ] {
        headers.remove(name);
    }
}

/// The values of a context by name, for templates.
pub(crate) type Fields = BTreeMap<Cow<'static, str>, Input<'static>>;
