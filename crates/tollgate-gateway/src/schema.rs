//! JSON schemas of the files, for editors and for who writes them.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use crate::{config::Config, definition::Definition};

/// The schema of the configuration.
pub fn config() -> Value {
    schema::<Config>()
}

/// The schema of an API definition.
pub fn definition() -> Value {
    schema::<Definition>()
}

fn schema<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<T>().into()
}
