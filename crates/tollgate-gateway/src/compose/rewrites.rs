//! Other URLs of requests, compiled.

use std::sync::Arc;

use tollgate::{
    rewrite::{Rewrite, UrlRewriteEntry},
    variables::SecretName,
};

use super::Composer;
use crate::{
    definition::{Definition, Version},
    edge::{
        SkippedVersion, Where,
        headers::HeaderRules,
        rewrites::{Place, RewriteRule, Whither},
        schema::MOST,
    },
};

impl Composer<'_> {
    /// The `url_rewrites` of a version. Headers of its answers may name variables of triggers.
    pub(super) fn rewrites(
        &self,
        definition: &Definition,
        version: &Version,
        skips: Option<&SkippedVersion>,
        (listen, headers): (&Arc<str>, &HeaderRules),
    ) -> Result<Vec<(Where, Arc<RewriteRule>)>, String> {
        let entries = version.extended_paths.url_rewrites.iter();
        let entries = entries.filter(|entry| version.use_extended_paths && !entry.disabled);
        let compile = |entry: &UrlRewriteEntry| {
            let place = Where::new(&entry.path, &entry.method, self.config.path_options());
            let place = place.map_err(|err| err.to_string())?;
            let secrets = |name: SecretName<'_>| self.secrets.find(name);
            let rewrite = Rewrite::of_entry(entry, secrets).map_err(|err| err.to_string())?;
            let rewrite = rewrite.with_tyk_values().telling(headers.trigger_names());
            let of_api = Place {
                has_context: definition.enable_context_vars,
                listen: listen.clone(),
                most: self.most_of_body(),
            };
            let rule = RewriteRule::new(rewrite, of_api, |name| self.whither(name))?;
            Ok((place.skipping(skips.cloned()), Arc::new(rule)))
        };
        entries.map(compile).collect()
    }

    /// The API that a `tyk://` target means.
    fn whither(&self, name: &str) -> Result<Whither, String> {
        if name == "self" {
            return Ok(Whither::Own);
        }
        if name.contains('#') {
            return Ok(Whither::Other(None)); // What stands behind it in a name is no part of it.
        }
        self.names.find(name).map(Whither::Other)
    }

    /// How much of a body is read, in bytes, where all of it has to be seen.
    pub(super) fn most_of_body(&self) -> usize {
        let most = self.config.http_server_options.max_request_body_size;
        let most = usize::try_from(most).ok().filter(|most| *most > 0);
        most.unwrap_or(MOST)
    }
}
