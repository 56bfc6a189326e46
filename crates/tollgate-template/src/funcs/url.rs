//! URLs, as Go's `net/url` takes them apart and puts them together.

use std::{collections::BTreeMap, net::Ipv6Addr};

use super::{Answer, Function, Parameter, Str, map_of, nil_pointer, of, str_of};
use crate::{
    error::Fault,
    render::Render,
    value::{Map, MapKind, Value},
};

pub(super) const ALL: &[Function] = &[
    of("urlParse", &[Str], parse),
    of("urlJoin", &[Parameter::Map], join),
    of("getHostByName", &[Str], host).costly(),
];

/// The parts of a URL; the path and the like are decoded.
#[derive(Debug, Default, PartialEq)]
struct Url {
    scheme: String,
    opaque: String,
    user: Option<(String, Option<String>)>,
    host: String,
    path: Vec<u8>,
    query: String,
    fragment: Vec<u8>,
}

impl Url {
    fn parse(text: &str) -> Option<Self> {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return None;
        }
        let mut url = Self {
            fragment: decoded(fragment)?,
            ..Self::default()
        };
        if text == "*" {
            url.path = b"*".into();
            return Some(url);
        }
        let (scheme, rest) = scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        url.query = query.into();
        if !rest.starts_with('/') {
            if !scheme.is_empty() {
                url.opaque = rest.into();
                return Some(url);
            }
            if rest
                .split('/')
                .next()
                .is_some_and(|first| first.contains(':'))
            {
                return None;
            }
        }
        let mut path = rest;
        if rest.starts_with("//") && (!scheme.is_empty() || !rest.starts_with("///")) {
            let authority = &rest[2..];
            let end = authority.find('/').unwrap_or(authority.len());
            path = &authority[end..];
            url.authority(&authority[..end])?;
        }
        url.path = decoded(path)?;
        Some(url)
    }

    fn authority(&mut self, authority: &str) -> Option<()> {
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        self.host = checked_host(&self.scheme, host)?;
        let Some(user) = user else {
            return Some(());
        };
        let is_allowed =
            |char: char| char.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(char);
        if !user.chars().all(is_allowed) {
            return None;
        }
        let text = |part: &str| String::from_utf8(decoded(part)?).ok();
        self.user = Some(match user.split_once(':') {
            Some((name, password)) => (text(name)?, Some(text(password)?)),
            None => (text(user)?, None),
        });
        Some(())
    }

    fn user_text(&self) -> String {
        let encode = |text: &str| encoded(text.as_bytes(), b"-_.~$&+,;=");
        match &self.user {
            None => String::new(),
            Some((name, None)) => encode(name),
            Some((name, Some(password))) => format!("{}:{}", encode(name), encode(password)),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.scheme.is_empty() {
            text = format!("{}:", self.scheme);
        }
        if self.opaque.is_empty() {
            let has_user = self.user.is_some();
            if !self.host.is_empty()
                || has_user
                || (!self.scheme.is_empty() && !self.path.is_empty())
            {
                text.push_str("//");
            }
            if has_user {
                text.push_str(&self.user_text());
                text.push('@');
            }
            text.push_str(&encoded(self.host.as_bytes(), b"-_.~!$&'()*+,;=:[]<>\""));
            let path = match &*self.path {
                b"*" => "*".into(),
                path => encoded(path, b"-_.~$&+,/:;=@"),
            };
            if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
                text.push('/');
            }
            if text.is_empty()
                && path
                    .split('/')
                    .next()
                    .is_some_and(|first| first.contains(':'))
            {
                text.push_str("./");
            }
            text.push_str(&path);
        } else {
            text.push_str(&self.opaque);
        }
        if !self.query.is_empty() {
            text.push('?');
            text.push_str(&self.query);
        }
        if !self.fragment.is_empty() {
            text.push('#');
            text.push_str(&encoded(&self.fragment, b"-_.~$&+,/:;=?@!()*'"));
        }
        text
    }

    fn hostname(&self) -> &str {
        match self.host.strip_prefix('[') {
            Some(inner) => inner.split(']').next().unwrap_or(inner),
            None => self
                .host
                .rsplit_once(':')
                .map_or(&*self.host, |(name, _)| name),
        }
    }
}

