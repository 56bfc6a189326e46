//! What a URL is rewritten to: a text with groups and variables, and what kind of URL comes of it.

use std::{fmt::Write as _, sync::Arc};

use bytes::Bytes;
use http::{
    Method, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use percent_encoding::percent_decode_str;

use super::{
    Destination, Facts, Internal, LoopSettings, RewriteFailed, RewriteFault, Secrets,
    source::Groups, trigger::TriggerValues,
};
use crate::{
    access::RequestPath,
    variables::{Context, ValueStyle, Variable, write_query_escaped, write_value},
};

/// The largest `loop_limit`.
pub const MOST_LOOPS: u8 = 100;

/// A target, parsed.
#[derive(Clone)]
pub(super) struct Target {
    kind: Kind,
    parts: Box<[Part]>, // Behind the host, or behind the name of the API.
}

#[derive(Clone)]
enum Kind {
    /// Of the same host.
    Path,
    /// Of a host that is known.
    Host(Scheme, Authority),
    /// Of a host that metadata tells.
    HostByMeta(Scheme, Box<[Part]>),
    /// Whatever URL is in metadata.
    Meta(Box<str>),
    /// Of an API of the same gateway.
    Internal(Arc<str>, Arc<LoopSettings>),
    /// Of a scheme that nobody serves here.
    Unserved,
}

/// What is known of a target beforehand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum TargetKind<'a> {
    /// It stays with the host of the request.
    Path,
    /// It goes to this host.
    Host(&'a Scheme, &'a Authority),
    /// It goes to a host that metadata tells.
    HostByMeta,
    /// It goes to this API of the gateway.
    Internal(&'a str),
    /// It goes nowhere: its scheme is not served.
    Unserved,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Literal(Box<str>),
    Group(usize),
    Meta(Box<str>),
    Context(Box<str>),
}

impl Part {
    fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            _ => None,
        }
    }

    fn is_of_request(&self) -> bool {
        matches!(self, Self::Group(_) | Self::Context(_))
    }
}

impl Target {
    pub(super) fn parse(text: &str, secrets: Secrets<'_>) -> Result<Self, RewriteFault> {
        let parts = parts(text, secrets)?;
        if let [Part::Meta(name)] = &*parts {
            let kind = Kind::Meta(name.clone());
            let parts = parts.into();
            return Ok(Self { kind, parts });
        }
        let first = parts.first().and_then(Part::literal).unwrap_or_default();
        let target = match scheme(first) {
            Some(("http" | "https" | "ws" | "wss" | "h2c", rest)) if rest.starts_with("//") => {
                Self::with_host(text, parts)?
            }
            Some(("tyk", rest)) if rest.starts_with("//") => Self::internal(text, parts)?,
            Some((_, rest)) if rest.starts_with("//") => Self {
                kind: Kind::Unserved,
                parts: parts.into(),
            },
            Some(_) => return Err(RewriteFault::OnlyAScheme(text.to_owned())),
            // A host without a scheme is passed over, as in Tyk.
            None if first.starts_with("//") => {
                let (_, rest) = split_host(text, parts, "//".len())?;
                Self {
                    kind: Kind::Path,
                    parts: rest.into(),
                }
            }
            None => Self {
                kind: Kind::Path,
                parts: parts.into(),
            },
        };
        target.check_text(text)?;
        Ok(target)
    }

    fn with_host(text: &str, parts: Vec<Part>) -> Result<Self, RewriteFault> {
        let not_a_url = || RewriteFault::NotAUrl(text.to_owned());
        let first = parts.first().and_then(Part::literal).unwrap_or_default();
        let (name, _) = first.split_once("://").ok_or_else(not_a_url)?;
        let scheme = Scheme::try_from(name.to_ascii_lowercase().as_str());
        let scheme = scheme.map_err(|_| not_a_url())?;
        let before_host = name.len() + "://".len();
        let (host, rest) = split_host(text, parts, before_host)?;
        let kind = match &*host {
            [] => return Err(not_a_url()),
            [Part::Literal(host)] => {
                let authority = authority(host).ok_or_else(not_a_url)?;
                Kind::Host(scheme, authority)
            }
            _ => Kind::HostByMeta(scheme, host.into()),
        };
        let parts = rest.into();
        Ok(Self { kind, parts })
    }

    fn internal(text: &str, parts: Vec<Part>) -> Result<Self, RewriteFault> {
        let (name, rest) = split_host(text, parts, "tyk://".len())?;
        let name = match &*name {
            [] => Arc::default(), // As in Tyk, that of no API.
            [Part::Literal(name)] => Arc::from(&**name),
            _ => return Err(RewriteFault::NameNotText(text.to_owned())),
        };
        let (rest, settings) = take_settings(rest)?;
        Ok(Self {
            kind: Kind::Internal(name, Arc::new(settings)),
            parts: rest.into(),
        })
    }

