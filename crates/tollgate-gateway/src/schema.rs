//! JSON schemas of the files, for editors and for who writes them.

use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform},
};
use serde_json::{Value, json};
use tollgate_core::{Session, policy::Policy};

use crate::{config::Config, definition::Definition};

/// The name of a schema, and what makes it.
pub type Named = (&'static str, fn() -> Value);

/// Every schema that there is.
pub const ALL: [Named; 4] = [
    ("config", config),
    ("definition", definition),
    ("policy", policy),
    ("session", session),
];

/// The schema of the configuration.
pub fn config() -> Value {
    schema::<Config>().into()
}

/// The schema of an API definition.
pub fn definition() -> Value {
    schema::<Definition>().into()
}

/// The schema of a policy, as it stands in a file of its own.
pub fn policy() -> Value {
    record::<Policy>()
}

/// The schema of a session object.
pub fn session() -> Value {
    record::<Session>()
}

fn schema<T: JsonSchema>() -> Schema {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<T>()
}

/// A record of Tyk: every member may be left out, or be `null`.
fn record<T: JsonSchema>() -> Value {
    let mut schema = schema::<T>();
    RecursiveTransform(|schema: &mut Schema| {
        schema.remove("required");
        let members = schema.get_mut("properties").and_then(Value::as_object_mut);
        members
            .into_iter()
            .flatten()
            .for_each(|(_, member)| allow_null(member));
    })
    .transform(&mut schema);
    schema.into()
}

fn allow_null(member: &mut Value) {
    let Some(schema) = member.as_object_mut() else {
        return; // Anything is allowed.
    };
    if let Some(kind) = schema.get_mut("type") {
        if kind.is_string() {
            *kind = json!([kind.take(), "null"]);
        }
    } else if let Some(reference) = schema.remove("$ref") {
        schema.insert(
            "anyOf".to_owned(),
            json!([{"$ref": reference}, {"type": "null"}]),
        );
    }
}
