//! A case as its file has it.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::text;

/// The files that are played. One more is a line here, its copy under `cases/`, and a look at `needs.rs`.
pub(crate) const AREAS: [&str; 13] = [
    "session_tokens",
    "control_api",
    "access_rights",
    "policies",
    "limits_rate",
    "limits_quota",
    "limits_algorithms",
    "limits_org",
    "meta_headers",
    "context_vars",
    "path_matching",
    "url_rewrite",
    "body_transforms",
];

/// Where the case files and the ledger are.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance")
}

/// The README of the corpus says what each member means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) area: String,
    pub(crate) why: String,
    #[serde(default)]
    pub(crate) config: Value,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) apis: Vec<Value>,
    #[serde(default)]
    pub(crate) policies: Map<String, Value>,
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) keys: Map<String, Value>,
    #[serde(default)]
    pub(crate) show: Vec<String>,
    #[serde(default)]
    pub(crate) show_response: Vec<String>,
    #[serde(default)]
    pub(crate) responses: Value,
    pub(crate) hook_prefix: Option<String>,
    #[serde(default)]
    pub(crate) grpc: Value,
    pub(crate) steps: Vec<Step>,
    pub(crate) newer: Option<String>,
    pub(crate) defect: Option<String>,
}

/// One of these is there, besides what is expected of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) request: Option<Value>,
    pub(crate) admin: Option<Value>,
    pub(crate) redis: Option<Value>,
    /// How long to wait before `redis`.
    pub(crate) after_ms: Option<u64>,
    pub(crate) collect: Option<Value>,
    pub(crate) sleep_ms: Option<u64>,
    pub(crate) align_ms: Option<u64>,
    pub(crate) analytics: Option<Value>,
    pub(crate) plugin: Option<Value>,
    pub(crate) plugin_events: Option<Value>,
    #[serde(default)]
    pub(crate) capture: BTreeMap<String, String>,
    #[serde(rename = "mask")]
    _mask: Option<Value>, // How the record was made.
    #[serde(default)]
    pub(crate) expect: Value,
}

impl Step {
    /// The request of this step, on either API.
    pub(crate) fn any_request(&self) -> Option<&Value> {
        self.request.as_ref().or(self.admin.as_ref())
    }
}

/// What a `request` or `admin` step sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Option<Vec<(String, String)>>,
    #[serde(default)]
    pub(crate) body: Value,
    pub(crate) repeat: Option<usize>,
    #[serde(default)]
    pub(crate) chunked: bool,
    /// Whether the body is compared by its bytes too.
    #[serde(default)]
    pub(crate) raw: bool,
    /// The same of what the upstream received.
    #[serde(default)]
    pub(crate) raw_upstream: bool,
    /// Whether the coding of the answer is undone.
    #[serde(default)]
    pub(crate) decode: bool,
}

/// What a `collect` step waits for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Collect {
    pub(crate) path_prefix: String,
    pub(crate) wait_ms: Option<u64>,
    pub(crate) count: Option<usize>,
}

impl Case {
    /// Whether it says itself that the record is not, or not the only one, to be followed.
    pub(crate) fn is_marked(&self) -> bool {
        self.defect.is_some() || self.newer.is_some()
    }

    /// How long its steps sleep.
    pub(crate) fn sleeps_ms(&self) -> u64 {
        let sleeps = |step: &Step| step.sleep_ms.unwrap_or(0) + step.align_ms.map_or(0, |_| 500);
        self.steps.iter().map(sleeps).sum()
    }

    /// Cases of which this is equal can share a gateway.
    pub(crate) fn group(&self) -> String {
        serde_json::json!([self.config, self.env]).to_string()
    }
}

/// The cases of an area, in the order of its file.
pub(crate) fn read(area: &str) -> Vec<Case> {
    let path = folder().join(format!("cases/{area}.json"));
    let bytes = fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let mut cases: Value = serde_json::from_slice(&bytes).expect("a case file is JSON");
    text::unfold(&mut cases);
    let cases: Vec<Case> =
        serde_json::from_value(cases).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    for case in &cases {
        assert_eq!(case.area, area, "{}", case.name);
    }
    cases
}
