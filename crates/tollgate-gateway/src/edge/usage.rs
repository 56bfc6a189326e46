//! Where a key's own limits stand, for who holds it: `{listen}/tyk/rate-limits/`.
//!
//! It is asked for with the key, as any path of the API, and needs the right to the API, but not to the
//! path; nothing is charged. The answer has Tyk's two objects, in which a number that does not limit is as
//! the record has it.
//!
//! # Differences from Tyk
//!
//! The numbers are those of the limits in force for this API, and not of the key's root; `quota_remaining`
//! and `quota_renews` are what the next request meets, and not what was stored last. Of a quota that was not
//! used yet they are what is stored, as Tyk tells it, unless the end of a period is told from its first
//! request on.

use http::{HeaderValue, Response, header::CONTENT_TYPE, request::Parts};
use serde_json::{Value, json};
use tollgate::{
    ApiId, Session, Tollgate,
    access::RequestPath,
    visit::{LimitKind, LimitStanding, Visit},
};

use super::limit_headers::{of_key, recorded};
use crate::api::{AnswerBody, whole};

const PATH: &str = "/tyk/rate-limits/";

/// Tells the limits of keys.
#[derive(Debug)]
pub struct Usage {
    /// Finds the key, asks for its right, and looks at its limits.
    pub gate: Tollgate,
    /// The API.
    pub api: ApiId,
    /// Whether the end of a quota's period is told from its first request on; see
    /// [`limit_headers`](super::limit_headers).
    pub exact_reset: bool,
}

/// Whether a request asks for the limits of its key.
pub fn is_asked(head: &Parts, listen: &str) -> bool {
    let path = head.uri.path();
    path.ends_with(PATH)
        && RequestPath::of(path, Some(listen)).is_ok_and(|path| path.behind_listen_path() == PATH)
}

impl Usage {
    /// Answers a request.
    pub async fn answer(&self, head: Parts) -> Response<AnswerBody> {
        let admitted = match self.gate.admit(head).await {
            Ok(admitted) => admitted,
            Err(refused) => {
                let rejection = refused.rejection().clone();
                let mut response = refused.into_response().map(whole);
                response.extensions_mut().insert(rejection);
                return response;
            }
        };
        let body = self.told(admitted.visit()).to_string();
        let mut response = Response::new(whole(body));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }

    fn told(&self, visit: &Visit) -> Value {
        let no_session = Session::default();
        let session = visit.session().map_or(&no_session, |session| session);
        let quota = of_key(visit, LimitKind::Quota);
        let is_used = |quota: &&LimitStanding| quota.standing.remaining < quota.standing.max;
        let quota = quota.filter(|quota| self.exact_reset || is_used(quota));
        let (max, remaining, renews) = match quota {
            Some(LimitStanding { standing, .. }) => {
                let begins_now = !self.exact_reset && standing.remaining + 1 == standing.max;
                let left = standing.resets_in.filter(|_| !begins_now);
                let resets = left.unwrap_or_default();
                let renews = visit.now().after(resets).unix().0;
                (
                    json!(standing.max),
                    json!(standing.remaining),
                    json!(renews),
                )
            }
            None => {
                let (max, remaining, renews) = recorded(session, &self.api);
                (json!(max), json!(remaining), json!(renews))
            }
        };
        let rate = visit.entry().and_then(|entry| entry.limits().rate);
        let (requests, per) = match rate {
            Some(rate) => (json!(rate.requests), number(rate.window.as_secs_f64())),
            None => (number(session.rate), number(session.per)),
        };
        json!({
            "quota": {"quota_max": max, "quota_remaining": remaining, "quota_renews": renews},
            "rate_limit": {"requests": requests, "per_unit": per},
        })
    }
}

/// A number as Go writes it: without a point where it is whole.
fn number(number: f64) -> Value {
    let whole = number as i64;
    if whole as f64 == number {
        json!(whole)
    } else {
        json!(number)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(path: &str, expected: bool) {
        let request = Request::get(path).body(()).expect("a request");
        let (head, ()) = request.into_parts();
        assert_eq!(is_asked(&head, "/a/"), expected, "{path}");
    }

    #[test]
    fn the_path_is_the_whole_path_behind_the_listen_path() {
        check("/a/tyk/rate-limits/", true);
        check("/a/tyk/rate-limits", false);
        check("/a/x/tyk/rate-limits/", false);
        check("/a/tyk/rate-limits/?x=1", true);
    }

    #[test]
    fn numbers_are_whole_where_they_can_be() {
        assert_eq!(number(60.0).to_string(), "60");
        assert_eq!(number(0.5).to_string(), "0.5");
    }
}
