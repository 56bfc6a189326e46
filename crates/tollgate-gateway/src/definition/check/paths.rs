//! What is looked at in `extended_paths`: entries that say something of single paths.

use std::error::Error;

use http::StatusCode;
use tollgate::body_transform::{Side, TransformEntryError};
use tollgate_core::{
    access::PathOptions,
    rewrite::{Rewrite, RewriteOptions, TargetKind, UrlRewriteEntry},
};

use super::Checks;
use crate::{
    compose::transforms::{format_of_request, template},
    definition::{ExtendedPaths, ListEntry, Version},
    edge::schema::Schema,
    problem::{JsonPath, last_line},
    reference::missing,
};

impl Checks<'_> {
    pub(super) fn extended_paths(
        &mut self,
        paths: &ExtendedPaths,
        version: &Version,
        path: &JsonPath,
    ) {
        let options = self.in_any_case(version.ignore_endpoint_case);
        let lists = [
            ("ignored", &paths.ignored),
            ("white_list", &paths.white_list),
            ("black_list", &paths.black_list),
        ];
        for (name, entries) in lists {
            for (index, entry) in enabled(entries, |entry| entry.disabled) {
                self.list_entry(entry, options, &path.key(name).index(index));
            }
        }
        for (index, entry) in enabled(&paths.mock_response, |entry| entry.disabled) {
            let path = path.key("mock_response").index(index);
            self.pattern(&entry.path, options, path.key("path"));
            self.status(entry.code, path.key("code"));
            self.set_headers(entry.headers.keys(), &path.key("headers"));
        }
        self.single_paths(paths, path);
        self.transforms(paths, path);
        self.header_entries(paths, path);
        for (index, entry) in enabled(&paths.url_rewrites, |entry| entry.disabled) {
            self.rewrite(entry, &path.key("url_rewrites").index(index));
        }
        for (index, entry) in enabled(&paths.circuit_breakers, |entry| entry.disabled) {
            let path = path.key("circuit_breakers").index(index);
            if !(0.0..=1.0).contains(&entry.threshold_percent) {
                self.error(
                    path.key("threshold_percent"),
                    "expected a part of the whole, from 0 to 1",
                );
            }
            if entry.samples < 1 {
                self.error(path.key("samples"), "expected at least one request");
            }
            if entry.return_to_service_after < 1 {
                let message = "the breaker is never open";
                self.warning(path.key("return_to_service_after"), message);
            }
        }
        for (index, entry) in enabled(&paths.validate_json, |entry| entry.disabled) {
            let path = path.key("validate_json").index(index);
            self.status(entry.error_response_code, path.key("error_response_code"));
            let schema = entry.schema();
            let compiled = schema.and_then(|schema| Schema::new(&schema, StatusCode::OK, 0));
            if let Err(message) = compiled {
                self.error(path.key("schema"), message);
            }
        }
    }

    /// The patterns of entries that have nothing else to be looked at.
    fn single_paths(&mut self, paths: &ExtendedPaths, path: &JsonPath) {
        macro_rules! patterns {
            ($($list:ident),*) => {$(
                for (index, entry) in enabled(&paths.$list, |entry| entry.disabled) {
                    let at = path.key(stringify!($list)).index(index).key("path");
                    self.pattern(&entry.path, self.options, at);
                }
            )*};
        }
        patterns!(
            transform,
            transform_response,
            transform_headers,
            transform_response_headers,
            hard_timeouts,
            circuit_breakers,
            size_limits,
            method_transforms,
            url_rewrites,
            track_endpoints,
            do_not_track_endpoints,
            validate_json,
            internal,
            rate_limit
        );
    }

    /// Templates: one that can not be followed is passed over, as with Tyk, and told of here.
    fn transforms(&mut self, paths: &ExtendedPaths, path: &JsonPath) {
        for (side, member, entries) in [
            (Side::Request, "transform", &paths.transform),
            (
                Side::Response,
                "transform_response",
                &paths.transform_response,
            ),
        ] {
            for (index, entry) in enabled(entries, |entry| entry.disabled) {
                let path = path.key(member).index(index).key("template_data");
                let mut absent = Vec::new();
                let stores = self.sources.stores;
                let parsed = template(self.config, side, entry, |name| {
                    let answer = stores.named(name.place, name.name)?;
                    answer.map_err(|err| absent.push(missing(&err))).ok()
                });
                let place = path.key("template_source");
                let absent = absent.into_iter();
                self.problems
                    .extend(absent.map(|problem| problem.at(place.clone())));
                if let Err(err) = parsed {
                    let cause = Error::source(&err).map(|cause| format!(": {cause}"));
                    let cause = cause.unwrap_or_default();
                    let place = match err {
                        TransformEntryError::Mode => "template_mode",
                        _ => "template_source",
                    };
                    let message = format!("{err}{cause}; the entry is passed over, as with Tyk");
                    self.warning(path.key(place), message);
                }
                let input_type = &*entry.template_data.input_type;
                let message = match side {
                    Side::Request if format_of_request(input_type).is_none() => {
                        "expected `json` or `xml`; no body can be read, and all go on as they came"
                    }
                    Side::Response if !["json", "xml"].contains(&input_type) => {
                        "expected `json` or `xml`; taken as `json`"
                    }
                    _ => continue,
                };
                self.warning(path.key("input_type"), message);
            }
        }
    }

    fn rewrite(&mut self, entry: &UrlRewriteEntry, path: &JsonPath) {
        let rewrite = match Rewrite::of_entry(entry, |_| None) {
            Ok(rewrite) => rewrite,
            Err(err) => {
                let place = err.place().split('.');
                let path = place.fold(path.clone(), |path, part| match part.split_once('[') {
                    Some((list, index)) => {
                        let index = index.trim_end_matches(']').parse();
                        path.key(list).index(index.unwrap_or_default())
                    }
                    None => path.key(part),
                });
                return self.error(path, format!("can not be used: {}", last_line(err.fault())));
            }
        };
        if entry.method.is_empty() {
            self.warning(
                path.key("method"),
                "empty: no request has it, so nothing is rewritten",
            );
        }
        if rewrite
            .target_kinds()
            .any(|kind| kind == TargetKind::Unserved)
        {
            let message =
                "the scheme of a target is not served; such requests are answered with 500";
            self.warning(path.key("rewrite_to"), message);
        }
        for (index, trigger) in entry.triggers.iter().enumerate() {
            let path = path.key("triggers").index(index);
            if !["any", "all"].contains(&trigger.on.as_str()) {
                self.warning(path.key("on"), "expected `any` or `all`; taken as `all`");
            }
            if trigger.options == RewriteOptions::default() {
                let always = trigger.on != "any";
                let word = if always { "always" } else { "never" };
                let message = format!("no condition: the trigger {word} fires");
                self.warning(path.key("options"), message);
            }
        }
    }

    fn header_entries(&mut self, paths: &ExtendedPaths, path: &JsonPath) {
        for (index, entry) in enabled(&paths.transform_headers, |entry| entry.disabled) {
            let path = path
                .key("transform_headers")
                .index(index)
                .key("add_headers");
            self.set_headers(entry.add_headers.keys(), &path);
        }
        for (index, entry) in enabled(&paths.transform_response_headers, |entry| entry.disabled) {
            let path = path
                .key("transform_response_headers")
                .index(index)
                .key("add_headers");
            self.set_headers(entry.add_headers.keys(), &path);
            self.no_content_length(entry.add_headers.keys(), &path);
        }
    }

    fn list_entry(&mut self, entry: &ListEntry, options: PathOptions, path: &JsonPath) {
        let ignore_case = options.ignore_case || entry.ignore_case;
        let options = PathOptions {
            ignore_case,
            ..options
        };
        self.pattern(&entry.path, options, path.key("path"));
        for (method, action) in &entry.method_actions {
            let path = path.key("method_actions").key(method);
            self.status(action.code, path.key("code"));
            self.set_headers(action.headers.keys(), &path.key("headers"));
        }
    }
}

fn enabled<T>(
    entries: &[T],
    is_disabled: impl Fn(&T) -> bool,
) -> impl Iterator<Item = (usize, &T)> {
    let entries = entries.iter().enumerate();
    entries.filter(move |(_, entry)| !is_disabled(entry))
}
