//! Bodies that templates make into others: `transform` and `transform_response` of a version.
//!
//! A gate finds the entries for a request, and takes what their templates are given of it: as it came, before its
//! headers are changed. Behind the gates [`exchange`](super::exchange) does the work.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, StatusCode, header::ACCEPT_ENCODING, request::Parts};
use http_body::Body;
use tollgate::{
    Rejection,
    access::RequestPath,
    body_transform::{
        BodyTransform, BodyTransformError, Given, Memory, Recode, forget_old_body, may_transform,
        recoded,
    },
    buffer::{self, Read, ReplayBody, set_length},
    gate::{Gate, Step},
    visit::Visit,
};

use super::{Where, broken_answer, first_of, is_own_answer, unread, versions::Chosen};
use crate::{
    answer::AnswerBody,
    onward::OnwardBody,
    serve::{Beginning, RequestBody},
};

/// The transforms of a version.
#[derive(Clone, Debug, Default)]
pub struct TransformRules {
    /// Of requests; none where the entry names what bodies can not be read as.
    pub request: Vec<(Where, Option<BodyTransform>)>,
    /// Of answers.
    pub response: Vec<(Where, BodyTransform)>,
    /// What holds of all.
    pub bounds: Bounds,
}

/// How much of bodies is read, and what becomes of those that can not be made into others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// How much of a request's body is read, in bytes.
    pub request: usize,
    /// How much of an answer's, in bytes.
    pub response: usize,
    /// Whether an answer that is larger is an error, as the configuration asks. Else it goes on as it came.
    pub refuses_large_responses: bool,
    /// Whether bodies that can not be made into others are refused. Else they go on as they came, as with
    /// Tyk.
    pub refuses_failed: bool,
}

impl TransformRules {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = &BodyTransform> {
        let of_requests = self
            .request
            .iter()
            .filter_map(|(_, transform)| transform.as_ref());
        of_requests.chain(self.response.iter().map(|(_, transform)| transform))
    }

    /// Whether a template has this word.
    pub fn mention(&self, word: &str) -> bool {
        self.all().any(|transform| transform.mentions(word))
    }

    /// What is done with one request and its answer.
    fn find(&self, head: &Parts, listen: &str, visit: &Visit) -> Option<Transforms> {
        let path = RequestPath::of(head.uri.path(), Some(listen)).ok()?;
        let method = head.method.as_str();
        let ready = |transform: &BodyTransform| Ready {
            given: transform.given(head, Some(visit)),
            transform: transform.clone(),
        };
        let of_request = first_of(&self.request, method, &path);
        let of_response = first_of(&self.response, method, &path);
        if of_request.is_none() && of_response.is_none() {
            return None;
        }
        // Who asked for no coding may not know any.
        let accepts = head.headers.get(ACCEPT_ENCODING);
        let recode = match accepts.is_some_and(|value| !value.is_empty()) {
            true => Recode::AsBefore,
            false => Recode::Plain,
        };
        Some(Transforms {
            recode,
            request: of_request.map(|transform| transform.as_ref().map(ready)),
            response: of_response
                .filter(|_| head.method != Method::HEAD)
                .map(ready),
            bounds: self.bounds,
        })
    }
}

/// What is done with the body of one request, and of its answer. It travels in the request's extensions.
#[derive(Debug)]
pub struct Transforms {
    request: Option<Option<Ready>>,
    response: Option<Ready>,
    /// What becomes of the coding of an answer.
    recode: Recode,
    bounds: Bounds,
}

/// A transform, and what its template is given.
#[derive(Debug)]
struct Ready {
    transform: BodyTransform,
    given: Given,
}

/// Finds the transforms of the version that was [`Chosen`].
#[derive(Clone, Debug)]
pub struct TransformGate {
    /// What the API is served below.
    pub listen: Arc<str>,
}

impl Gate for TransformGate {
    fn name(&self) -> &'static str {
        "transforms"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        let found = head.extensions.get::<Chosen>().and_then(|chosen| {
            let rules = &chosen.rules.transforms;
            if rules.is_empty() {
                None
            } else {
                rules.find(head, &self.listen, visit)
            }
        });
        if let Some(found) = found {
            head.extensions.insert(Arc::new(found));
        }
        Step::Pass
    }
}

