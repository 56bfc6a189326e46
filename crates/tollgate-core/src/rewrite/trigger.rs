//! What lets a rewrite choose another target: headers, parameters, segments, metadata, context, body.

use std::fmt::Write as _;

use http::HeaderName;
use percent_encoding::percent_decode_str;
use regex::bytes::Regex;

use super::{
    Facts, RewriteError, RewriteFault, RewriteMatch, RewriteTrigger, Secrets, target::Target,
};
use crate::{
    access::compile_expression,
    variables::{Context, form_pair},
};

/// How many matches in a body have variables.
const MOST_MATCHES: usize = 256;

/// A trigger, compiled.
#[derive(Clone)]
pub(super) struct Trigger {
    pub(super) target: Target,
    wants_all: bool,
    rules: Vec<Rule>,
    /// Its variables that anybody names.
    wanted: Vec<Box<str>>,
    number: usize,
}

/// What is looked at under one name.
#[derive(Clone)]
struct Rule {
    place: Place,
    /// The name in variables.
    name: Box<str>,
    pattern: Regex,
    reverse: bool,
}

#[derive(Clone, Eq, PartialEq)]
enum Place {
    Header(HeaderName),
    Query,
    PathPart,
    Meta,
    Context,
    Payload,
}

/// Variables of a trigger that fired: `trigger-0-X-Tier-0`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TriggerValues(Vec<(Box<str>, String)>);

impl TriggerValues {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Context for TriggerValues {
    fn write(&self, name: &str, out: &mut String) {
        if let Some((_, value)) = self.0.iter().find(|(known, _)| **known == *name) {
            out.push_str(value);
        }
    }
}

impl Trigger {
    pub(super) fn compile(
        trigger: &RewriteTrigger,
        number: usize,
        also_wanted: &[Box<str>],
        secrets: Secrets<'_>,
    ) -> Result<Self, RewriteError> {
        let options = &trigger.options;
        let mut rules = Vec::new();
        for (name, value) in &options.header_matches {
            let member = format!("header_matches.{name}");
            let header = HeaderName::try_from(name).map_err(|_| {
                let fault = RewriteFault::HeaderName(name.clone());
                RewriteError::at(format!("options.{member}"), fault)
            })?;
            let name = in_capitals(header.as_str());
            rules.push(Rule::new(&member, Place::Header(header), &name, value)?);
        }
        let by_name = [
            (
                "query_val_matches",
                Place::Query,
                &options.query_val_matches,
            ),
            (
                "path_part_matches",
                Place::PathPart,
                &options.path_part_matches,
            ),
            (
                "session_meta_matches",
                Place::Meta,
                &options.session_meta_matches,
            ),
            (
                "request_context_matches",
                Place::Context,
                &options.request_context_matches,
            ),
        ];
        for (list, place, matches) in by_name {
            for (name, value) in matches {
                let member = format!("{list}.{name}");
                rules.push(Rule::new(&member, place.clone(), name, value)?);
            }
        }
        let payload = &options.payload_matches;
        if !payload.match_rx.is_empty() {
            rules.push(Rule::new(
                "payload_matches",
                Place::Payload,
                "payload",
                payload,
            )?);
        }
        let target = Target::parse(&trigger.rewrite_to, secrets);
        let mut compiled = Self {
            target: target.map_err(|fault| RewriteError::at("rewrite_to", fault))?,
            wants_all: trigger.on != "any",
            rules,
            wanted: Vec::new(),
            number,
        };
        let own: Vec<Box<str>> = compiled.target.context_names().map(Box::from).collect();
        compiled.tell(&own);
        compiled.tell(also_wanted);
        Ok(compiled)
    }

    /// Keeps these variables, where they are its own.
    pub(super) fn tell(&mut self, names: &[Box<str>]) {
        let prefix = format!("trigger-{}-", self.number);
        let own = names.iter().filter(|name| name.starts_with(&prefix));
        self.wanted.extend(own.cloned());
    }

    pub(super) fn reads_payload(&self) -> bool {
        self.rules.iter().any(|rule| rule.place == Place::Payload)
    }

    pub(super) fn context_names(&self) -> impl Iterator<Item = &str> {
        let rules = self.rules.iter();
        let of_context = rules.filter(|rule| rule.place == Place::Context);
        of_context.map(|rule| &*rule.name)
    }

    /// The variables, where it fires.
    pub(super) fn fires(&self, facts: &Facts<'_>) -> Option<TriggerValues> {
        let mut values = Values {
            trigger: self,
            found: Vec::new(),
            name: String::new(),
        };
        let mut parts_found = 0;
        let mut fired = false;
        let mut rules = self.rules.iter().peekable();
        while let Some(rule) = rules.next() {
            let holds = rule.holds(facts, &mut values, &mut parts_found);
            fired |= holds;
            if self.wants_all && !holds {
                return None;
            }
            // Of names in one place all are looked at, for their variables.
            let is_last = rules.peek().is_none_or(|next| !next.is_beside(rule));
            if !self.wants_all && fired && is_last {
                break;
            }
        }
        (fired || self.wants_all).then_some(TriggerValues(values.found))
    }
}

impl Rule {
    fn new(
        member: &str,
        place: Place,
        name: &str,
        value: &RewriteMatch,
    ) -> Result<Self, RewriteError> {
        let pattern = compile_expression(&value.match_rx);
        let wrong = |err| RewriteError::at(format!("options.{member}.match_rx"), err);
        Ok(Self {
            place,
            name: name.into(),
            pattern: pattern.map_err(wrong)?,
            reverse: value.reverse,
        })
    }

