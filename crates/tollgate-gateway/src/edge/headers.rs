//! Headers that a version sets and takes out, for all its paths and for single ones.
//!
//! On the way in: the version's removals, its values, then those of the first entry for the path. On
//! the way out, on the upstream's own answers alone: the entry's first, then the version's, then those of
//! response processors.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use smallvec::SmallVec;
use tollgate::{
    Rejection,
    access::RequestPath,
    context::RequestContext,
    gate::{Departure, Gate, Step},
    meta_inject::{remove_header, set_header},
    rewrite::TriggerValues,
    variables::{Context, NoContext, Text, UnsafeValues, ValueStyle, header_value},
    visit::Visit,
};

use super::{
    Where, first_of, is_own_answer, place_of,
    spelling::Spelling,
    versions::{Chosen, VersionRules},
};
use crate::{onward::Looped, proxy::ProxyHints};

/// Headers to take out, then headers to set.
#[derive(Clone, Debug, Default)]
pub struct HeaderSet {
    /// Names of headers that go.
    pub remove: Vec<HeaderName>,
    /// Headers that are set, after that.
    pub set: Vec<(HeaderName, Text)>,
    /// The names of these as they are to be written; empty for the usual spelling.
    pub spelled: Vec<String>,
}

/// The headers of a version.
#[derive(Clone, Debug, Default)]
pub struct HeaderRules {
    /// Of every request.
    pub request: HeaderSet,
    /// Of requests of single paths.
    pub request_by_path: Vec<(Where, HeaderSet)>,
    /// Of every answer.
    pub response: HeaderSet,
    /// Of every answer, after that.
    pub response_last: HeaderSet,
    /// Of answers of single paths.
    pub response_by_path: Vec<(Where, HeaderSet)>,
    /// How the names of both are written.
    pub spelling: Spellings,
}

/// How names are written to upstreams and to clients.
#[derive(Clone, Debug, Default)]
pub struct Spellings {
    request: Spelling,
    response: Spelling,
}

impl HeaderRules {
    /// The same, with names written as they are spelled.
    pub fn spelled(mut self) -> Self {
        let names = |sets: [&HeaderSet; 2], by_path: &[(Where, HeaderSet)]| {
            let sets = sets.into_iter().chain(by_path.iter().map(|(_, set)| set));
            let names: Vec<_> = sets.flat_map(|set| set.spelled.clone()).collect();
            Spelling::of(names.iter().map(String::as_str))
        };
        let no_other = HeaderSet::default();
        self.spelling = Spellings {
            request: names([&self.request, &no_other], &self.request_by_path),
            response: names(
                [&self.response, &self.response_last],
                &self.response_by_path,
            ),
        };
        self
    }

    /// The variables of triggers that headers of answers name.
    pub fn trigger_names(&self) -> impl Iterator<Item = &str> {
        let by_path = self.response_by_path.iter().map(|(_, set)| set);
        let sets = [&self.response, &self.response_last].into_iter();
        let texts = sets.chain(by_path).flat_map(|set| set.set.iter());
        let names = texts.flat_map(|(_, text)| text.context_names());
        names.filter(|name| is_of_trigger(name))
    }

    /// The names of context variables that its texts have.
    pub fn context_names(&self) -> impl Iterator<Item = &str> {
        let by_path = self.request_by_path.iter().chain(&self.response_by_path);
        let sets = [&self.request, &self.response, &self.response_last];
        let sets = sets.into_iter().chain(by_path.map(|(_, set)| set));
        let texts = sets.flat_map(|set| set.set.iter());
        texts.flat_map(|(_, text)| text.context_names())
    }

    /// Whether nothing is done.
    fn is_empty(&self) -> bool {
        let is_empty = self.request.is_empty() && self.request_by_path.is_empty();
        is_empty && !self.changes_responses()
    }

    /// Whether `X-Forwarded-For` is not added to on this path.
    pub fn leave_forwarded_for(&self, method: &str, path: &RequestPath<'_>) -> bool {
        let of_path = first_of(&self.request_by_path, method, path);
        self.request.takes_forwarded_for() || of_path.is_some_and(HeaderSet::takes_forwarded_for)
    }