fn scheme(text: &str) -> Option<(&str, &str)> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return None,
            b':' => return Some((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Some(("", text))
}

/// A host and its port, decoded; none where it is neither.
fn checked_host(scheme: &str, host: &str) -> Option<String> {
    let is_port = |text: &str| {
        let digits = text.strip_prefix(':');
        text.is_empty()
            || digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if let Some(open) = host.rfind('[') {
        let close = host.rfind(']').filter(|_| open == 0)?;
        let (name, port) = (&host[1..close], &host[close + 1..]);
        let address = name.split("%25").next()?;
        address.parse::<Ipv6Addr>().ok()?;
        return is_port(port).then(|| host.replace("%25", "%"));
    }
    if let Some(first) = host.find(':') {
        let last = host.rfind(':')?;
        let is_http = matches!(scheme, "http" | "https");
        let start = if is_http { first } else { last };
        if !is_port(&host[start..]) {
            return None;
        }
    }
    let is_allowed = |byte: u8| {
        byte.is_ascii_alphanumeric() || byte >= 0x80 || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&byte)
    };
    if !host.bytes().all(is_allowed) {
        return None;
    }
    // In a host only bytes that are no ASCII may be escaped.
    let decoded = decoded(host)?;
    let escapes_ascii = host.contains('%')
        && decoded.iter().filter(|byte| byte.is_ascii()).count()
            != host.bytes().filter(u8::is_ascii).count() - 3 * host.matches('%').count();
    if escapes_ascii {
        return None;
    }
    String::from_utf8(decoded).ok()
}

/// Decodes `%XX`; none where an escape is broken.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        out.push(u8::try_from(value).ok()?);
    }
    Some(out)
}

fn encoded(text: &[u8], kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        if byte.is_ascii_alphanumeric() || kept.contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn parse<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let text = str_of(given[0]);
    let url = Url::parse(&text).ok_or_else(|| Fault::new("unable to parse url"))?;
    let user = url.user_text();
    let parts: [(&'static [u8], &[u8]); 8] = [
        (b"scheme", url.scheme.as_bytes()),
        (b"host", url.host.as_bytes()),
        (b"hostname", url.hostname().as_bytes()),
        (b"path", &url.path),
        (b"query", url.query.as_bytes()),
        (b"opaque", url.opaque.as_bytes()),
        (b"fragment", &url.fragment),
        (b"userinfo", user.as_bytes()),
    ];
    let mut entries: BTreeMap<&'r [u8], Value<'r>> = BTreeMap::new();
    for (name, value) in parts {
        entries.insert(name, render.heap.str(value)?);
    }
    Ok(Value::Map(Map::Own(
        render.heap.map(MapKind::Any, entries)?,
    )))
}

fn join<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let map = map_of(given[0]);
    let part = |name: &str| {
        let found = map.and_then(|map| render.heap.get(map, name.as_bytes()));
        match found {
            None => Ok(String::new()),
            Some(value @ Value::Str(_)) => Ok(str_of(value).into_owned()),
            Some(value) if value.is_nil() => Err(nil_pointer()),
            Some(value) => {
                let kind = value.kind_name();
                let message = format!("{name} must be of type string, but {kind} found");
                Err(Fault::new(message))
            }
        }
    };
    let user = part("userinfo")?;
    let user = if user.is_empty() {
        None
    } else {
        let url = Url::parse(&format!("proto://{user}@host"));
        url.ok_or_else(|| Fault::new("unable to parse userinfo in dict"))?
            .user
    };
    let url = Url {
        scheme: part("scheme")?,
        opaque: part("opaque")?,
        user,
        host: part("host")?,
        path: part("path")?.into_bytes(),
        query: part("query")?,
        fragment: part("fragment")?.into_bytes(),
    };
    render.heap.str(url.text())
}

/// Asks the system for an address. This waits.
fn host<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    use std::net::ToSocketAddrs;
    let name = str_of(given[0]);
    let found = (&*name, 0)
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next());
    let found = found.ok_or_else(|| Fault::new("the host has no address"))?;
    render.heap.str(found.ip().to_string())
}
