//! What is looked at in the versions of a definition.

use super::Checks;
use crate::{
    definition::{Definition, ExtendedPaths, Version},
    problem::{JsonPath, Problem, last_line},
};

impl Checks<'_> {
    pub(super) fn version_source(&mut self, definition: &Definition) {
        let source = &definition.definition;
        let data = &definition.version_data;
        if !data.not_versioned && data.versions.is_empty() && !source.enabled {
            let message = "there is no version, so every request is refused";
            let problem = Problem::warning("", message).at("version_data".into());
            self.problems
                .push(problem.help("say `not_versioned: true` where there are none"));
        }
        let is_used = source.enabled || !definition.version_data.not_versioned;
        if is_used && !["", "header", "url-param", "url"].contains(&source.location.as_str()) {
            let message = "expected `header`, `url-param` or `url`; no version is found";
            self.warning("definition.location".into(), message);
        }
        if let Err(err) = regex::Regex::new(&source.url_versioning_pattern) {
            let message = format!(
                "can not be used, so every name matches: {}",
                last_line(&err)
            );
            self.warning("definition.url_versioning_pattern".into(), message);
        }
    }

    pub(super) fn without_single_version(&mut self, definition: &Definition) {
        let path = JsonPath::from("version_data.versions");
        if !definition.version_data.versions.is_empty() {
            let message = "the API has no versions, and it can not be told which of these is meant";
            self.error(path, message);
        }
    }

    /// Tyk takes the inner name for what is done on paths, and the outer one for all else. Here the
    /// outer one is taken; where another version could have been meant, nothing is.
    pub(super) fn version_name(
        &mut self,
        name: &str,
        version: &Version,
        all: &Definition,
        path: &JsonPath,
    ) {
        if version.name.is_empty() || version.name == name {
            return;
        }
        let message = format!("differs from the name that the version stands under, `{name}`");
        if all.version_data.versions.len() > 1 {
            self.error(path.key("name"), message);
        } else {
            self.warning(path.key("name"), format!("{message}, which is taken"));
        }
    }

    pub(super) fn override_target(&mut self, version: &Version, all: &Definition, path: JsonPath) {
        let target = &version.override_target;
        if target.is_empty() {
            return;
        }
        if all.version_data.not_versioned {
            self.warning(path, "not read, as the API has only one version");
        } else if all.proxy.enable_load_balancing {
            let message = "not read, as in Tyk: `proxy.target_list` comes first";
            self.warning(path, message);
        } else {
            self.target(target, path);
        }
    }

    pub(super) fn version(&mut self, version: &Version, path: &JsonPath) {
        self.end(&version.expires, path.key("expires"));
        if !version.global_headers_disabled {
            self.set_headers(version.global_headers.keys(), &path.key("global_headers"));
        }
        if !version.global_response_headers_disabled {
            let path = path.key("global_response_headers");
            self.set_headers(version.global_response_headers.keys(), &path);
            self.no_content_length(version.global_response_headers.keys(), &path);
        }
        if version.use_extended_paths {
            self.extended_paths(
                &version.extended_paths,
                version,
                &path.key("extended_paths"),
            );
        } else {
            self.path_lists(version, path);
        }
    }

    fn path_lists(&mut self, version: &Version, path: &JsonPath) {
        let lists = [
            ("ignored", &version.paths.ignored),
            ("white_list", &version.paths.white_list),
            ("black_list", &version.paths.black_list),
        ];
        for (name, patterns) in lists {
            for (index, pattern) in patterns.iter().enumerate() {
                let at = path.key("paths").key(name).index(index);
                self.pattern(pattern, self.in_any_case(version.ignore_endpoint_case), at);
            }
        }
        if version.extended_paths != ExtendedPaths::default() {
            let message = "not read, as `use_extended_paths` is off";
            self.warning(path.key("extended_paths"), message);
        }
    }
}
