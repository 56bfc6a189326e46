//! When APIs and versions end, and what answers tell of it.

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;

use super::{Composer, Wrong};
use crate::{
    definition::{Definition, Version, expires_at},
    edge::version_headers::{Expiry, VersionHeadersGate},
    problem::JsonPath,
};

/// The Unix second from which on something is gone. What can not be read is gone already.
pub(super) fn ends(text: &str) -> Option<u64> {
    match expires_at(text) {
        Ok(end) => end.map(seconds),
        Err(_) => Some(0),
    }
}

/// The Unix second from which on the API is gone. One with versions ends with each of them.
pub(super) fn own_end(definition: &Definition) -> Option<u64> {
    let is_read = definition.version_data.not_versioned;
    ends(&definition.expiration).filter(|_| is_read)
}

/// What is told of the end of a version: that of the API comes first.
pub(super) fn expiry(definition: &Definition, version: &Version) -> Option<Expiry> {
    let time = |text: &str| expires_at(text).ok().flatten();
    let of_api = time(&definition.expiration).map(|end| (end, None));
    let of_version = || time(&version.expires).map(|end| (end, Some(seconds(end))));
    let (end, until) = of_api.or_else(of_version)?;
    let words = end.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string();
    let value = HeaderValue::try_from(words).ok()?;
    Some(Expiry { value, until })
}

fn seconds(end: Timestamp) -> u64 {
    u64::try_from(end.as_second()).unwrap_or_default()
}

impl Composer<'_> {
    /// What tells of versions; none where there is nothing to tell.
    pub(super) fn version_headers(
        &self,
        definition: &Definition,
    ) -> Result<Option<VersionHeadersGate>, Wrong> {
        let data = &definition.version_data;
        let header = &self.config.version_header;
        let is_told = !header.is_empty() && !data.not_versioned && !data.default_version.is_empty();
        let default = is_told.then(|| {
            let place = || JsonPath::from("version_data.default_version");
            let name = HeaderName::try_from(header.as_str());
            let name = name.map_err(|_| {
                let message = format!("`version_header` can not be `{header}`");
                (place(), message)
            })?;
            let value = HeaderValue::try_from(data.default_version.as_str());
            let value = value.map_err(|_| (place(), "no header can tell this name".to_owned()))?;
            Ok((name, value))
        });
        let default = default.transpose()?;
        let ends = |version: &Version| expiry(definition, version).is_some();
        let is_needed = default.is_some() || data.versions.values().any(ends);
        Ok(is_needed.then_some(VersionHeadersGate { default }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(of_api: &str, of_version: &str, expected: Option<(&str, Option<u64>)>) {
        let definition = Definition {
            expiration: of_api.into(),
            ..Definition::default()
        };
        let version = Version {
            expires: of_version.into(),
            ..Version::default()
        };
        let told = expiry(&definition, &version);
        let told = told
            .as_ref()
            .map(|told| (told.value.to_str().unwrap_or(""), told.until));
        assert_eq!(told, expected, "{of_api:?} {of_version:?}");
    }

    #[test]
    fn the_end_of_the_api_is_told_before_that_of_the_version() {
        let (far, near) = ("2999-01-02 15:04", "2001-02-03 04:05");
        check("", "", None);
        check("-1", "soon", None);
        check(far, near, Some(("Wed, 02 Jan 2999 15:04:00 UTC", None)));
        check(near, "", Some(("Sat, 03 Feb 2001 04:05:00 UTC", None)));
        let of_version = ("Sat, 03 Feb 2001 04:05:00 UTC", Some(981_173_100));
        check("soon", near, Some(of_version));
    }

    #[test]
    fn what_can_not_be_read_is_gone() {
        assert_eq!(ends(""), None);
        assert_eq!(ends("-1"), None);
        assert_eq!(ends("soon"), Some(0));
        assert_eq!(ends("2001-02-03 04:05"), Some(981_173_100));
    }
}