    /// Whether the text alone, where there is nothing else, makes a URL.
    fn check_text(&self, text: &str) -> Result<(), RewriteFault> {
        let literals = self.parts.iter().map(Part::literal);
        let Some(whole) = literals.collect::<Option<String>>() else {
            return Ok(());
        };
        let is_right = path_and_query(whole).is_some();
        is_right
            .then_some(())
            .ok_or_else(|| RewriteFault::NotAUrl(text.to_owned()))
    }

    pub(super) fn has_groups(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Group(_)))
    }

    pub(super) fn kind(&self) -> TargetKind<'_> {
        match &self.kind {
            Kind::Path => TargetKind::Path,
            Kind::Host(scheme, host) => TargetKind::Host(scheme, host),
            Kind::HostByMeta(..) | Kind::Meta(_) => TargetKind::HostByMeta,
            Kind::Internal(api, _) => TargetKind::Internal(api),
            Kind::Unserved => TargetKind::Unserved,
        }
    }

    pub(super) fn context_names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Context(name) => Some(&**name),
            _ => None,
        })
    }

    /// The URL.
    pub(super) fn fill(
        &self,
        groups: &Groups<'_>,
        facts: &Facts<'_>,
        variables: &TriggerValues,
        style: ValueStyle,
    ) -> Result<Destination, RewriteFailed> {
        let filler = Filler {
            groups,
            facts,
            variables,
            style,
        };
        let failed = || {
            let is_of_request = self.parts.iter().any(Part::is_of_request);
            if is_of_request {
                RewriteFailed::ByRequest
            } else {
                RewriteFailed::ByTarget
            }
        };
        let of_host = |scheme: &Scheme, host: Authority| {
            let path = self.behind_host(&filler).ok_or_else(failed)?;
            let url = Uri::builder().scheme(scheme.clone()).authority(host);
            let url = url.path_and_query(path).build();
            url.map(Destination::Url).map_err(|_| failed())
        };
        match &self.kind {
            Kind::Path => {
                let path = self.path_and_query(filler.text(&self.parts));
                path.map(Destination::Path).ok_or_else(failed)
            }
            Kind::Host(scheme, host) => of_host(scheme, host.clone()),
            Kind::HostByMeta(scheme, host) => {
                let host = authority(&filler.text(host)).ok_or(RewriteFailed::ByTarget)?;
                of_host(scheme, host)
            }
            Kind::Meta(name) => filler.url_in_meta(name, &self.parts),
            Kind::Internal(api, settings) => {
                let path = self.behind_host(&filler).ok_or_else(failed)?;
                Ok(Destination::Internal(Internal {
                    api: api.clone(),
                    path,
                    settings: settings.clone(),
                }))
            }
            Kind::Unserved => Err(RewriteFailed::ByTarget),
        }
    }

    /// Path and query behind a host, which they must not make longer.
    fn behind_host(&self, filler: &Filler<'_>) -> Option<PathAndQuery> {
        let text = filler.text(&self.parts);
        let is_apart = text.is_empty() || text.starts_with(['/', '?', '#']);
        is_apart.then(|| self.path_and_query(text))?
    }

    /// Path and query of the filled text. What groups matched may be a client's query, which nobody has
    /// looked at: where there are groups, an encoded slash hides no dots either.
    fn path_and_query(&self, text: String) -> Option<PathAndQuery> {
        let made = path_and_query(text)?;
        let hides = self.has_groups() && made.path().contains('%') && {
            let decoded = percent_decode_str(made.path()).decode_utf8_lossy();
            decoded
                .split('/')
                .any(|segment| matches!(segment, "." | ".."))
        };
        (!hides).then_some(made)
    }
}

/// The parts of a text. Secrets become part of it; what they hold is not looked at.
fn parts(text: &str, secrets: Secrets<'_>) -> Result<Vec<Part>, RewriteFault> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
        let (part, length) = if digits > 0 {
            // A number that is too large is that of no group.
            let group = rest[1..=digits].parse().unwrap_or(usize::MAX);
            (Part::Group(group), 1 + digits)
        } else {
            match Variable::at_start_of(rest) {
                Some((Variable::Meta(name), length)) => (Part::Meta(name.into()), length),
                Some((Variable::Context(name), length)) => (Part::Context(name.into()), length),
                Some((Variable::Secret(name), length)) => {
                    literal.push_str(&secrets(name)?);
                    rest = &rest[length..];
                    continue;
                }
                None => {
                    literal.push('$');
                    rest = &rest[1..];
                    continue;
                }
            }
        };
        rest = &rest[length..];
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal).into()));
        }
        parts.push(part);
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    Ok(parts)
}

