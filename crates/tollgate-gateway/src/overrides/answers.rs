//! Rules of `error_overrides` for errors that upstreams answered with.
//!
//! An answer of 400 and above that is the upstream's own takes the first rule that is about it: one without
//! `match`, one whose `body_field` has its `body_value`, or whose `message_pattern` fits the body. Of flags,
//! `URS` is any failure of an upstream (5xx); the others are reasons of refusals. Calls by gRPC stay as they are.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
    request::Parts,
};
use tollgate::{
    Refusals, Rejection,
    body_transform::{Recode, forget_old_body, recoded},
    buffer::{self, Read, set_length},
};

use super::{
    ErrorOverrides, Templates,
    rules::{Rule, Rules, compile},
};
use crate::{
    answer::AnswerBody,
    edge::{broken_answer, is_own_answer},
    onward::OnwardBody,
};

/// How much of a body is read to see what it says, in bytes. Of a longer one it is not known.
const MOST: usize = 1 << 20;

/// How errors of upstreams are answered otherwise.
#[derive(Clone)]
pub(crate) struct AnswerOverrides {
    sets: Arc<[Rules]>,
    /// The usual form of refusals, for rules that have a message alone.
    base: Refusals,
    /// How it is refused to go on where a body can not be read.
    refusals: Refusals,
}

/// What a request says of the form of its answer.
pub(crate) struct Asked(Parts);

impl Asked {
    pub(crate) fn by<B>(request: &Request<B>) -> Self {
        let mut head = Request::new(()).into_parts().0;
        head.method = request.method().clone();
        let kind = request.headers().get(CONTENT_TYPE).cloned();
        head.headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
        Self(head)
    }
}

impl AnswerOverrides {
    /// The rules that can be about answers of upstreams; `None` where there are none.
    ///
    /// # Errors
    ///
    /// Fails with a rule that can not be followed.
    pub(crate) fn new(
        base: Refusals,
        refusals: Refusals,
        templates: &Arc<Templates>,
        of_api: Option<&ErrorOverrides>,
        of_all: &ErrorOverrides,
    ) -> Result<Option<Self>, String> {
        let sets = compile(templates, of_api, of_all)?;
        Ok((!sets.is_empty()).then_some(Self {
            sets,
            base,
            refusals,
        }))
    }

    /// The answer, or another in its place. One whose body has to be read and breaks off is refused.
    pub(crate) async fn over(
        &self,
        response: Response<OnwardBody>,
        asked: &Asked,
    ) -> Response<OnwardBody> {
        let status = response.status();
        let is_error = status.is_client_error() || status.is_server_error();
        let own = is_own_answer(response.extensions());
        if !is_error || own || is_grpc(&asked.0.headers) || is_grpc(response.headers()) {
            return response;
        }
        let rules = self.of(status);
        let Some(first) = rules.first() else {
            return response;
        };
        if !first.looks_at_body() {
            return self.answer(first, response, asked);
        }
        let (response, said) = match seen(response).await {
            Ok(seen) => seen,
            Err(rejection) => {
                let refused = self.refusals.render(&rejection, &asked.0);
                return refused.map(OnwardBody::whole);
            }
        };
        match rules.iter().find(|rule| rule.is_of_body(&said)) {
            Some(rule) => self.answer(rule, response, asked),
            None => response,
        }
    }

    /// The rules that may be about an upstream's answer with this status, in order.
    fn of(&self, status: StatusCode) -> Vec<&Rule> {
        let rules = self.sets.iter().flat_map(|rules| rules.of(status));
        rules.filter(|rule| rule.is_of_upstreams(status)).collect()
    }

    fn answer(
        &self,
        rule: &Rule,
        response: Response<OnwardBody>,
        Asked(asked): &Asked,
    ) -> Response<OnwardBody> {
        let rejection = Rejection::custom("upstream_error", response.status(), "");
        let usual = self.base.render(&rejection, asked);
        let made = rule.answer(&self.base, usual, &rejection, asked);
        let (mut head, mut body) = response.into_parts();
        head.status = made.status();
        if rule.replaces_body() {
            forget_old_body(&mut head.headers);
            head.headers.remove(CONTENT_ENCODING);
            head.headers.remove("trailer");
            let kind = made.headers().get(CONTENT_TYPE).cloned();
            head.headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
            let made = made.into_body();
            set_length(&mut head.headers, made.len());
            let is_shown = asked.method != Method::HEAD;
            body = OnwardBody::whole(if is_shown { made } else { Bytes::new() });
        }
        for (name, value) in rule.headers() {
            head.headers.insert(name, value.clone());
        }
        Response::from_parts(head, body)
    }
}

/// Reads what an answer says. It can still go on as it came.
async fn seen(
    response: Response<OnwardBody>,
) -> Result<(Response<OnwardBody>, Vec<u8>), Rejection> {
    let (head, body) = response.into_parts();
    let (body, said) = match buffer::read(body, MOST).await {
        Read::Whole(whole) => {
            let said = decoded(&head.headers, &whole.bytes);
            (whole.into(), said)
        }
        Read::TooLarge(body) => (body, Vec::new()),
        Read::Broken(_) => return Err(broken_answer()),
    };
    let body = OnwardBody::Api {
        body: Box::new(AnswerBody::other(body)),
    };
    Ok((Response::from_parts(head, body), said))
}

/// A body without its coding; nothing where that is not known.
fn decoded(headers: &HeaderMap, body: &Bytes) -> Vec<u8> {
    let mut said = Vec::new();
    let keep = |bytes: &[u8], _| {
        said = bytes.to_vec();
        Ok(Vec::new())
    };
    let read = recoded(&mut headers.clone(), body, MOST, Recode::Plain, keep);
    read.map_or_else(|_| Vec::new(), |_| said)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

impl fmt::Debug for AnswerOverrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerOverrides").finish_non_exhaustive()
    }
}
