//! The `CORS` section, compiled.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::Wrong;
use crate::{
    definition::Definition,
    edge::cors::{Cors, Origins},
    problem::JsonPath,
};

/// What is allowed where nothing is said, as in Go's `rs/cors`.
const METHODS: [&str; 3] = ["GET", "POST", "HEAD"];
const HEADERS: [&str; 3] = ["accept", "content-type", "x-requested-with"];

/// `None` where there is no section that is on.
pub(super) fn cors(definition: &Definition) -> Result<Option<Arc<Cors>>, Wrong> {
    let section = &definition.cors;
    if !section.enable {
        return Ok(None);
    }
    let place = |member: &str| JsonPath::from("CORS").key(member);
    let names = |member: &str, texts: &[String]| -> Result<Vec<HeaderName>, Wrong> {
        let name = |text: &String| {
            let wrong = |_| {
                (
                    place(member),
                    format!("`{text}` can not be a header's name"),
                )
            };
            HeaderName::try_from(text).map_err(wrong)
        };
        texts.iter().map(name).collect()
    };
    let any_header = section.allowed_headers.iter().any(|name| name == "*");
    let headers = match &*section.allowed_headers {
        _ if any_header => None,
        [] => Some(HEADERS.map(HeaderName::from_static).into()),
        texts => Some(names("allowed_headers", texts)?),
    };
    names("exposed_headers", &section.exposed_headers)?;
    let exposed = section.exposed_headers.join(", ");
    let methods = match &*section.allowed_methods {
        [] => METHODS.map(str::to_owned).into(),
        methods => methods.to_vec(),
    };
    let max_age = match section.max_age {
        0 => None,
        seconds => Some(HeaderValue::from(seconds.max(0))),
    };
    Ok(Some(Arc::new(Cors {
        origins: Origins::new(&section.allowed_origins),
        methods,
        headers,
        exposed: HeaderValue::try_from(exposed)
            .ok()
            .filter(|value| !value.is_empty()),
        credentials: section.allow_credentials,
        max_age,
        passes_options: section.options_passthrough,
        debug: section.debug,
    })))
}
