//! `tollgate key list`: pages of keys that filters let through.

use anyhow::Context;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{connection::Connection, output, time};

/// Which keys. All that are given must hold.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct Filters {
    /// Keys of this alias; `ann*` is what aliases begin with.
    #[arg(long)]
    alias: Option<String>,
    /// Keys that name this policy.
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
    /// Keys of this organisation.
    #[arg(long)]
    org: Option<String>,
    /// Keys with this in their metadata, as `user=ann`.
    #[arg(long, value_name = "NAME=VALUE")]
    meta: Vec<String>,
    /// Keys that end before this: a length from now as `30d`, RFC 3339, or Unix seconds.
    #[arg(long, value_name = "TIME")]
    expires_before: Option<String>,
    /// Keys that end after this; those that never end are left out.
    #[arg(long, value_name = "TIME")]
    expires_after: Option<String>,
    /// What the names begin with.
    #[arg(long)]
    prefix: Option<String>,
}

impl Filters {
    /// They as a query, with what else is asked.
    pub(super) fn query(&self, more: &[(&str, &str)]) -> anyhow::Result<String> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let given = [
            ("alias", self.alias.clone()),
            ("policy", self.policy.clone()),
            ("org_id", self.org.clone()),
            ("prefix", self.prefix.clone()),
            ("expires_before", self.expires_before.as_deref().map(moment)),
            ("expires_after", self.expires_after.as_deref().map(moment)),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        for pair in &self.meta {
            let pair = pair.split_once('=');
            let (name, value) = pair.context("--meta: expected NAME=VALUE")?;
            query.append_pair(&format!("meta.{name}"), value);
        }
        query.extend_pairs(more);
        Ok(query.finish())
    }
}

/// A length from now as the time it leads to; anything else as it is.
fn moment(text: &str) -> String {
    let is_length = text.parse::<i64>().is_err();
    let length = time::seconds(text).ok().filter(|_| is_length);
    let after = length.and_then(|seconds| i64::try_from(seconds).ok());
    let after = after.and_then(|seconds| Timestamp::now().as_second().checked_add(seconds));
    after.map_or_else(|| text.to_owned(), |time| time.to_string())
}

/// What `list` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filters: Filters,
    /// How many at most.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Goes on where a list ended.
    #[arg(long)]
    cursor: Option<String>,
    /// Everything, in place of --limit.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Pages, one after the other.
pub(super) struct Pages<'a> {
    connection: &'a Connection,
    filters: &'a Filters,
    with_sessions: bool,
    cursor: Option<String>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    const LARGEST: usize = 500;
    const WITH_SESSIONS: usize = 100;

    pub(super) fn new(
        connection: &'a Connection,
        filters: &'a Filters,
        cursor: Option<String>,
        with_sessions: bool,
    ) -> Self {
        Self {
            connection,
            filters,
            with_sessions,
            cursor,
            is_over: false,
        }
    }

    /// The next page, with so many keys at most; it may have none. `None` behind the last one.
    pub(super) async fn next(&mut self, limit: usize) -> anyhow::Result<Option<Vec<Value>>> {
        if self.is_over {
            return Ok(None);
        }
        let most = if self.with_sessions {
            Self::WITH_SESSIONS
        } else {
            Self::LARGEST
        };
        let limit = limit.min(most).to_string();
        let mut more = vec![("limit", limit.as_str())];
        more.extend(self.cursor.as_deref().map(|cursor| ("cursor", cursor)));
        more.extend(self.with_sessions.then_some(("sessions", "true")));
        let path = format!("/tollgate/keys?{}", self.filters.query(&more)?);
        let mut page = self.connection.ask("GET", &path, None).await?.json()?;
        let cursor = page.get("cursor").and_then(Value::as_str);
        self.cursor = cursor.map(str::to_owned);
        self.is_over = self.cursor.is_none();
        match page.get_mut("keys").map(Value::take) {
            Some(Value::Array(keys)) => Ok(Some(keys)),
            _ => anyhow::bail!("the answer has no keys"),
        }
    }

    /// Where the next page begins.
    fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }
}

pub(super) async fn run(
    connection: &Connection,
    arguments: &Arguments,
    json: bool,
) -> anyhow::Result<i32> {
    let limit = if arguments.all {
        usize::MAX
    } else {
        arguments.limit
    };
    let cursor = arguments.cursor.clone();
    let mut pages = Pages::new(connection, &arguments.filters, cursor, false);
    let mut keys = Vec::new();
    while keys.len() < limit {
        match pages.next(limit - keys.len()).await? {
            Some(page) => keys.extend(page),
            None => break,
        }
    }
    if json {
        let mut list = json!({ "keys": keys });
        if let Some(cursor) = pages.cursor() {
            list["cursor"] = cursor.into();
        }
        output::json(&list)?;
        return Ok(0);
    }
    let rows: Vec<_> = keys.iter().map(row).collect();
    let head = ["KEY", "ALIAS", "ORG", "POLICIES", "EXPIRES", "STATE"];
    output::table(head, &rows)?;
    if let Some(cursor) = pages.cursor() {
        output::complain(&format!("there may be more: --cursor '{cursor}'"))?;
    }
    Ok(0)
}

fn row(key: &Value) -> [String; 6] {
    let text = |name| output::text(key, name).to_owned();
    let expires = key.get("expires").and_then(Value::as_u64);
    [
        text("key"),
        text("alias"),
        text("org_id"),
        texts(key, "policies"),
        time::written(expires),
        state(key).to_owned(),
    ]
}

/// A list of texts in one.
pub(super) fn texts(value: &Value, name: &str) -> String {
    let texts = value.get(name).and_then(Value::as_array);
    let texts = texts.into_iter().flatten().filter_map(Value::as_str);
    texts.collect::<Vec<_>>().join(", ")
}

/// Whether the key can be used, in a word.
pub(super) fn state(key: &Value) -> &'static str {
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let expires = key
        .get("expires")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let is_inactive = key.get("is_inactive").and_then(Value::as_bool);
    match (is_inactive, expires) {
        (Some(true), _) => "inactive",
        (_, 1..) if expires < now => "ended",
        _ => "active",
    }
}
