//! The API's own rates, compiled.

use std::sync::Arc;

use tollgate::{Limit, Rate, limits::OwnLimit, rejection::LimitOwner, stack::Builder};

use super::{Composer, Wrong};
use crate::{
    definition::{Definition, RateLimitEntry, Version},
    edge::{
        SkippedVersion, Where,
        rates::{EntryRate, RateEntries, Rates},
    },
};

impl Composer<'_> {
    /// Charges every request to the API its rate, or that of its path.
    pub(super) fn api_limits(
        &self,
        builder: Builder,
        definition: &Definition,
        listen: &Arc<str>,
    ) -> Result<Builder, Wrong> {
        if definition.disable_rate_limit {
            return Ok(builder);
        }
        let of_api = match definition.api_rate() {
            Some((rate, per)) => {
                let (org, api) = (&definition.org_id, &definition.api_id);
                let name = match self.config.hash_keys {
                    true => format!("api:{api}"),
                    // Tyk's name of it may be used where that is not hashed.
                    false => format!("api:{}:{org}:{api}", org.as_str().len()),
                };
                let limit = self.own_rate(&name, rate, per);
                limit.map_err(|message| ("global_rate_limit".into(), message))?
            }
            None => None,
        };
        let mut versions = definition.version_data.versions.values();
        if !versions.any(|version| self.has_rates(version)) {
            return Ok(of_api.into_iter().fold(builder, Builder::limit));
        }
        let rates = Rates {
            listen: listen.clone(),
            of_api: of_api.map(Arc::new),
        };
        Ok(builder.limit_by(move |head| rates.choose(head)))
    }

    fn has_rates(&self, version: &Version) -> bool {
        let mut entries = version.extended_paths.rate_limit.iter();
        version.use_extended_paths && entries.any(|entry| !entry.disabled)
    }

    /// The `rate_limit` entries of a version. One that is off or says nothing still is the first of its
    /// path, as in Tyk.
    pub(super) fn rate_entries(
        &self,
        definition: &Definition,
        version: &Version,
        skips: Option<&SkippedVersion>,
    ) -> Result<RateEntries, String> {
        if !self.has_rates(version) {
            return Ok(Vec::new());
        }
        let compile = |entry: &RateLimitEntry| {
            let place = Where::new(&entry.path, &entry.method, self.config.path_options());
            let place = place.map_err(|err| err.to_string())?;
            let place = place.skipping(skips.cloned());
            Ok((place, self.entry_rate(definition, entry)?))
        };
        let entries = version.extended_paths.rate_limit.iter();
        entries.map(compile).collect()
    }

    fn entry_rate(
        &self,
        definition: &Definition,
        entry: &RateLimitEntry,
    ) -> Result<EntryRate, String> {
        if entry.disabled || entry.rate == 0.0 || entry.per <= 0.0 {
            return Ok(EntryRate::OfApi);
        }
        // The lengths keep one API's names out of another's.
        let (api, method) = (definition.api_id.as_str(), &entry.method);
        let name = format!(
            "endpoint:{}:{api}:{}:{method}:{}",
            api.len(),
            method.len(),
            entry.path
        );
        let limit = self.own_rate(&name, entry.rate, entry.per)?;
        Ok(limit.map_or(EntryRate::Free, |limit| EntryRate::Own(Arc::new(limit))))
    }

    fn own_rate(&self, name: &str, rate: f64, per: f64) -> Result<Option<OwnLimit>, String> {
        let rate =
            Rate::from_wire(rate, per, self.config.algorithm()).map_err(|err| err.to_string())?;
        let limit = |rate| OwnLimit::global(name, LimitOwner::Api, Limit::Rate(rate));
        Ok(rate.map(limit))
    }
}
