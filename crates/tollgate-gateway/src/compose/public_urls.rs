//! What response processors called `header_transform` say, compiled.

use std::sync::Arc;

use http::HeaderName;
use serde::Deserialize;

use super::Wrong;
use crate::{
    definition::Definition,
    edge::public_urls::{PublicUrlGate, PublicUrls},
    problem::JsonPath,
};

/// Its options, by Tyk's names.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    rev_proxy_header_cleanup: Cleanup,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cleanup {
    #[serde(rename = "Headers", alias = "headers")]
    headers: Vec<String>,
    #[serde(rename = "Target_host", alias = "target_host")]
    target_host: String,
}

/// The gate; `None` where no header is named.
pub(super) fn public_urls(
    definition: &Definition,
    listen: &Arc<str>,
) -> Result<Option<PublicUrlGate>, Wrong> {
    let mut headers = Vec::new();
    let proxy = &definition.proxy;
    for (index, processor) in definition.response_processors.iter().enumerate() {
        if processor.name != "header_transform" || processor.options.0.is_null() {
            continue;
        }
        let place = || -> JsonPath {
            let processors = JsonPath::from("response_processors");
            processors.index(index).key("options")
        };
        let options = Options::deserialize(&processor.options.0);
        let options = options.map_err(|err| (place(), err.to_string()))?;
        let cleanup = options.rev_proxy_header_cleanup;
        for name in &cleanup.headers {
            let wrong = |message| (place().key("rev_proxy_header_cleanup"), message);
            let header = HeaderName::try_from(name.as_str())
                .map_err(|_| wrong(format!("`{name}` can not be a header's name")))?;
            let urls = PublicUrls::new(
                &proxy.target_url,
                &cleanup.target_host,
                &proxy.listen_path,
                proxy.strip_listen_path,
            );
            headers.push((header, urls.map_err(wrong)?));
        }
    }
    Ok((!headers.is_empty()).then(|| PublicUrlGate {
        headers: headers.into(),
        listen: listen.clone(),
    }))
}