    fn changes_responses(&self) -> bool {
        let is_empty = self.response.is_empty() && self.response_last.is_empty();
        !is_empty || !self.response_by_path.is_empty()
    }
}

impl HeaderSet {
    fn takes_forwarded_for(&self) -> bool {
        self.remove.iter().any(|name| name == "x-forwarded-for")
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }

    /// The values as they are for this request.
    fn fill(
        &self,
        head: &Parts,
        visit: &Visit,
        has_context: bool,
        unsafe_values: UnsafeValues,
    ) -> Result<Values, Rejection> {
        let meta = visit.session().map(|session| &session.meta_data);
        let of_request = RequestContext { head, visit };
        let context: &dyn Context = if has_context { &of_request } else { &NoContext };
        let mut values = Values::new();
        for (_, text) in &self.set {
            let text = text.fill(meta, context, ValueStyle::Tyk);
            values.push(header_value(text, unsafe_values)?);
        }
        Ok(values)
    }

    fn apply_to_request(&self, values: Values, headers: &mut HeaderMap) {
        for name in &self.remove {
            remove_header(headers, name);
        }
        for ((name, _), value) in self.set.iter().zip(values) {
            set_header(headers, name, value);
        }
    }

    /// The same for an answer. What a rewrite's trigger is to tell is not known yet.
    fn fill_answer(
        &self,
        head: &Parts,
        visit: &Visit,
        has_context: bool,
    ) -> Result<AnswerValues, Rejection> {
        let values = self.fill(head, visit, has_context, UnsafeValues::Clean)?;
        let late = |((_, text), value): (&(HeaderName, Text), HeaderValue)| {
            if !text.context_names().any(is_of_trigger) {
                return AnswerValue::Ready(value);
            }
            let known = text
                .context_names()
                .filter(|name| has_context && !is_of_trigger(name));
            let value = |name: &str| {
                let mut value = String::new();
                RequestContext { head, visit }.write(name, &mut value);
                (name.into(), value)
            };
            AnswerValue::Late(known.map(value).collect())
        };
        Ok(self.set.iter().zip(values).map(late).collect())
    }

    fn apply_to_answer(&self, values: &[AnswerValue], visit: &Visit, response: &mut Departure<'_>) {
        for name in &self.remove {
            response.headers.remove(name);
        }
        for ((name, text), value) in self.set.iter().zip(values) {
            let value = match value {
                AnswerValue::Ready(value) => Some(value.clone()),
                AnswerValue::Late(known) => {
                    let triggers = response.extensions.get();
                    let context = LateContext { known, triggers };
                    let meta = visit.session().map(|session| &session.meta_data);
                    let text = text.fill(meta, &context, ValueStyle::Tyk);
                    header_value(text, UnsafeValues::Clean).ok()
                }
            };
            if let Some(value) = value {
                response.headers.insert(name.clone(), value);
            }
        }
    }
}

/// What a [`HeaderSet`] sets in an answer, in its order.
type AnswerValues = SmallVec<[AnswerValue; 2]>;

/// A value for a header of an answer.
#[derive(Clone)]
enum AnswerValue {
    Ready(HeaderValue),
    /// A rewrite's trigger has a part in it; the other context variables of its text are known.
    Late(Vec<(Box<str>, String)>),
}

/// Whether a context variable is told by a rewrite's trigger.
fn is_of_trigger(name: &str) -> bool {
    name.starts_with("trigger-")
}

/// The context of an answer: what the request said, and what triggers told.
struct LateContext<'a> {
    known: &'a [(Box<str>, String)],
    triggers: Option<&'a TriggerValues>,
}

impl Context for LateContext<'_> {
    fn write(&self, name: &str, out: &mut String) {
        if let Some((_, value)) = self.known.iter().find(|(known, _)| **known == *name) {
            out.push_str(value);
        } else if let Some(triggers) = self.triggers {
            triggers.write(name, out);
        }
    }
}

