//! The gateway, as the control API asks it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::Request;
use tollgate::{
    ApiId, PolicyId, Session,
    clock::{Clock, TokioClock},
    policy::PolicySet,
};
use tollgate_admin::{
    ApiSet, Component, Control, ControlError, ControlErrorKind, Health, Question, Reach, Readiness,
    Reload,
};
use tollgate_core::future::BoxFuture;

use crate::{gateway::Gateway, health::StoreHealth};

type Done = BoxFuture<Result<(), ControlError>>;

/// A gateway behind the control API.
pub struct Controlled {
    gateway: Arc<Gateway>,
    is_stopping: Box<dyn Fn() -> bool + Send + Sync>,
    store: StoreHealth,
    tell_others: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Controlled {
    /// This gateway; the others say whether it is on its way out, and whether its store answers.
    pub fn new(
        gateway: Arc<Gateway>,
        is_stopping: impl Fn() -> bool + Send + Sync + 'static,
        store: StoreHealth,
    ) -> Self {
        let is_stopping = Box::new(is_stopping);
        Self {
            gateway,
            is_stopping,
            store,
            tell_others: None,
        }
    }

    /// The same; `tell` has those reload who share the store.
    #[must_use]
    pub fn with_others(mut self, tell: impl Fn() + Send + Sync + 'static) -> Self {
        self.tell_others = Some(Box::new(tell));
        self
    }

    fn definitions(&self) -> Result<PathBuf, ControlError> {
        folder(&self.gateway.config().app_path, "app_path")
    }

    fn policy_folder(&self) -> Result<PathBuf, ControlError> {
        folder(
            &self.gateway.config().policies.policy_path,
            "policies.policy_path",
        )
    }
}

impl Control for Controlled {
    fn policies(&self) -> PolicySet {
        self.gateway.snapshot().policies().clone()
    }

    fn apis(&self) -> Arc<ApiSet> {
        self.gateway.snapshot().apis().clone()
    }

    fn reload(&self, reload: Reload) -> Done {
        let gateway = self.gateway.clone();
        let work = off_thread(move || {
            let reloaded = gateway.reload();
            let report = match &reloaded {
                Ok(report) | Err(report) => report,
            };
            report
                .problems
                .iter()
                .for_each(|problem| tracing::warn!(%problem, "reload"));
            reloaded
                .map(drop)
                .map_err(|report| failed(format!("the old snapshot stays: {report}")))
        });
        if let (Reach::Group, Some(tell)) = (reload.reach, &self.tell_others) {
            tell();
        }
        if reload.wait {
            return work;
        }
        tokio::spawn(work);
        Box::pin(std::future::ready(Ok(())))
    }

    fn write_api(&self, id: ApiId, json: String) -> Done {
        let folder = self.definitions();
        off_thread(move || write(&folder?.join(format!("{id}.json")), &json))
    }

    fn remove_api(&self, id: ApiId) -> Done {
        let folder = self.definitions();
        off_thread(move || remove(&folder?.join(format!("{id}.json"))))
    }

    fn write_policy(&self, id: PolicyId, json: String) -> Done {
        let folder = self.policy_folder();
        off_thread(move || write(&folder?.join(format!("{id}.json")), &json))
    }

    fn remove_policy(&self, id: PolicyId) -> Done {
        let folder = self.policy_folder();
        off_thread(move || remove(&folder?.join(format!("{id}.json"))))
    }

    fn check_meta_data(&self, session: &Session) -> Vec<String> {
        self.gateway.snapshot().check_meta_data(session)
    }

    fn health(&self) -> Health {
        let seen = self.store.seen();
        let at = i128::from(seen.unix_nanos);
        let time = jiff::Timestamp::from_nanosecond(at).unwrap_or_default();
        let store = Component {
            kind: "datastore".into(),
            failure: seen.failure.map(Into::into),
            time: time.to_string(),
        };
        // Tyk's name for it, whatever it is: monitors look there.
        Health([("redis".to_owned(), store)].into())
    }

    fn readiness(&self) -> Readiness {
        if (self.is_stopping)() {
            Readiness::ShuttingDown
        } else if self.store.seen().failure.is_some() {
            Readiness::StoreUnavailable
        } else {
            Readiness::Ready
        }
    }

    fn explain(&self, question: Question) -> BoxFuture<Result<serde_json::Value, ControlError>> {
        let snapshot = self.gateway.snapshot();
        Box::pin(async move {
            let invalid = |err: String| ControlError::new(ControlErrorKind::Invalid, err);
            let mut request = Request::builder()
                .method(question.method.as_str())
                .uri(&question.path);
            for (name, value) in &question.headers {
                request = request.header(name, value);
            }
            if !question.token.is_empty() {
                request = request.header("authorization", question.token.expose());
            }
            let (head, ()) = request
                .body(())
                .map_err(|err| invalid(err.to_string()))?
                .into_parts();
            let host = Some(question.host.as_str()).filter(|host| !host.is_empty());
            let now = TokioClock.now().unix();
            let Some(explained) = snapshot.explain(host, head, now).await else {
                return Err(ControlError::new(
                    ControlErrorKind::NotFound,
                    "no API serves this path",
                ));
            };
            match explained {
                Ok(Some(explanation)) => {
                    serde_json::to_value(explanation).map_err(|err| failed(err.to_string()))
                }
                Ok(None) => Ok(serde_json::json!({"answers": [], "open": true})),
                Err(rejection) => Ok(serde_json::json!({"answers": [{
                    "gate": "edge", "facts": [],
                    "decision": {"is": "refused", "code": rejection.code(),
                        "status": rejection.status().as_u16(), "message": rejection.message()},
                }]})),
            }
        })
    }
}

fn folder(path: &str, setting: &str) -> Result<PathBuf, ControlError> {
    if path.is_empty() {
        return Err(ControlError::new(
            ControlErrorKind::NoFolder,
            format!("`{setting}` is not set"),
        ));
    }
    Ok(PathBuf::from(path))
}

/// Does what touches the disk, beside the threads that serve requests.
fn off_thread(work: impl FnOnce() -> Result<(), ControlError> + Send + 'static) -> Done {
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|err| Err(failed(err.to_string())))
    })
}

/// Writes a file beside the old one, then puts it in its place: nobody reads half of it.
fn write(path: &Path, text: &str) -> Result<(), ControlError> {
    let fresh = path.with_extension("json.new");
    let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, path));
    written.map_err(|err| failed(format!("{}: {err}", path.display())))
}

fn remove(path: &Path) -> Result<(), ControlError> {
    fs::remove_file(path).map_err(|err| match err.kind() {
        std::io::ErrorKind::NotFound => {
            ControlError::new(ControlErrorKind::NotFound, "there is none of this id")
        }
        _ => failed(format!("{}: {err}", path.display())),
    })
}

fn failed(message: String) -> ControlError {
    ControlError::new(ControlErrorKind::Failed, message)
}
