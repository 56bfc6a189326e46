//! How the lists of two policies become one. A union never takes away what one of them gives, save
//! GraphQL's `restricted_types`, whose union is as Tyk makes it.

use super::limits::deeper;
use crate::session::{
    AccessDefinition, AccessLists, AllowedUrl, FieldAccess, GraphQlType, McpAccess,
};

/// Takes the rights of a further policy: versions, paths, GraphQL, JSON-RPC and MCP.
pub(super) fn unite_rights(own: &mut AccessDefinition, more: &AccessDefinition) {
    unite_texts(&mut own.versions, &more.versions);
    unite_open(&mut own.allowed_urls, &more.allowed_urls, unite_urls);
    unite_types(&mut own.restricted_types, &more.restricted_types);
    unite_open(&mut own.allowed_types, &more.allowed_types, unite_types);
    unite_fields(&mut own.field_access_rights, &more.field_access_rights);
    own.disable_introspection |= more.disable_introspection;
    unite_access(
        &mut own.json_rpc_methods_access_rights,
        &more.json_rpc_methods_access_rights,
    );
    let McpAccess {
        tools,
        resources,
        prompts,
        ..
    } = &mut own.mcp_access_rights;
    unite_access(tools, &more.mcp_access_rights.tools);
    unite_access(resources, &more.mcp_access_rights.resources);
    unite_access(prompts, &more.mcp_access_rights.prompts);
}

/// Takes what is not there yet.
pub(super) fn unite_texts(own: &mut Vec<String>, more: &[String]) {
    for text in more {
        if !own.contains(text) {
            own.push(text.clone());
        }
    }
}

/// Unites lists of which an empty one stands for everything.
fn unite_open<T>(own: &mut Vec<T>, more: &[T], unite: impl FnOnce(&mut Vec<T>, &[T])) {
    if own.is_empty() || more.is_empty() {
        own.clear();
    } else {
        unite(own, more);
    }
}

fn unite_urls(own: &mut Vec<AllowedUrl>, more: &[AllowedUrl]) {
    for url in more {
        match own.iter_mut().find(|known| known.url == url.url) {
            Some(known) => unite_texts(&mut known.methods, &url.methods),
            None => own.push(url.clone()),
        }
    }
}

fn unite_types(own: &mut Vec<GraphQlType>, more: &[GraphQlType]) {
    for kind in more {
        match own.iter_mut().find(|known| known.name == kind.name) {
            Some(known) => unite_texts(&mut known.fields, &kind.fields),
            None => own.push(kind.clone()),
        }
    }
}

fn unite_fields(own: &mut Vec<FieldAccess>, more: &[FieldAccess]) {
    for field in more {
        let same = |known: &&mut FieldAccess| {
            known.type_name == field.type_name && known.field_name == field.field_name
        };
        match own.iter_mut().find(same) {
            Some(known) => {
                let depth = &mut known.limits.max_query_depth;
                *depth = deeper(*depth, field.limits.max_query_depth);
            }
            None => own.push(field.clone()),
        }
    }
}

/// A side that is not set adds nothing.
fn unite_access(own: &mut AccessLists, more: &AccessLists) {
    unite_texts(&mut own.allowed, &more.allowed);
    unite_texts(&mut own.blocked, &more.blocked);
}
