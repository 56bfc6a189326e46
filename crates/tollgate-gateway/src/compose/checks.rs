//! Schemas of bodies and circuit breakers, compiled.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use super::Composer;
use crate::{
    definition::{CircuitBreakerEntry, Definition, ValidateJsonEntry, Version},
    edge::{
        SkippedVersion, Where,
        breaker::{Breaker, Settings},
        schema::Schema,
        upstream::CheckRules,
    },
};

impl Composer<'_> {
    /// The message's place is the member of `extended_paths`.
    pub(super) fn check_rules(
        &self,
        definition: &Definition,
        version: &Version,
        skips: Option<&SkippedVersion>,
    ) -> Result<CheckRules, (&'static str, String)> {
        let paths = &version.extended_paths;
        if !version.use_extended_paths {
            return Ok(CheckRules::default());
        }
        let place = |path: &str, method: &str| {
            let place = Where::new(path, method, self.config.path_options());
            let place = place.map_err(|err| err.to_string())?;
            Ok::<_, String>(place.skipping(skips.cloned()))
        };
        let schemas = paths.validate_json.iter().filter(|entry| !entry.disabled);
        let schemas = schemas.map(|entry| {
            let schema = self.schema(entry)?;
            Ok((place(&entry.path, &entry.method)?, Arc::new(schema)))
        });
        let schemas: Result<_, String> = schemas.collect();
        let breakers = paths.circuit_breakers.iter();
        let breakers = breakers.filter(|entry| !entry.disabled).map(|entry| {
            let breaker = breaker(definition, entry);
            Ok((place(&entry.path, &entry.method)?, breaker))
        });
        let breakers: Result<_, String> = breakers.collect();
        Ok(CheckRules {
            rewrites: Vec::new(),
            schemas: schemas.map_err(|message| ("validate_json", message))?,
            breakers: breakers.map_err(|message| ("circuit_breakers", message))?,
        })
    }

    fn schema(&self, entry: &ValidateJsonEntry) -> Result<Schema, String> {
        let status = match entry.error_response_code {
            0 => StatusCode::UNPROCESSABLE_ENTITY,
            code => u16::try_from(code)
                .ok()
                .and_then(|code| StatusCode::from_u16(code).ok())
                .ok_or_else(|| format!("{code} is no status"))?,
        };
        let schema = entry.schema()?;
        let schema = Schema::new(&schema, status, self.most_of_body());
        schema.map_err(|message| format!("the schema of `{}`: {message}", entry.path))
    }
}

fn breaker(definition: &Definition, entry: &CircuitBreakerEntry) -> Arc<Breaker> {
    let positive = |number: i64| u64::try_from(number).unwrap_or_default();
    let settings = Settings {
        threshold: entry.threshold_percent,
        samples: positive(entry.samples),
        rest: Duration::from_secs(positive(entry.return_to_service_after)),
        probes: !entry.disable_half_open_state,
    };
    let name = format!("{} {} {}", definition.api_id, entry.method, entry.path);
    Breaker::new(settings, name)
}
