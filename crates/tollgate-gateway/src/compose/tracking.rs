//! Which endpoints of a version are tracked otherwise than the rest, compiled.

use std::sync::Arc;

use super::{Composer, versions::entries};
use crate::{
    definition::{Definition, TrackEntry, Version},
    edge::{SkippedVersion, tracking::Tracking},
    observe::{meters::EndpointMeters, tracked::Endpoint},
};

impl Composer<'_> {
    /// The message's place is the member of `extended_paths`.
    pub(super) fn tracking(
        &self,
        definition: &Definition,
        version: &Version,
        skips: Option<&SkippedVersion>,
    ) -> Result<Tracking, (&'static str, String)> {
        let (paths, extended) = (&version.extended_paths, version.use_extended_paths);
        let options = (self.config.path_options(), skips);
        let never = entries(extended, &paths.do_not_track_endpoints, options, |entry| {
            (entry.disabled, &entry.path, &entry.method, ())
        });
        let endpoint = |entry: &TrackEntry| {
            let api = definition.api_id.as_str();
            let meters = || EndpointMeters::of(api, &entry.path, &entry.method);
            let meters = self.observer.has_meters().then(meters);
            Arc::new(Endpoint::new(&entry.path, meters))
        };
        // Of an API that is not tracked no endpoint is.
        let is_tracked = extended && !definition.do_not_track;
        let endpoints = entries(is_tracked, &paths.track_endpoints, options, |entry| {
            (entry.disabled, &entry.path, &entry.method, endpoint(entry))
        });
        Ok(Tracking {
            never: never.map_err(|message| ("do_not_track_endpoints", message))?,
            endpoints: endpoints.map_err(|message| ("track_endpoints", message))?,
        })
    }
}
