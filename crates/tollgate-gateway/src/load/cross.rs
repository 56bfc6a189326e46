//! What files say of each other.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use tollgate_core::ApiId;

use super::{Api, RefusedApi, ServedApi};
use crate::{
    definition::ListenPath,
    document::Document,
    problem::{JsonPath, Problem},
};

/// Refuses what claims an id or a path that another API has. The first by file name keeps it; one that
/// is refused for other reasons keeps its path too, so that no other API is served in its place.
pub(super) fn separate(apis: &mut [Api]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut ids: HashMap<ApiId, PathBuf> = HashMap::new();
    let mut paths: HashMap<(Option<String>, ListenPath), PathBuf> = HashMap::new();
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
            let path = place.1.as_str().to_owned();
            let first = paths.entry(place).or_insert_with(|| file.clone());
            if *first != file {
                keeps_path = false;
                own.push(claimed(&file, "proxy.listen_path", &path, first));
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
    let problem = Problem::error(file, message).at(field.into());
    // Read once more for the place alone: this is rare, and all texts need not be kept for it.
    match Document::read(file) {
        Ok(document) => document.place(problem),
        Err(_) => problem,
    }
}

/// Host and path that an API answers under.
fn public_place(api: &Api) -> Option<(Option<String>, ListenPath)> {
    match api {
        Api::Served(api) if !api.definition.internal => {
            Some((api.host.clone(), api.listen_path.clone()?))
        }
        Api::Refused(api) => Some((api.host.clone(), api.listen_path.clone()?)),
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
            } = &**served;
            RefusedApi {
                file: file.clone(),
                id: definition.api_id.clone(),
                listen_path: listen_path.clone().filter(|_| !definition.internal),
                host: host.clone(),
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

/// Versions that are APIs of their own and that are not there.
pub(super) fn check_versions(apis: &[Api]) -> Vec<Problem> {
    let served = apis.iter().filter_map(|api| match api {
        Api::Served(api) => Some(api),
        _ => None,
    });
    served.flat_map(|api| missing_versions(api, apis)).collect()
}

fn missing_versions(api: &Arc<ServedApi>, apis: &[Api]) -> Vec<Problem> {
    let source = &api.definition.definition;
    let is_there = |id: &str| apis.iter().any(|api| api.id().as_str() == id);
    let missing = source
        .versions
        .iter()
        .filter(|(_, id)| source.enabled && !is_there(id));
    let problem = |(name, _): (&String, &String)| {
        let path = JsonPath::from("definition.versions").key(name);
        Problem::warning(&api.file, "leads to an API that does not exist").at(path)
    };
    missing.map(problem).collect()
}