impl Transforms {
    /// Puts another body in place of the request's.
    ///
    /// # Errors
    ///
    /// Fails where the body breaks off, or can not be made into another and that is refused.
    pub(crate) async fn change_request(
        &self,
        request: &mut Request<RequestBody>,
    ) -> Result<(), Rejection> {
        let Some(ready) = &self.request else {
            return Ok(());
        };
        let Some(Ready { transform, given }) = ready else {
            tracing::warn!("the input type of a body transform is neither `json` nor `xml`");
            return self.failed_request(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        };
        // What came in pieces goes on in one, but without its length, as with Tyk.
        let in_pieces = request.body().size_hint().exact().is_none();
        let beginning = request.body_mut().beginning(self.bounds.request).await;
        let Beginning { bytes, is_whole } = beginning.map_err(|err| unread(&err))?;
        if !is_whole {
            tracing::warn!("a request's body is too large to be transformed");
            return match self.bounds.refuses_failed {
                true => Err(super::sizes::too_large()),
                false => Ok(()),
            };
        }
        let room = Memory::for_bodies_up_to(self.bounds.request).besides(bytes.len());
        match transform.render_within(&bytes, given, room) {
            Ok(made) => {
                if !in_pieces {
                    set_length(request.headers_mut(), made.len());
                }
                request.body_mut().replace(made.into());
                Ok(())
            }
            Err(err) => {
                report(&err, "request");
                if err.is_too_large() && self.bounds.refuses_failed {
                    return Err(super::sizes::too_large());
                }
                let status = match err.is_of_body() {
                    true => StatusCode::BAD_REQUEST,
                    false => StatusCode::INTERNAL_SERVER_ERROR,
                };
                self.failed_request(status, "Request body can not be transformed")
            }
        }
    }

    fn failed_request(&self, status: StatusCode, message: &'static str) -> Result<(), Rejection> {
        match self.bounds.refuses_failed {
            true => Err(Rejection::custom("body_untransformed", status, message)),
            false => Ok(()),
        }
    }

    /// Puts another body in place of the answer's.
    ///
    /// # Errors
    ///
    /// Fails where it can not be read, or can not be made into another and that is refused.
    pub(crate) async fn change_response(
        &self,
        response: http::Response<OnwardBody>,
    ) -> Result<http::Response<OnwardBody>, Rejection> {
        let Some(ready) = &self.response else {
            return Ok(response);
        };
        let (mut head, body) = response.into_parts();
        if is_own_answer(&head.extensions) || !may_transform(head.status, &head.headers) {
            return Ok(http::Response::from_parts(head, body));
        }
        let body = self.response_body(ready, &mut head.headers, body).await?;
        Ok(http::Response::from_parts(head, body))
    }

    async fn response_body(
        &self,
        Ready { transform, given }: &Ready,
        headers: &mut HeaderMap,
        body: OnwardBody,
    ) -> Result<OnwardBody, Rejection> {
        let most = self.bounds.response;
        let whole_body = match buffer::read(body, most).await {
            Read::Whole(whole) => whole,
            Read::Broken(_) => return Err(broken_answer()),
            Read::TooLarge(body) => {
                if self.bounds.refuses_large_responses || self.bounds.refuses_failed {
                    return Err(response_too_large());
                }
                tracing::warn!("an answer's body is too large to be transformed");
                return Ok(replayed(body));
            }
        };
        let mut changed = headers.clone();
        let made = recoded(
            &mut changed,
            &whole_body.bytes,
            most,
            self.recode,
            |bytes, room| transform.render_within(bytes, given, room),
        );
        match made {
            Ok(bytes) => {
                *headers = changed;
                forget_old_body(headers);
                headers.remove("trailer");
                set_length(headers, bytes.len());
                Ok(OnwardBody::whole(bytes))
            }
            Err(err) => {
                report(&err, "response");
                if err.is_too_large()
                    && (self.bounds.refuses_large_responses || self.bounds.refuses_failed)
                {
                    return Err(response_too_large());
                }
                if self.bounds.refuses_failed {
                    let status = match err.is_of_body() {
                        true => StatusCode::BAD_GATEWAY,
                        false => StatusCode::INTERNAL_SERVER_ERROR,
                    };
                    let message = "Response body can not be transformed";
                    return Err(Rejection::custom("body_untransformed", status, message));
                }
                Ok(replayed(whole_body.into()))
            }
        }
    }
}

/// An answer that is larger than what is read, or takes more memory than it may.
fn response_too_large() -> Rejection {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Rejection::custom("response_too_large", status, "Response body too large")
}

/// A body that goes on as it came.
fn replayed(body: ReplayBody<OnwardBody>) -> OnwardBody {
    OnwardBody::Api {
        body: Box::new(AnswerBody::other(body)),
    }
}

fn report(err: &BodyTransformError, side: &'static str) {
    metrics::counter!("tollgate_transform_failures_total", "side" => side).increment(1);
    let cause = std::error::Error::source(err).map(ToString::to_string);
    tracing::warn!(side, error = %err, cause = cause.unwrap_or_default(), "body transform failed");
}
