//! Body transforms, compiled.

use std::path::{Path, PathBuf};

use tollgate::{
    body_transform::{BodyFormat, BodyTransform, Side, TemplateData, TransformEntryError},
    variables::SecretName,
};
use tollgate_template::{Limits, Options};

use super::Composer;
use crate::{
    config::Config,
    definition::{Definition, TemplateEntry, Version},
    edge::{
        SkippedVersion, Where,
        schema::MOST,
        transforms::{Bounds, TransformRules},
    },
};

impl Composer<'_> {
    /// The `transform` and `transform_response` of a version. The message's place is the member of
    /// `extended_paths`.
    pub(super) fn transforms(
        &self,
        definition: &Definition,
        version: &Version,
        skips: Option<&SkippedVersion>,
    ) -> Result<TransformRules, (&'static str, String)> {
        let mut rules = TransformRules {
            bounds: self.bounds(),
            ..TransformRules::default()
        };
        if !version.use_extended_paths {
            return Ok(rules);
        }
        let paths = &version.extended_paths;
        for (side, member, entries) in [
            (Side::Request, "transform", &paths.transform),
            (
                Side::Response,
                "transform_response",
                &paths.transform_response,
            ),
        ] {
            for entry in entries.iter().filter(|entry| !entry.disabled) {
                let secrets = |name: SecretName<'_>| self.secrets.find(name);
                // One that can not be followed is passed over, as with Tyk; the check of the definition
                // warned of it.
                let Ok(transform) = template(self.config, side, entry, secrets) else {
                    continue;
                };
                let transform = transform.with_tyk_rules();
                let transform = match definition.enable_context_vars {
                    true => transform.with_context(),
                    false => transform,
                };
                let place = Where::new(&entry.path, &entry.method, self.config.path_options());
                let place = place.map_err(|err| (member, err.to_string()))?;
                let place = place.skipping(skips.cloned());
                let data = &entry.template_data;
                match side {
                    Side::Request => {
                        let format = format_of_request(&data.input_type);
                        let transform = format.map(|format| transform.with_format(format));
                        rules.request.push((place, transform));
                    }
                    Side::Response => {
                        let transform = transform.with_format(format_of_response(&data.input_type));
                        rules.response.push((place, transform));
                    }
                }
            }
        }
        Ok(rules)
    }

    fn bounds(&self) -> Bounds {
        let most = self.config.http_server_options.max_response_body_size;
        let most = usize::try_from(most).ok().filter(|most| *most > 0);
        Bounds {
            request: self.most_of_body(),
            response: most.unwrap_or(MOST),
            refuses_large_responses: most.is_some(),
            refuses_failed: self.config.tollgate.refuse_failed_transforms,
        }
    }
}

/// What requests are read as; none where that is not known.
pub(crate) fn format_of_request(input_type: &str) -> Option<BodyFormat> {
    match input_type {
        "json" => Some(BodyFormat::Json),
        "xml" => Some(BodyFormat::Xml),
        _ => None,
    }
}

fn format_of_response(input_type: &str) -> BodyFormat {
    match input_type {
        "xml" => BodyFormat::Xml,
        _ => BodyFormat::Json,
    }
}

/// The template of an entry.
pub(crate) fn template(
    config: &Config,
    side: Side,
    entry: &TemplateEntry,
    secrets: impl FnMut(SecretName<'_>) -> Option<String>,
) -> Result<BodyTransform, TransformEntryError> {
    let limits = Limits {
        output: MOST,
        ..Limits::default()
    };
    let data = &entry.template_data;
    let data = TemplateData {
        input_type: data.input_type.clone(),
        template_mode: data.template_mode.clone(),
        enable_session: data.enable_session,
        template_source: data.template_source.clone(),
    };
    let folder = folder(config);
    data.parse(
        side,
        folder.as_deref(),
        Options::new().with_limits(limits),
        secrets,
    )
}

/// The folder of templates: that of the configuration, or `files` beside the definitions.
fn folder(config: &Config) -> Option<PathBuf> {
    let own = &config.tollgate.transform_folder;
    if !own.is_empty() {
        return Some(own.into());
    }
    let definitions = Path::new(&config.app_path);
    definitions.parent().map(|folder| folder.join("files"))
}
