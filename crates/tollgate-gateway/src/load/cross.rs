//! What files say of each other.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use tollgate_core::{
    ApiId,
    rewrite::{Rewrite, TargetKind},
};

use super::{Api, RefusedApi, ServedApi};
use crate::{
    compose::Names,
    definition::{Definition, ListenPath, internal_target},
    document::Document,
    ports::{OwnPort, Protocol},
    problem::{JsonPath, Problem},
};

/// Where an API answers: on which port, under which host and path.
type Place = (Option<u16>, Option<String>, ListenPath);

/// Refuses what claims an id or a path that another API has, or speaks otherwise on its port. The first by file
/// name keeps it; one that is refused for other reasons keeps its path too, so that no other API is served in its
/// place.
pub(super) fn separate(apis: &mut [Api]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut ids: HashMap<ApiId, PathBuf> = HashMap::new();
    let mut paths: HashMap<Place, PathBuf> = HashMap::new();
    let mut ports: HashMap<u16, (Protocol, PathBuf)> = HashMap::new();
    for api in apis.iter_mut() {
        let mut own = Vec::new();
        let file = api.file().to_owned();
        if !api.id().is_empty() {
            let first = ids.entry(api.id().clone()).or_insert_with(|| file.clone());
            if *first != file {
                own.push(claimed(&file, "api_id", api.id().as_str(), first));
            }
        }
        let mut keeps_path = true;
        if let Some(place) = public_place(api) {
            let path = place.2.as_str().to_owned();
            let first = paths.entry(place).or_insert_with(|| file.clone());
            if *first != file {
                keeps_path = false;
                own.push(claimed(&file, "proxy.listen_path", &path, first));
            }
        }
        if let Some(OwnPort { port, protocol }) = listens_on(api).filter(|_| own.is_empty()) {
            let first = ports
                .entry(port)
                .or_insert_with(|| (protocol, file.clone()));
            if first.0 != protocol {
                own.push(otherwise(&file, port, protocol, first));
            }
        }
        if !own.is_empty() {
            refuse(api, &own, keeps_path);
            problems.append(&mut own);
        }
    }
    problems
}

fn claimed(file: &Path, field: &str, value: &str, first: &Path) -> Problem {
    let message = format!(
        "`{value}` is that of {} too, which comes first",
        first.display()
    );
    placed(Problem::error(file, message).at(field.into()), file)
}

fn otherwise(file: &Path, port: u16, own: Protocol, first: &(Protocol, PathBuf)) -> Problem {
    let (protocol, first) = (first.0.name(), first.1.display());
    let message = format!(
        "port {port} can not speak `{}`, as it speaks `{protocol}` for {first}, which comes first",
        own.name(),
    );
    placed(Problem::error(file, message).at("protocol".into()), file)
}

fn placed(problem: Problem, file: &Path) -> Problem {
    // Read once more for the place alone: this is rare, and all texts need not be kept for it.
    match Document::read(file) {
        Ok(document) => document.place(problem),
        Err(_) => problem,
    }
}

/// Where an API answers, if only with 503.
fn public_place(api: &Api) -> Option<Place> {
    match api {
        Api::Served(api) if !api.definition.internal => {
            let port = api.own_port.map(|own| own.port);
            Some((port, api.host.clone(), api.listen_path.clone()?))
        }
        Api::Refused(api) => Some((api.own_port, api.host.clone(), api.listen_path.clone()?)),
        _ => None,
    }
}

/// The port that is opened for an API.
fn listens_on(api: &Api) -> Option<OwnPort> {
    match api {
        Api::Served(api) => api.listens_on(),
        _ => None,
    }
}

fn refuse(api: &mut Api, problems: &[Problem], keeps_path: bool) {
    let mut refused = match &*api {
        Api::Refused(refused) => refused.clone(),
        Api::Served(served) | Api::Inactive(served) => {
            let ServedApi {
                file,
                definition,
                listen_path,
                host,
                own_port,
            } = &**served;
            RefusedApi {
                file: file.clone(),
                id: definition.api_id.clone(),
                listen_path: listen_path.clone().filter(|_| !definition.internal),
                host: host.clone(),
                own_port: own_port.map(|own| own.port),
                problems: Vec::new(),
            }
        }
    };
    refused.problems.extend_from_slice(problems);
    if !keeps_path {
        refused.listen_path = None;
    }
    *api = Api::Refused(refused);
}

/// Other APIs that versions and targets lead to, and that are not served.
pub(super) fn check_ways(apis: &[Api]) -> Vec<Problem> {
    let served = || {
        apis.iter().filter_map(|api| match api {
            Api::Served(api) => Some(api),
            _ => None,
        })
    };
    let names = Names::of(served().map(|api| &api.definition));
    served().flat_map(|api| lost_ways(api, &names)).collect()
}

fn lost_ways(api: &Arc<ServedApi>, names: &Names) -> Vec<Problem> {
    let definition = &api.definition;
    let source = &definition.definition;
    let versions = source.versions.iter().filter(|_| source.enabled);
    let versions = versions.map(|(name, id)| {
        let path = JsonPath::from("definition.versions").key(name);
        (id.as_str(), path)
    });
    let target = internal_target(&definition.proxy.target_url);
    let target = target.filter(|_| !definition.proxy.enable_load_balancing);
    let target = target.map(|name| (name, "proxy.target_url".into()));
    let of_versions = definition.version_data.versions.iter();
    let of_versions = of_versions.filter_map(|(name, version)| {
        let target = internal_target(&version.override_target)?;
        let path = JsonPath::from("version_data.versions").key(name);
        Some((target, path.key("override_target")))
    });
    let rewrites = rewrite_ways(definition);
    let of_rewrites = rewrites
        .iter()
        .map(|(name, path)| (name.as_str(), path.clone()));
    let ways = versions.chain(target).chain(of_versions);
    let ways = ways.chain(of_rewrites);
    let lost = ways.filter(|(name, _)| names.find(name) == Ok(None));
    let message = "leads to an API that is not served";
    lost.map(|(_, path)| Problem::warning(&api.file, message).at(path))
        .collect()
}

/// The APIs that rewrites lead to, and where they are named.
fn rewrite_ways(definition: &Definition) -> Vec<(String, JsonPath)> {
    let mut ways = Vec::new();
    for (version, rules) in &definition.version_data.versions {
        let entries = rules.extended_paths.url_rewrites.iter().enumerate();
        let entries = entries.filter(|(_, entry)| rules.use_extended_paths && !entry.disabled);
        for (index, entry) in entries {
            let Ok(rewrite) = Rewrite::of_entry(entry, |_| None) else {
                continue; // Told where the definition is read.
            };
            let place = JsonPath::from("version_data.versions")
                .key(version)
                .key("extended_paths")
                .key("url_rewrites")
                .index(index);
            for (number, kind) in rewrite.target_kinds().enumerate() {
                if let TargetKind::Internal(name) = kind
                    && name != "self"
                {
                    let place = match number.checked_sub(1) {
                        None => place.clone(),
                        Some(trigger) => place.key("triggers").index(trigger),
                    };
                    ways.push((name.to_owned(), place.key("rewrite_to")));
                }
            }
        }
    }
    ways
}