/// What a text begins with as a scheme, in small letters, and what is behind its colon.
fn scheme(text: &str) -> Option<(&'static str, &str)> {
    const KNOWN: [&str; 6] = ["http", "https", "ws", "wss", "h2c", "tyk"];
    let (name, rest) = text.split_once(':')?;
    let mut letters = name.bytes();
    let is_scheme = letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name));
    is_scheme.then_some((known.copied().unwrap_or_default(), rest))
}

/// The host that begins at `from` of the first literal, and what is behind it.
fn split_host(
    text: &str,
    parts: Vec<Part>,
    from: usize,
) -> Result<(Vec<Part>, Vec<Part>), RewriteFault> {
    let mut host = Vec::new();
    let mut rest = Vec::new();
    let mut is_over = false;
    for (index, part) in parts.into_iter().enumerate() {
        match part {
            _ if is_over => rest.push(part),
            Part::Literal(all) => {
                let all = if index == 0 { &all[from..] } else { &*all };
                let end = all.find(['/', '?']).unwrap_or(all.len());
                let (of_host, behind) = all.split_at(end);
                is_over = !behind.is_empty();
                let pieces = [(&mut host, of_host), (&mut rest, behind)];
                for (list, piece) in pieces.into_iter().filter(|(_, piece)| !piece.is_empty()) {
                    list.push(Part::Literal(piece.into()));
                }
            }
            Part::Meta(_) => host.push(part),
            // As in `http://host$1`: what is matched has to begin with a slash then.
            Part::Group(_) if matches!(host.last(), Some(Part::Literal(_))) => {
                is_over = true;
                rest.push(part);
            }
            Part::Group(_) | Part::Context(_) => {
                return Err(RewriteFault::HostFromRequest(text.to_owned()));
            }
        }
    }
    Ok((host, rest))
}

/// A host and its port, and nothing else.
fn authority(text: &str) -> Option<Authority> {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let authority = Authority::try_from(text).ok()?;
    (text.bytes().all(is_host) && !authority.host().is_empty()).then_some(authority)
}

/// Takes the parameters out that set how a loop goes on.
fn take_settings(parts: Vec<Part>) -> Result<(Vec<Part>, LoopSettings), RewriteFault> {
    let mut settings = LoopSettings::default();
    let (path, query) = split_query(parts);
    let Some(query) = query else {
        return Ok((path, settings));
    };
    let mut kept = Vec::new();
    for parameter in split_parameters(query) {
        let first = parameter
            .first()
            .and_then(Part::literal)
            .unwrap_or_default();
        let (name, value) = first.split_once('=').unwrap_or((first, ""));
        let name = ["method", "loop_limit", "check_limits"]
            .into_iter()
            .find(|known| *known == name);
        match name {
            None => kept.push(parameter),
            Some(name) if parameter.len() > 1 => return Err(RewriteFault::SettingNotText(name)),
            Some("method") if value.is_empty() => {}
            Some("method") => {
                let method = Method::from_bytes(value.as_bytes());
                let wrong = |_| RewriteFault::Method(value.to_owned());
                settings.method = Some(method.map_err(wrong)?);
            }
            Some("loop_limit") => settings.limit = loop_limit(value)?,
            Some(_) => settings.check_limits = value == "true",
        }
    }
    let mut all = path;
    for (index, parameter) in kept.into_iter().enumerate() {
        let mark = if index == 0 { "?" } else { "&" };
        all.push(Part::Literal(mark.into()));
        all.extend(parameter);
    }
    Ok((all, settings))
}

/// A limit that is none, or no number, is the usual one.
fn loop_limit(value: &str) -> Result<Option<u8>, RewriteFault> {
    match value.parse::<i64>() {
        Ok(limit) if limit > i64::from(MOST_LOOPS) => Err(RewriteFault::TooManyLoops),
        Ok(limit) => Ok(u8::try_from(limit).ok().filter(|limit| *limit > 0)),
        Err(_) => Ok(None),
    }
}

/// What is before the first question mark of the text, and what is behind it.
fn split_query(parts: Vec<Part>) -> (Vec<Part>, Option<Vec<Part>>) {
    let mut path = Vec::new();
    let mut query: Option<Vec<Part>> = None;
    for part in parts {
        match (&mut query, part) {
            (Some(query), part) => query.push(part),
            (None, Part::Literal(text)) => match text.split_once('?') {
                None => path.push(Part::Literal(text)),
                Some((before, behind)) => {
                    path.push(Part::Literal(before.into()));
                    query = Some(vec![Part::Literal(behind.into())]);
                }
            },
            (None, part) => path.push(part),
        }
    }
    (path, query)
}

