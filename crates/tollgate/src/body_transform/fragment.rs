//! Transforms as Tyk's definitions write them.

use std::path::{Component, Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use tollgate_core::{
    access::{PathOptions, PatternError},
    variables::SecretName,
};
use tollgate_template::{Options, Template};

use super::{BodyFormat, BodyTemplateError, BodyTransform, BodyTransformLayer};

/// The largest template that is read from a file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The members `transform` and `transform_response` of `extended_paths`.
///
/// ```
/// use tollgate::body_transform::TransformPaths;
///
/// let paths: TransformPaths = serde_json::from_str(r#"{
///     "transform": [{"path": "/get", "method": "GET", "template_data": {
///         "input_type": "json", "template_mode": "blob", "enable_session": true, "template_source": "Ymxvb3A="}}]
/// }"#)?;
/// let layer = paths.layer(None)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct TransformPaths {
    /// Of requests.
    pub transform: Vec<TransformEntry>,
    /// Of responses.
    pub transform_response: Vec<TransformEntry>,
}

/// An entry of one of them. Of entries that match a request, the first counts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct TransformEntry {
    /// Whether it is passed over.
    pub disabled: bool,
    /// The path: text with `{name}` for a segment, or a regular expression.
    pub path: String,
    /// The method, in its own capitals.
    pub method: String,
    /// The template.
    pub template_data: TemplateData,
}

/// The template of an entry.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct TemplateData {
    /// What bodies are read as: `json` or `xml`; here also `form`.
    pub input_type: String,
    /// Where the template is: `blob` in the entry, in base64; `file` in a file.
    pub template_mode: String,
    /// Whether the template is given the session's metadata, as `._tyk_meta`.
    pub enable_session: bool,
    /// The template, or the name of its file.
    pub template_source: String,
}

/// Whose bodies are meant: in templates of responses `$tyk_meta.x` is text, as with Tyk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Of requests.
    Request,
    /// Of responses.
    Response,
}

