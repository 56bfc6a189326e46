//! The lists of paths of a version, compiled: open, closed, answered by the gateway.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use tollgate::access::PathOptions;

use crate::{
    definition::{ListEntry, MethodAction, Version},
    edge::{
        content_type,
        lists::{Action, Lists, Reply, Says},
    },
};

pub(super) fn lists(version: &Version, options: PathOptions) -> Result<Lists, (String, String)> {
    let mut lists = Lists::default();
    if !version.use_extended_paths {
        let of_text = [
            ("paths.ignored", &version.paths.ignored, Says::Ignored),
            ("paths.black_list", &version.paths.black_list, Says::Blocked),
            ("paths.white_list", &version.paths.white_list, Says::Allowed),
        ];
        for (member, paths, says) in of_text {
            for path in paths {
                lists
                    .add((path, ""), options, BTreeMap::new(), says.clone())
                    .map_err(|err| (member.to_owned(), err.to_string()))?;
            }
        }
        return Ok(lists);
    }
    let paths = &version.extended_paths;
    for entry in paths.mock_response.iter().filter(|entry| !entry.disabled) {
        let reply = reply(entry.code, &entry.headers, &entry.body);
        let says = reply.map(|reply| Says::Reply(Arc::new(reply)));
        let options = PathOptions {
            ignore_case: options.ignore_case || entry.ignore_case,
            ..options
        };
        says.and_then(|says| {
            let added = lists.add((&entry.path, &entry.method), options, BTreeMap::new(), says);
            added.map_err(|err| err.to_string())
        })
        .map_err(|message| ("extended_paths.mock_response".to_owned(), message))?;
    }
    let of_entries = [
        ("ignored", &paths.ignored, Says::Ignored),
        ("black_list", &paths.black_list, Says::Blocked),
        ("white_list", &paths.white_list, Says::Allowed),
    ];
    for (member, entries, says) in of_entries {
        for entry in entries.iter().filter(|entry| !entry.disabled) {
            add_entry(&mut lists, entry, options, &says)
                .map_err(|message| (format!("extended_paths.{member}"), message))?;
        }
    }
    for entry in paths.internal.iter().filter(|entry| !entry.disabled) {
        lists
            .add(
                (&entry.path, &entry.method),
                options,
                BTreeMap::new(),
                Says::Internal,
            )
            .map_err(|err| ("extended_paths.internal".to_owned(), err.to_string()))?;
    }
    Ok(lists)
}

fn add_entry(
    lists: &mut Lists,
    entry: &ListEntry,
    options: PathOptions,
    says: &Says,
) -> Result<(), String> {
    let action = |(method, action): (&String, &MethodAction)| {
        let action = match action.action.as_str() {
            "no_action" => Action::AsListed,
            "reply" => Action::Reply(Arc::new(reply(action.code, &action.headers, &action.data)?)),
            _ => Action::Forbidden,
        };
        Ok((method.clone(), action))
    };
    let by_method = if entry.method.is_empty() {
        entry
            .method_actions
            .iter()
            .map(action)
            .collect::<Result<_, String>>()?
    } else {
        BTreeMap::new()
    };
    let options = PathOptions {
        ignore_case: options.ignore_case || entry.ignore_case,
        ..options
    };
    lists
        .add(
            (&entry.path, &entry.method),
            options,
            by_method,
            says.clone(),
        )
        .map_err(|err| err.to_string())
}

fn reply(code: i64, headers: &BTreeMap<String, String>, body: &str) -> Result<Reply, String> {
    let code = if code == 0 { 200 } else { code };
    let status = u16::try_from(code)
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok());
    let mut fields = HeaderMap::new();
    if !body.is_empty() && code != 204 && code != 304 {
        let kind = HeaderValue::from_static(content_type::of(body.as_bytes()));
        fields.insert(CONTENT_TYPE, kind); // Where nothing is said.
    }
    for (name, value) in headers {
        let wrong = || format!("the header `{name}` can not be sent");
        let value = HeaderValue::try_from(value).map_err(|_| wrong())?;
        fields.insert(HeaderName::try_from(name).map_err(|_| wrong())?, value);
    }
    Ok(Reply {
        status: status.ok_or_else(|| format!("{code} is no status"))?,
        headers: fields,
        body: Bytes::from(body.to_owned()),
    })
}