/// The parameters of a query, those that are empty left out.
fn split_parameters(query: Vec<Part>) -> Vec<Vec<Part>> {
    let mut all = vec![Vec::new()];
    for part in query {
        let Part::Literal(text) = part else {
            all.last_mut().expect("there is one").push(part);
            continue;
        };
        for (index, piece) in text.split('&').enumerate() {
            if index > 0 {
                all.push(Vec::new());
            }
            if !piece.is_empty() {
                let last = all.last_mut().expect("there is one");
                last.push(Part::Literal(piece.into()));
            }
        }
    }
    all.retain(|parameter| !parameter.is_empty());
    all
}

/// What a target is filled with.
struct Filler<'a> {
    groups: &'a Groups<'a>,
    facts: &'a Facts<'a>,
    variables: &'a TriggerValues,
    style: ValueStyle,
}

impl Filler<'_> {
    fn text(&self, parts: &[Part]) -> String {
        let mut out = String::with_capacity(64);
        let mut value = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Group(group) => out.push_str(self.groups.get(*group)),
                Part::Meta(name) => {
                    self.write_meta(name, &mut value);
                    self.escape(&value, &mut out);
                }
                Part::Context(name) => {
                    if name.starts_with("trigger-") {
                        self.variables.write(name, &mut value);
                    } else {
                        self.facts.context.write(name, &mut value);
                    }
                    self.escape(&value, &mut out);
                }
            }
            value.clear();
        }
        out
    }

    fn write_meta(&self, name: &str, out: &mut String) {
        if let Some(value) = self.facts.meta.and_then(|meta| meta.get(name)) {
            write_value(value, self.style, out);
        }
    }

    /// Escapes a value for the place at the end of `out`.
    fn escape(&self, value: &str, out: &mut String) {
        if self.style == ValueStyle::Tyk || out.contains('?') {
            write_query_escaped(value, out);
        } else {
            write_segment_escaped(value, out);
        }
    }

    /// A whole URL from metadata; what is none is a path.
    fn url_in_meta(&self, name: &str, parts: &[Part]) -> Result<Destination, RewriteFailed> {
        let mut value = String::new();
        self.write_meta(name, &mut value);
        let failed = RewriteFailed::ByTarget;
        let Some(("http" | "https" | "ws" | "wss" | "h2c", _)) = scheme(&value) else {
            let path = path_and_query(self.text(parts)).ok_or(failed)?;
            return Ok(Destination::Path(path));
        };
        let (scheme, rest) = value.split_once("://").ok_or(failed)?;
        let scheme = Scheme::try_from(scheme.to_ascii_lowercase().as_str());
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let url = Uri::builder()
            .scheme(scheme.map_err(|_| failed)?)
            .authority(authority(&rest[..end]).ok_or(failed)?)
            .path_and_query(path_and_query(rest[end..].to_owned()).ok_or(failed)?);
        url.build().map(Destination::Url).map_err(|_| failed)
    }
}

/// Escapes a value that stands in a path.
fn write_segment_escaped(value: &str, out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // A String takes everything.
        }
    }
}

/// Path and query of a text, spelled as Go spells them; `None` where the path can be read in two ways.
fn path_and_query(text: String) -> Option<PathAndQuery> {
    let is_spelled = text.starts_with('/') && {
        let (path, query) = text.split_once('?').unwrap_or((&text, ""));
        path.bytes().all(stays_of(path)) && query.bytes().all(stays_in_query)
    };
    let spelled = if is_spelled { text } else { spelled(&text) };
    let path = spelled.split('?').next().unwrap_or_default();
    RequestPath::of_rewritten(path, None).ok()?;
    PathAndQuery::from_maybe_shared(Bytes::from(spelled)).ok()
}

/// A text that is not spelled so, without its fragment.
fn spelled(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let mut out = String::with_capacity(text.len() + 16);
    if !path.starts_with('/') {
        out.push('/');
    }
    write_spelled(path, stays_of(path), &mut out);
    if let Some(query) = query {
        out.push('?');
        write_spelled(query, stays_in_query, &mut out);
    }
    out
}

/// What stands in a path as it is: more, where it has escapes.
fn stays_of(path: &str) -> fn(u8) -> bool {
    if path.contains('%') {
        stays_kept
    } else {
        stays
    }
}

fn write_spelled(text: &str, stays: fn(u8) -> bool, out: &mut String) {
    if text.bytes().all(stays) {
        return out.push_str(text);
    }
    for byte in text.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // A String takes everything.
        }
    }
}

/// What Go writes as it is where it spells a path itself.
fn stays(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~$&+,/:;=@".contains(&byte)
}

/// What Go lets stand in a path that has escapes.
fn stays_kept(byte: u8) -> bool {
    stays(byte) || b"%!'()*[]".contains(&byte)
}

fn stays_in_query(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"#<>".contains(&byte)
}
