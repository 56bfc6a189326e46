//! What every gate of a stack would say of a request, and by which values.
//!
//! [`Tollgate::explain`](crate::Tollgate::explain) makes an [`Explanation`]; nothing is charged.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tollgate::{MemoryStore, Tollgate};
//!
//! let gate = Tollgate::builder(MemoryStore::new()).quota().build()?;
//! let (head, ()) = http::Request::get("/").body(())?.into_parts();
//!
//! let explanation = gate.explain(&head).await;
//! assert!(!explanation.passes());
//! let session = explanation.of("session").map(|answer| answer.decision.to_string());
//! assert!(session.is_some_and(|text| text.starts_with("refused, 401 credential_missing")));
//! # Ok(())
//! # }
//! ```

use std::fmt;

use http::request::Parts;
use serde::Serialize;
use tollgate_core::Rejection;

use crate::gate::{Gates, Step};

/// What every gate would say of a request.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explanation {
    /// The gates' answers, in the order in which they are asked.
    pub answers: Vec<Answer>,
}

impl Explanation {
    /// Whether the request would pass.
    pub fn passes(&self) -> bool {
        self.answers
            .iter()
            .all(|answer| !matches!(answer.decision, Decision::Refused { .. }))
    }

    /// The answer of the gate of this name.
    pub fn of(&self, gate: &str) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.gate == gate)
    }
}

/// One line for each gate, and one for each value.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for answer in &self.answers {
            writeln!(f, "{}: {}", answer.gate, answer.decision)?;
            for fact in &answer.facts {
                writeln!(f, "  {} = {} (from {})", fact.name, fact.value, fact.source)?;
            }
        }
        Ok(())
    }
}

/// What one gate would say.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The gate's name.
    pub gate: &'static str,
    /// Its decision.
    pub decision: Decision,
    /// The values that it decided by.
    pub facts: Vec<Fact>,
}

/// What a gate decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Decision {
    /// The request may pass.
    Passed,
    /// It may not.
    Refused {
        /// The rejection's code.
        code: String,
        /// The status of the response.
        status: u16,
        /// What the client would read.
        message: String,
    },
    /// It may, but only because the gate observes.
    Observed {
        /// The code of the rejection that is not made.
        code: String,
    },
    /// A gate before refused.
    NotAsked,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Refused {
                code,
                status,
                message,
            } => write!(f, "refused, {status} {code}: {message}"),
            Self::Observed { code } => write!(f, "passed, observing {code}"),
            Self::NotAsked => f.write_str("not asked"),
        }
    }
}

/// A value that a gate decided by, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fact {
    /// What the value is.
    pub name: String,
    /// The value, as text.
    pub value: String,
    /// Where it comes from, as `policy gold`.
    pub source: String,
}

impl Fact {
    /// A value and its source.
    pub fn of(
        name: impl Into<String>,
        value: impl Into<String>,
        source: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            source: source.into(),
        }
    }
}

/// Asks every gate, charging nothing.
pub(crate) async fn explain(gates: &Gates, head: &Parts) -> Explanation {
    let mut head = head.clone();
    let mut visit = gates.open();
    Gates::resume(&mut head, &mut visit);
    visit.rehearse();
    let mut refused = false;
    let mut answers = Vec::new();
    for (gate, observed) in gates.iter() {
        if refused {
            answers.push(Answer {
                gate: gate.name(),
                decision: Decision::NotAsked,
                facts: Vec::new(),
            });
            continue;
        }
        let mut step = gate.admit(&mut head, &mut visit);
        let decision = loop {
            match step {
                Step::Pass => break Decision::Passed,
                Step::Refuse(rejection) if observed => {
                    visit.waive();
                    break Decision::Observed {
                        code: rejection.code().to_owned(),
                    };
                }
                Step::Refuse(rejection) => break refusal(&rejection),
                Step::Wait(wait) => step = wait.await.go_on(&mut head, &mut visit),
                Step::WaitUntil(_, resume) => step = resume.go_on(&mut head, &mut visit),
            }
        };
        refused = matches!(decision, Decision::Refused { .. });
        answers.push(Answer {
            gate: gate.name(),
            decision,
            facts: visit.take_facts(),
        });
    }
    Explanation { answers }
}

fn refusal(rejection: &Rejection) -> Decision {
    Decision::Refused {
        code: rejection.code().to_owned(),
        status: rejection.status().as_u16(),
        message: rejection.message().to_owned(),
    }
}
