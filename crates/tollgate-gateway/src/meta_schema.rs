//! Schemas of metadata: what a key's `meta_data` has to be, as an API or a policy says it.
//!
//! `tollgate.meta_data_schema` of a definition or a policy is a JSON Schema, of draft 2020-12 where it names no
//! other. It is compared when a key is written, with the metadata that the key has with its policies; a key
//! that was written before is served as it is. Nothing is fetched from elsewhere.

use std::collections::HashMap;

use jsonschema::Validator;
use serde_json::Value;
use tollgate_core::{ApiId, OrgId, PolicyId, Session, meta::MetaData, policy::PolicySet};

use crate::definition::Definition;

/// How many faults are told.
const MOST_TOLD: usize = 16;

/// The member of a policy that holds what Tyk does not have.
const MEMBER: &str = "tollgate";

/// A schema, or why it can not be used.
#[derive(Debug)]
struct MetaSchema(Result<Validator, String>);

/// The schemas of a snapshot.
#[derive(Debug, Default)]
pub struct MetaSchemas {
    of_apis: HashMap<ApiId, MetaSchema>,
    of_policies: HashMap<(OrgId, PolicyId), MetaSchema>,
}

/// Compiles a schema.
///
/// # Errors
///
/// Fails with what is wrong with it.
pub fn compile(schema: &Value) -> Result<Validator, String> {
    let options = jsonschema::options().should_validate_formats(true);
    options.build(schema).map_err(|err| err.to_string())
}

/// The schema of a policy; `None` where it has none.
///
/// # Errors
///
/// Fails where the member is no object with a schema in it.
pub fn of_policy(policy: &tollgate_core::policy::Policy) -> Result<Option<Value>, String> {
    let Some(member) = policy.unknown.get(MEMBER) else {
        return Ok(None);
    };
    let own: Value = member.read().map_err(|err| err.to_string())?;
    match own {
        Value::Null => Ok(None),
        Value::Object(mut own) => Ok(own
            .remove("meta_data_schema")
            .filter(|schema| !schema.is_null())),
        _ => Err("expected an object".into()),
    }
}

impl MetaSchemas {
    /// Those of these definitions and policies.
    pub fn of<'a>(
        definitions: impl IntoIterator<Item = &'a Definition>,
        policies: &PolicySet,
    ) -> Self {
        let of_api = |definition: &Definition| {
            let schema = &definition.tollgate.meta_data_schema.0;
            let compiled = || MetaSchema(compile(schema));
            (!schema.is_null()).then(|| (definition.api_id.clone(), compiled()))
        };
        let of_policies = policies.iter().filter_map(|policy| {
            let schema = of_policy(policy).transpose()?;
            let compiled = MetaSchema(schema.and_then(|schema| compile(&schema)));
            Some(((policy.org_id.clone(), policy.id.clone()), compiled))
        });
        Self {
            of_apis: definitions.into_iter().filter_map(of_api).collect(),
            of_policies: of_policies.collect(),
        }
    }

    /// What is wrong with the metadata of a session, whose policies are applied: place, fault and whose
    /// schema it is.
    pub fn check(&self, session: &Session, policies: &PolicySet) -> Vec<String> {
        let of_apis = session.access_rights.keys().filter_map(|api| {
            let schema = self.of_apis.get(api)?;
            Some((format!("API {api}"), schema))
        });
        let of_policies = session.policies().iter().filter_map(|id| {
            let policy = policies.get(&session.org_id, id)?;
            let name = (policy.org_id.clone(), policy.id.clone());
            Some((format!("policy {id}"), self.of_policies.get(&name)?))
        });
        let mut faults = Vec::new();
        for (whose, schema) in of_apis.chain(of_policies) {
            faults.extend(schema.faults(&session.meta_data, &whose));
        }
        faults.truncate(MOST_TOLD);
        faults
    }
}

impl MetaSchema {
    fn faults(&self, meta: &MetaData, whose: &str) -> Vec<String> {
        let validator = match &self.0 {
            Ok(validator) => validator,
            Err(why) => return vec![format!("meta_data: the schema of {whose} is broken: {why}")],
        };
        let meta = match serde_json::to_value(meta) {
            Ok(meta) => meta,
            Err(err) => return vec![format!("meta_data: can not be read: {err}")],
        };
        let told = |fault: jsonschema::ValidationError<'_>| {
            // What a key holds may be about people, so that it is not told again.
            let place = fault.instance_path().as_str().replace('/', ".");
            format!("meta_data{place}: {} ({whose})", fault.masked())
        };
        let faults = validator.iter_errors(&meta);
        faults.take(MOST_TOLD).map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tollgate_core::policy::Policy;

    use super::*;

    fn schemas() -> (MetaSchemas, PolicySet) {
        let definition: Definition = serde_json::from_value(json!({
            "api_id": "orders",
            "tollgate": {"meta_data_schema": {"type": "object", "required": ["region"],
                "properties": {"region": {"enum": ["eu", "us"]}}}}}))
        .unwrap();
        let policy = |id: &str, own: Value| {
            let json = json!({"id": id, "org_id": "acme", "tollgate": own});
            Policy::from_json(json.to_string()).unwrap()
        };
        let level = json!({"properties": {"user": {"properties": {"level": {"type": "integer", "maximum": 5}}}}});
        let policies = [
            policy("gold", json!({"meta_data_schema": level})),
            policy("broken", json!({"meta_data_schema": {"type": "nothing"}})),
            policy("wrong", json!("x")),
            policy("plain", json!({})),
        ];
        let (policies, _) = PolicySet::from_policies(policies);
        (MetaSchemas::of([&definition], &policies), policies)
    }

    #[track_caller]
    fn check(session: Value, expected: &[&str]) {
        let (schemas, policies) = schemas();
        let session = Session::from_json(session.to_string()).unwrap();
        let faults = schemas.check(&session, &policies);
        assert_eq!(faults.len(), expected.len(), "{faults:?}");
        for (fault, start) in faults.iter().zip(expected) {
            assert!(fault.starts_with(start), "{fault}");
        }
    }

    #[test]
    fn faults_name_their_place_and_tell_no_value() {
        let key = |meta: Value, policies: Value| {
            json!({"org_id": "acme", "apply_policies": policies, "meta_data": meta,
                "access_rights": {"orders": {}}})
        };
        check(key(json!({"region": "eu"}), json!(["plain"])), &[]);
        check(key(json!({}), json!([])), &["meta_data: "]);
        check(
            key(json!({"region": "secret"}), json!([])),
            &["meta_data.region: value"],
        );
        check(
            key(
                json!({"region": "eu", "user": {"level": 7}}),
                json!(["gold"]),
            ),
            &["meta_data.user.level: value"],
        );
        check(
            key(json!({"region": "eu"}), json!(["broken"])),
            &["meta_data: the schema of policy broken"],
        );
        check(
            key(json!({"region": "eu"}), json!(["wrong"])),
            &["meta_data: the schema of policy wrong"],
        );
        check(json!({"org_id": "acme", "meta_data": {}}), &[]);
    }
}
