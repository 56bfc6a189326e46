//! `X-RateLimit-…` on answers, as Tyk writes them: of the key's quota, on every answer to a request with a
//! session, whether it has a quota or not; zeros on answers to others, where the upstream said nothing of
//! its own. Answers of the gateway itself have none, and what is left to an organisation is no key's affair.
//!
//! Tyk's answer to the request that begins a quota's period has the present time as `X-RateLimit-Reset`,
//! and all others the end of the period; so have these, unless the end is asked for (`exact_reset`).

use http::{HeaderName, HeaderValue, request::Parts};
use tollgate::{
    ApiId, Session,
    gate::{Acts, Departure, Gate, Step},
    rejection::LimitOwner,
    store::Standing,
    visit::{LimitKind, LimitStanding, Visit},
};

use super::is_own_answer;
use crate::onward::OfAnotherApi;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Writes the headers of an API.
#[derive(Clone, Debug)]
pub struct LimitHeadersGate {
    /// Whose entry of the session has the numbers.
    pub api: ApiId,
    /// Whether the first answer of a period tells its end, too.
    pub exact_reset: bool,
}

impl Gate for LimitHeadersGate {
    fn name(&self) -> &'static str {
        "limit headers"
    }

    fn admit(&self, _head: &mut Parts, _visit: &mut Visit) -> Step {
        Step::Pass
    }

    fn acts(&self) -> Acts {
        Acts {
            forward: false,
            depart: true,
        }
    }

    fn depart(&self, visit: &Visit, response: &mut Departure<'_>) {
        let is_of_another = response.extensions.get::<OfAnotherApi>().is_some();
        if is_own_answer(response.extensions) || is_of_another {
            return;
        }
        let Some(session) = visit.session() else {
            for name in [LIMIT, REMAINING, RESET] {
                response
                    .headers
                    .entry(name)
                    .or_insert(HeaderValue::from_static("0"));
            }
            return;
        };
        let mut set =
            |name: HeaderName, value: HeaderValue| drop(response.headers.insert(name, value));
        if let Some(quota) = of_key(visit, LimitKind::Quota) {
            let Standing { max, remaining, .. } = quota.standing;
            let begins_now = !self.exact_reset && remaining + 1 == max;
            let left = quota.standing.resets_in.filter(|_| !begins_now);
            let resets = visit.now().after(left.unwrap_or_default());
            set(LIMIT, digits(max));
            set(REMAINING, digits(remaining));
            set(RESET, digits(resets.unix().0));
        } else {
            let (max, remaining, renews) = recorded(session, &self.api);
            set(LIMIT, digits(max));
            set(REMAINING, digits(remaining));
            set(RESET, digits(renews));
        }
    }
}

/// A limit of the key that the request was charged to, and not of its organisation.
pub(super) fn of_key(visit: &Visit, kind: LimitKind) -> Option<&LimitStanding> {
    let mut limits = visit.limits().iter();
    limits.find(|limit| limit.owner == LimitOwner::Key && limit.kind == kind)
}

/// A number, in one allocation; `HeaderValue::from` takes two.
fn digits(number: impl itoa::Integer) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(number)).expect("digits are ASCII")
}

/// What the record says where no quota is counted: the API's entry, or else the session's own.
pub(super) fn recorded(session: &Session, api: &ApiId) -> (i64, i64, i64) {
    let own = session.access_rights.get(api).map(|right| &right.limit);
    match own.filter(|limit| !limit.is_empty()) {
        Some(limit) => (limit.quota_max, limit.quota_remaining, limit.quota_renews),
        None => (
            session.quota_max,
            session.quota_remaining,
            session.quota_renews,
        ),
    }
}
