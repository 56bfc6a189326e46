//! Where an API's tokens are looked for, and where they are taken out.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderName, header::AUTHORIZATION, request::Parts};
use tollgate::{
    Rejection,
    token_source::{CookieSource, HeaderSource, QuerySource, TokenSource},
};

use super::Wrong;
use crate::{
    definition::{AuthSource, Definition},
    edge::query::write_anew,
    problem::JsonPath,
};

/// The sources in Tyk's order: of several tokens that of a cookie counts, then that of the query.
pub(super) fn sources(definition: &Definition) -> Result<Vec<Arc<dyn TokenSource>>, Wrong> {
    let mut sources = sources_of(definition.token_source(), &"auth".into())?;
    if sources.is_empty() {
        sources.push(Nowhere.shared());
    }
    Ok(sources)
}

/// What leaves with the credential besides: whatever is sent for a method of authentication, in use or
/// not. A header goes even where it is not read.
pub(super) fn removed(definition: &Definition) -> Result<Vec<Arc<dyn TokenSource>>, Wrong> {
    let mut removed = Vec::new();
    for (kind, source) in &definition.auth_configs {
        let path = JsonPath::from("auth_configs").key(kind);
        removed.extend(sources_of(source, &path)?);
        removed.push(HeaderSource::new(header(source, &path)?).shared());
    }
    if removed.is_empty() {
        let header = header(&definition.auth, &"auth".into())?;
        removed.push(HeaderSource::new(header).shared());
    }
    Ok(removed)
}

fn sources_of(source: &AuthSource, path: &JsonPath) -> Result<Vec<Arc<dyn TokenSource>>, Wrong> {
    let header = header(source, path)?;
    let unnamed = match source.auth_header_name.as_str() {
        "" => "Authorization",
        name => name,
    };
    let or_unnamed = |name: &str| if name.is_empty() { unnamed } else { name }.to_owned();
    let mut sources = Vec::new();
    if source.use_cookie {
        sources.push(CookieSource::new(or_unnamed(&source.cookie_name)).shared());
    }
    if source.use_param {
        let name = or_unnamed(&source.param_name);
        sources.push(InQuery(QuerySource::new(name)).shared());
    }
    if !source.disable_header {
        sources.push(HeaderSource::new(header).shared());
    }
    Ok(sources)
}

fn header(source: &AuthSource, path: &JsonPath) -> Result<HeaderName, Wrong> {
    match source.auth_header_name.as_str() {
        "" => Ok(AUTHORIZATION),
        name => HeaderName::try_from(name).map_err(|_| {
            let message = format!("`{name}` can not be a header's name");
            (path.key("auth_header_name"), message)
        }),
    }
}

/// A token in the query. Taken out or not, the upstream gets the query as Tyk writes it then.
struct InQuery(QuerySource);

impl TokenSource for InQuery {
    fn find<'a>(&self, head: &'a Parts) -> Result<Option<Cow<'a, str>>, Rejection> {
        self.0.find(head)
    }

    fn remove(&self, head: &mut Parts) {
        self.0.remove(head);
        write_anew(head, None);
    }
}

/// Where a definition looks for tokens nowhere: nobody has one.
struct Nowhere;

impl TokenSource for Nowhere {
    fn find<'a>(&self, _head: &'a Parts) -> Result<Option<Cow<'a, str>>, Rejection> {
        Ok(None)
    }
}