    fn is_beside(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.place) == std::mem::discriminant(&other.place)
    }

    /// Whether a value is as it should be. `parts_found` counts segments over all labels.
    fn holds(&self, facts: &Facts<'_>, values: &mut Values<'_>, parts_found: &mut usize) -> bool {
        match &self.place {
            Place::Header(name) => {
                let all = facts.headers.get_all(name).iter();
                let all = all.map(|value| value.as_bytes()).enumerate();
                self.any_of(all, values)
            }
            Place::Query => {
                let query = facts.url.split_once('?').map_or("", |(_, query)| query);
                let pairs = query.split('&').filter_map(form_pair);
                let own = pairs.filter(|(name, _)| **name == *self.name);
                let all = own.map(|(_, value)| value).enumerate();
                let mut holds = false;
                for (index, value) in all {
                    holds |= self.looks_at(value.as_bytes(), Some(index), values);
                }
                holds
            }
            Place::PathPart => {
                let path = facts.url.split('?').next().unwrap_or_default();
                let path = percent_decode_str(path).decode_utf8_lossy();
                let before = *parts_found;
                for part in path.split('/') {
                    let fits = self.looks_at(part.as_bytes(), Some(*parts_found), values);
                    *parts_found += usize::from(fits);
                }
                before < *parts_found
            }
            Place::Meta => {
                let value = facts.meta.and_then(|meta| meta.get(&self.name)?.as_text());
                value.is_some_and(|value| self.looks_at(value.as_bytes(), None, values))
            }
            Place::Context => {
                let value = facts.context.text(&self.name);
                value.is_some_and(|value| self.looks_at(value.as_bytes(), None, values))
            }
            Place::Payload => self.holds_in_payload(facts.payload, values),
        }
    }

    fn any_of<'a>(
        &self,
        all: impl Iterator<Item = (usize, &'a [u8])>,
        values: &mut Values<'_>,
    ) -> bool {
        let mut holds = false;
        for (index, value) in all {
            holds |= self.looks_at(value, Some(index), values);
        }
        holds
    }

    /// Whether one value is as it should be; what matched becomes variables.
    fn looks_at(&self, value: &[u8], index: Option<usize>, values: &mut Values<'_>) -> bool {
        if self.reverse || values.nobody_asks() {
            return self.pattern.is_match(value) != self.reverse;
        }
        let Some(found) = self.pattern.captures(value) else {
            return false;
        };
        let mut groups = found
            .iter()
            .map(|group| group.map_or(&[][..], |at| at.as_bytes()));
        values.put(&self.name, index, None, groups.next().unwrap_or_default());
        for (number, group) in groups.enumerate() {
            values.put(&self.name, index, Some(number), group);
        }
        true
    }

    fn holds_in_payload(&self, payload: &[u8], values: &mut Values<'_>) -> bool {
        if self.reverse || values.nobody_asks() {
            return self.pattern.is_match(payload) != self.reverse;
        }
        let mut holds = false;
        let all = self.pattern.captures_iter(payload).take(MOST_MATCHES);
        for (index, found) in all.enumerate() {
            let mut groups = found
                .iter()
                .map(|group| group.map_or(&[][..], |at| at.as_bytes()));
            let whole = groups.next().unwrap_or_default();
            if index == 0 {
                values.put(&self.name, None, None, whole);
            }
            values.put(&self.name, Some(index), None, whole);
            for (number, group) in groups.enumerate() {
                values.put(&self.name, Some(index), Some(number), group);
            }
            holds = true;
        }
        holds
    }
}

/// Variables in the making.
struct Values<'a> {
    trigger: &'a Trigger,
    found: Vec<(Box<str>, String)>,
    name: String, // Kept for its memory.
}

impl Values<'_> {
    fn nobody_asks(&self) -> bool {
        self.trigger.wanted.is_empty()
    }

    /// Keeps a variable that somebody names. Of two values for one name the later stays, as in Tyk.
    fn put(&mut self, name: &str, index: Option<usize>, group: Option<usize>, value: &[u8]) {
        self.name.clear();
        let number = self.trigger.number;
        let _ = write!(self.name, "trigger-{number}-{name}"); // A String takes everything.
        for part in [index, group].into_iter().flatten() {
            let _ = write!(self.name, "-{part}");
        }
        let mut wanted = self.trigger.wanted.iter();
        if !wanted.any(|wanted| **wanted == *self.name) {
            return;
        }
        let value = String::from_utf8_lossy(value).into_owned();
        match self.found.iter_mut().find(|(name, _)| **name == *self.name) {
            Some((_, earlier)) => *earlier = value,
            None => self.found.push((self.name.as_str().into(), value)),
        }
    }
}

/// A header's name as Go writes it.
fn in_capitals(name: &str) -> String {
    let mut before = '-';
    let capitals = name.chars().map(|c| {
        let is_first = std::mem::replace(&mut before, c) == '-';
        if is_first { c.to_ascii_uppercase() } else { c }
    });
    capitals.collect()
}