/// What a [`HeaderSet`] sets for one request, in its order.
type Values = SmallVec<[HeaderValue; 2]>;

/// Changes headers as the version says that was [`Chosen`].
#[derive(Clone, Debug)]
pub struct HeaderGate {
    /// What the API is served below.
    pub listen: Arc<str>,
    /// Whether `$tyk_context.` has values.
    pub has_context: bool,
}

impl HeaderGate {
    /// Where the first entry is for this request.
    fn entry(
        &self,
        entries: &[(Where, HeaderSet)],
        head: &Parts,
    ) -> Result<Option<usize>, Rejection> {
        if entries.is_empty() {
            return Ok(None);
        }
        let path = RequestPath::of(head.uri.path(), Some(&self.listen))?;
        Ok(place_of(entries, head.method.as_str(), &path))
    }

    fn admit_request(&self, head: &mut Parts, visit: &mut Visit) -> Result<(), Rejection> {
        let chosen = head.extensions.get::<Chosen>();
        let Some(chosen) = chosen.filter(|chosen| !chosen.rules.headers.is_empty()) else {
            return Ok(()); // The usual API: nothing is read or counted for it.
        };
        let chosen = chosen.clone();
        let rules = &chosen.rules.headers;
        let of_path = self.entry(&rules.request_by_path, head)?;
        let of_path = of_path.map(|at| &rules.request_by_path[at].1);

        let leave_forwarded_for = rules.request.takes_forwarded_for()
            || of_path.is_some_and(HeaderSet::takes_forwarded_for);
        let fill = |set: &HeaderSet| set.fill(head, visit, self.has_context, UnsafeValues::Refuse);
        let all = fill(&rules.request)?;
        let own = of_path.map(|set| Ok((set, fill(set)?))).transpose()?;
        // What a rewrite of this API sent back answers under the path that the client called.
        let is_sent_back = head.extensions.get::<Looped>().is_some_and(|it| it.is_own);
        if rules.changes_responses() && !is_sent_back {
            let fill = |set: &HeaderSet| set.fill_answer(head, visit, self.has_context);
            let own = self.entry(&rules.response_by_path, head)?;
            let fill_own = |at: usize| Ok((at, fill(&rules.response_by_path[at].1)?));
            let changes = Changes {
                own: own.map(fill_own).transpose()?,
                all: fill(&rules.response)?,
                last: fill(&rules.response_last)?,
                rules: chosen.rules.clone(),
            };
            visit.notes_mut().insert(changes);
        }
        rules.spelling.request.put_into(&mut head.extensions);
        rules.request.apply_to_request(all, &mut head.headers);
        if let Some((set, values)) = own {
            set.apply_to_request(values, &mut head.headers);
        }
        if leave_forwarded_for {
            head.extensions
                .get_or_insert_default::<ProxyHints>()
                .leave_forwarded_for = true;
        }
        Ok(())
    }
}

/// What is done to the headers of an answer.
#[derive(Clone)]
struct Changes {
    rules: Arc<VersionRules>,
    own: Option<(usize, AnswerValues)>, // Of the entry for the path, and which that is.
    all: AnswerValues,
    last: AnswerValues,
}

impl Gate for HeaderGate {
    fn name(&self) -> &'static str {
        "headers"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        self.admit_request(head, visit).into()
    }

    fn depart(&self, visit: &Visit, response: &mut Departure<'_>) {
        let is_ours = is_own_answer(response.extensions);
        let Some(changes) = visit.notes().get::<Changes>().filter(|_| !is_ours) else {
            return;
        };
        let rules = &changes.rules.headers;
        rules.spelling.response.put_into(response.extensions);
        if let Some((at, values)) = &changes.own {
            let set = &rules.response_by_path[*at].1;
            set.apply_to_answer(values, visit, response);
        }
        let sets = [
            (&rules.response, &changes.all),
            (&rules.response_last, &changes.last),
        ];
        for (set, values) in sets {
            set.apply_to_answer(values, visit, response);
        }
    }
}
