//! Where the requests of a definition go, compiled.

use std::{collections::BTreeMap, sync::Arc};

use super::{Composer, Wrong};
use crate::{
    definition::{Definition, internal_target},
    onward::{ByVersion, Handover, Onward},
    problem::JsonPath,
    proxy::{FinalSlash, PathSpelling, Proxy, ProxyOptions, Target, TargetError, Targets},
    serve::RequestBody,
};

impl Composer<'_> {
    pub(super) fn onward(&self, definition: &Definition, listen: &str) -> Result<Onward, Wrong> {
        let settings = &definition.proxy;
        let place = || JsonPath::from("proxy.target_url");
        let rest = self.way(definition, settings.targets(), listen, place)?;
        if definition.version_data.not_versioned || settings.enable_load_balancing {
            return Ok(rest);
        }
        let versions = definition.version_data.versions.iter();
        let own = versions.filter(|(_, version)| !version.override_target.is_empty());
        let compile = |(name, version): (&String, &crate::definition::Version)| {
            let place = || JsonPath::from("version_data.versions").key(name);
            let target = std::slice::from_ref(&version.override_target);
            let way = self.way(definition, target, listen, || {
                place().key("override_target")
            })?;
            Ok((name.clone(), way))
        };
        let own: BTreeMap<_, _> = own.map(compile).collect::<Result<_, Wrong>>()?;
        if own.is_empty() {
            return Ok(rest);
        }
        Ok(Onward::ByVersion(Arc::new(ByVersion { own, rest })))
    }

    fn way(
        &self,
        definition: &Definition,
        urls: &[String],
        listen: &str,
        place: impl Fn() -> JsonPath,
    ) -> Result<Onward, Wrong> {
        if let [url] = urls
            && let Some(name) = internal_target(url)
        {
            let api = self
                .names
                .find(name)
                .map_err(|message| (place(), message))?;
            return Ok(Onward::Api(Arc::new(Handover {
                api,
                listen_path: cut_path(definition, listen),
                refusals: self.refusals(definition)?,
            })));
        }
        let wrong = |err: TargetError| (place(), err.to_string());
        let targets: Vec<_> = urls
            .iter()
            .map(|url| Target::parse(url))
            .collect::<Result<_, _>>()
            .map_err(wrong)?;
        let targets = Targets::round_robin(targets).map_err(wrong)?;
        let proxy = self.proxy(definition, targets, listen)?;
        Ok(Onward::Upstream(proxy))
    }

    fn proxy(
        &self,
        definition: &Definition,
        targets: Targets,
        listen: &str,
    ) -> Result<Proxy<RequestBody>, Wrong> {
        let settings = &definition.proxy;
        let options = ProxyOptions {
            listen_path: cut_path(definition, listen),
            final_slash: if settings.disable_strip_slash {
                FinalSlash::Kept
            } else {
                FinalSlash::Cut
            },
            spelling: if self.config.http_server_options.skip_target_path_escaping {
                PathSpelling::Kept
            } else {
                PathSpelling::Go
            },
            preserve_host: settings.preserve_host_header,
            user_agent: Some(self.config.user_agent()),
            head_timeout: self.config.upstream_timeout(),
            upgrades: self.config.http_server_options.enable_websockets,
            close_connections: self.config.close_connections,
            refusals: self.refusals(definition)?,
            meters: self.observer.upstream(definition),
            bad_gateway: self.config.bad_gateway_status(),
            ..ProxyOptions::default()
        };
        let client = self.client(definition)?;
        Proxy::new(client, targets, options).map_err(|err| ("proxy".into(), err.to_string()))
    }
}

/// What is cut from paths before they go on.
pub(super) fn cut_path(definition: &Definition, listen: &str) -> Option<String> {
    definition
        .proxy
        .strip_listen_path
        .then(|| listen.to_owned())
}
