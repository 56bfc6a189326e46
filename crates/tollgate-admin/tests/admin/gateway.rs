//! A gateway that is played: what was written waits for a reload.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tollgate_admin::{
    ApiRecord, ApiSet, Component, Control, ControlError, ControlErrorKind, Health, KeyEvent,
    Question, Readiness, Reload,
};
use tollgate_core::{
    ApiId, PolicyId,
    future::BoxFuture,
    policy::{Policy, PolicySet},
};

/// Where policies are kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Kept {
    #[default]
    InFolder,
    InRecordFile,
    Elsewhere,
}

#[derive(Default)]
pub(crate) struct Gateway {
    pub(crate) kept: Kept,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    apis: Arc<ApiSet>,
    policies: PolicySet,
    api_files: BTreeMap<String, String>,
    policy_files: BTreeMap<String, String>,
    record_file: Option<String>,
    reloads: Vec<Reload>,
    events: Vec<String>,
    certificates: Vec<String>,
    readiness: Option<Readiness>,
    failures: Vec<String>,
}

impl Gateway {
    pub(crate) fn new(kept: Kept) -> Self {
        Self {
            kept,
            ..Self::default()
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn put_api(&self, definition: &Value) {
        let id = definition["api_id"].as_str().unwrap_or_default().to_owned();
        self.state().api_files.insert(id, definition.to_string());
        self.load();
    }

    pub(crate) fn put_policy_file(&self, name: &str, json: &str) {
        self.state().policy_files.insert(name.into(), json.into());
        self.load();
    }

    pub(crate) fn put_record_file(&self, json: &str) {
        self.state().record_file = Some(json.into());
        self.load();
    }

    pub(crate) fn put_certificate(&self, id: &str) {
        self.state().certificates.push(id.into());
    }

    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        self.state().readiness = Some(readiness);
    }

    pub(crate) fn set_failures(&self, parts: &[&str]) {
        self.state().failures = parts.iter().map(|part| (*part).to_owned()).collect();
    }

    pub(crate) fn reloads(&self) -> Vec<Reload> {
        self.state().reloads.clone()
    }

    pub(crate) fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut self.state().events)
    }

    fn load(&self) {
        let mut state = self.state();
        let apis = state.api_files.values();
        let apis = apis.filter_map(|json| ApiRecord::from_json(json.as_str()).ok());
        state.apis = Arc::new(apis.collect());
        state.policies = match &state.record_file {
            Some(json) => PolicySet::from_record_file(json.as_bytes()).unwrap().0,
            None => {
                let files = state.policy_files.values();
                files
                    .filter_map(|json| Policy::from_json(json).ok())
                    .collect()
            }
        };
    }

    fn written<T>(&self, write: impl FnOnce(&mut State) -> T) -> Result<T, ControlError> {
        match self.kept {
            Kept::InFolder => Ok(write(&mut self.state())),
            Kept::InRecordFile => Err(error(ControlErrorKind::NoFolder)),
            Kept::Elsewhere => Err(error(ControlErrorKind::NotFiles)),
        }
    }
}

fn error(kind: ControlErrorKind) -> ControlError {
    ControlError::new(kind, "played")
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<T> {
    Box::pin(std::future::ready(value))
}

impl Control for Gateway {
    fn policies(&self) -> PolicySet {
        self.state().policies.clone()
    }

    fn apis(&self) -> Arc<ApiSet> {
        self.state().apis.clone()
    }

    fn reload(&self, reload: Reload) -> BoxFuture<Result<(), ControlError>> {
        self.state().reloads.push(reload);
        self.load();
        ready(Ok(()))
    }

    fn write_api(&self, id: ApiId, json: String) -> BoxFuture<Result<(), ControlError>> {
        if json.contains("wrong listen path") {
            let error = ControlError::new(ControlErrorKind::Invalid, "the listen path is wrong");
            return ready(Err(error));
        }
        let mut state = self.state();
        state.api_files.insert(id.as_str().into(), json);
        ready(Ok(()))
    }

    fn remove_api(&self, id: ApiId) -> BoxFuture<Result<(), ControlError>> {
        self.state().api_files.remove(id.as_str());
        ready(Ok(()))
    }

    fn write_policy(&self, id: PolicyId, json: String) -> BoxFuture<Result<(), ControlError>> {
        let id = id.as_str().to_owned();
        ready(self.written(|state| drop(state.policy_files.insert(id, json))))
    }

    fn remove_policy(&self, id: PolicyId) -> BoxFuture<Result<(), ControlError>> {
        let removed = self.written(|state| state.policy_files.remove(id.as_str()));
        ready(match removed {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(error(ControlErrorKind::NotFound)),
            Err(error) => Err(error),
        })
    }

    fn health(&self) -> Health {
        let state = self.state();
        let part = |name: &str, kind: &str| {
            let has_failed = state.failures.iter().any(|failed| failed == name);
            let component = Component {
                kind: kind.into(),
                failure: has_failed.then(|| "no answer".into()),
                time: "2026-01-02T03:04:05Z".into(),
            };
            (name.to_owned(), component)
        };
        Health(BTreeMap::from([part("redis", "datastore")]))
    }

    fn readiness(&self) -> Readiness {
        self.state().readiness.unwrap_or(Readiness::Ready)
    }

    fn explain(&self, question: Question) -> BoxFuture<Result<Value, ControlError>> {
        let answers = json!([{
            "gate": "session",
            "decision": {"is": "passed"},
            "facts": [{"name": "path", "value": question.path, "source": question.method}],
        }]);
        ready(Ok(json!({ "answers": answers })))
    }

    fn has_certificate(&self, id: &str) -> bool {
        self.state().certificates.iter().any(|known| known == id)
    }

    fn key_changed(&self, event: KeyEvent<'_>) {
        let text = match event {
            KeyEvent::Created { org, .. } => format!("created of {org}"),
            KeyEvent::Updated { org, .. } => format!("updated of {org}"),
            KeyEvent::Deleted { .. } => "deleted".into(),
        };
        self.state().events.push(text);
    }
}