/// Why an entry can not be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransformEntryError {
    /// The mode is neither `blob` nor `file`.
    #[error("No valid template mode defined, must be either 'file' or 'blob'")]
    Mode,
    /// The blob is not in base64.
    #[error("the template is not in base64")]
    Base64,
    /// The input type is not known.
    #[error("the input type is neither `json` nor `xml` nor `form`")]
    InputType,
    /// The file can not be read.
    #[error("the file can not be read")]
    File(#[source] std::io::Error),
    /// The file is not in the folder of templates, or there is no such folder.
    #[error("the file is not in the folder of templates")]
    Folder,
    /// The path can not be compiled.
    #[error("the path can not be followed")]
    Path(#[source] PatternError),
    /// The template can not be parsed.
    #[error("the template can not be followed")]
    Template(#[source] BodyTemplateError),
}

/// Which entry can not be followed.
#[derive(Debug, thiserror::Error)]
#[error("{member}[{index}]")]
pub struct TransformPathsError {
    member: &'static str,
    index: usize,
    #[source]
    source: TransformEntryError,
}

impl TransformPaths {
    /// The layer that does what the entries say. Templates in files are read from `folder` and nowhere else.
    ///
    /// # Errors
    ///
    /// Fails with the first entry that can not be followed.
    pub fn layer(&self, folder: Option<&Path>) -> Result<BodyTransformLayer, TransformPathsError> {
        let mut layer = BodyTransformLayer::new();
        let sides = [
            ("transform", &self.transform),
            ("transform_response", &self.transform_response),
        ];
        for (member, entries) in sides {
            for (index, entry) in entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| !entry.disabled)
            {
                let wrong = |source| TransformPathsError {
                    member,
                    index,
                    source,
                };
                let side = match member {
                    "transform" => Side::Request,
                    _ => Side::Response,
                };
                let transform = entry.template_data.transform(side, folder).map_err(wrong)?;
                let (method, path, options) = (&entry.method, &entry.path, PathOptions::default());
                let added = match side {
                    Side::Request => layer.request_on(method, path, options, transform),
                    Side::Response => layer.response_on(method, path, options, transform),
                };
                layer = added.map_err(|err| wrong(TransformEntryError::Path(err)))?;
            }
        }
        Ok(layer)
    }
}

impl TemplateData {
    /// The transform that it says; the context of the request is given to the template too.
    ///
    /// # Errors
    ///
    /// Fails where it can not be followed.
    pub fn transform(
        &self,
        side: Side,
        folder: Option<&Path>,
    ) -> Result<BodyTransform, TransformEntryError> {
        let format = match &*self.input_type {
            "json" => BodyFormat::Json,
            "xml" => BodyFormat::Xml,
            "form" => BodyFormat::Form,
            _ => return Err(TransformEntryError::InputType),
        };
        let (name, text) = self.template(folder)?;
        let transform = match side {
            Side::Request => BodyTransform::parse(&name, text),
            Side::Response => Template::parse(&name, text)
                .map(Into::into)
                .map_err(Into::into),
        };
        let transform = transform.map_err(TransformEntryError::Template)?;
        let transform = transform.with_format(format).with_context();
        Ok(if self.enable_session {
            transform.with_session()
        } else {
            transform
        })
    }

    /// The template alone, with secrets put into its text where it is for requests; bodies are read as JSON
    /// unless the caller says otherwise.
    ///
    /// # Errors
    ///
    /// Fails where it can not be followed.
    pub fn parse(
        &self,
        side: Side,
        folder: Option<&Path>,
        options: Options,
        secret: impl FnMut(SecretName<'_>) -> Option<String>,
    ) -> Result<BodyTransform, TransformEntryError> {
        let (name, text) = self.template(folder)?;
        let transform = match side {
            Side::Request => BodyTransform::parse_with_secrets(options, &name, text, secret),
            Side::Response => options.parse(&name, text).map(Into::into),
        };
        let transform = transform.map_err(|err| TransformEntryError::Template(err.into()))?;
        Ok(if self.enable_session {
            transform.with_session()
        } else {
            transform
        })
    }

    /// The name and the text of the template.
    fn template(&self, folder: Option<&Path>) -> Result<(String, Vec<u8>), TransformEntryError> {
        match &*self.template_mode {
            "blob" => {
                let blob: String = self
                    .template_source
                    .chars()
                    .filter(|c| !matches!(c, '\r' | '\n'))
                    .collect();
                let text = STANDARD
                    .decode(blob)
                    .map_err(|_| TransformEntryError::Base64)?;
                Ok((String::new(), text))
            }
            "file" => {
                let folder = folder.ok_or(TransformEntryError::Folder)?;
                let file = within(folder, Path::new(&self.template_source))?;
                let name = file
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                Ok((name, read(&file)?))
            }
            _ => Err(TransformEntryError::Mode),
        }
    }
}

/// The file, where it lies in the folder with all links followed.
fn within(folder: &Path, file: &Path) -> Result<PathBuf, TransformEntryError> {
    if file.components().any(|part| part == Component::ParentDir) {
        return Err(TransformEntryError::Folder);
    }
    let folder = folder
        .canonicalize()
        .map_err(|_| TransformEntryError::Folder)?;
    let file = folder
        .join(file)
        .canonicalize()
        .map_err(TransformEntryError::File)?;
    if !file.starts_with(&folder) {
        return Err(TransformEntryError::Folder);
    }
    Ok(file)
}

fn read(file: &Path) -> Result<Vec<u8>, TransformEntryError> {
    use std::io::{Error, ErrorKind, Read};
    let opened = std::fs::File::open(file).map_err(TransformEntryError::File)?;
    let kind = opened.metadata().map_err(TransformEntryError::File)?;
    if !kind.is_file() {
        return Err(TransformEntryError::File(ErrorKind::IsADirectory.into()));
    }
    if kind.len() > LARGEST {
        return Err(TransformEntryError::File(Error::from(
            ErrorKind::FileTooLarge,
        )));
    }
    let mut text = Vec::new();
    let read = opened.take(LARGEST).read_to_end(&mut text);
    read.map_err(TransformEntryError::File)?;
    Ok(text)
}
