//! Bodies that must match a schema: `validate_json`.
//!
//! The body is read whole, up to a limit, and goes on byte for byte as it came. What is no JSON is refused
//! with 400, what does not match with the status of the entry (422), and what is too large with 413. The
//! messages are those of Go's `gojsonschema`, which Tyk uses.
//!
//! A schema without `$schema` is one of draft 7. Formats are checked. What is elsewhere (`$ref` to another
//! document) is not fetched, and refuses the schema where it is loaded.
//!
//! # Differences from Tyk
//!
//! An object with two members of one name is refused: what is checked and what the upstream reads of it
//! may be two things.

use std::fmt::Write as _;

use http::StatusCode;
use jsonschema::{
    Draft, Validator,
    error::{TypeKind, ValidationError, ValidationErrorKind as Kind},
};
use serde_json::Value;
use tollgate::Rejection;

use super::unique::Unique;

/// How much of a body is read where the configuration sets no limit, in bytes.
pub const MOST: usize = 8 << 20;

/// How many faults of a body are told.
const MOST_TOLD: usize = 16;

/// A schema, compiled.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    status: StatusCode,
    /// How much of a body is read, in bytes.
    pub most: usize,
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    ///
    /// Fails with what is wrong with it.
    pub fn new(schema: &Value, status: StatusCode, most: usize) -> Result<Self, String> {
        let names_draft = schema.get("$schema").is_some();
        let options = jsonschema::options().should_validate_formats(true);
        let options = if names_draft {
            options
        } else {
            options.with_draft(Draft::Draft7)
        };
        let validator = options.build(schema).map_err(|err| err.to_string())?;
        Ok(Self {
            validator,
            status,
            most,
        })
    }

    /// Whether a body matches.
    ///
    /// # Errors
    ///
    /// Fails where it does not.
    pub fn check(&self, body: &[u8]) -> Result<(), Rejection> {
        let value = match serde_json::from_slice::<Unique>(body) {
            Ok(Unique(value)) => value,
            Err(err) => {
                let message = format!("JSON parsing error: {err}");
                return Err(refused(StatusCode::BAD_REQUEST, message));
            }
        };
        let faults: Vec<_> = self.validator.iter_errors(&value).collect();
        if faults.is_empty() {
            return Ok(());
        }
        let told: Vec<_> = faults.iter().flat_map(told).take(MOST_TOLD).collect();
        Err(refused(self.status, told.join("; ")))
    }
}

fn refused(status: StatusCode, message: String) -> Rejection {
    Rejection::custom("body_refused", status, message)
}

/// A fault as `gojsonschema` tells it; one for each property that should not be there.
fn told(fault: &ValidationError<'_>) -> Vec<String> {
    let place = place(fault.instance_path().as_str());
    match fault.kind() {
        Kind::Required { property } => {
            let name = text(property);
            vec![format!("{name}: {name} is required")]
        }
        Kind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| format!("{name}: Additional property {name} is not allowed"))
            .collect(),
        kind => vec![format!("{place}: {}", says(kind, fault, &place))],
    }
}

fn says(kind: &Kind, fault: &ValidationError<'_>, place: &str) -> String {
    let given = fault.instance();
    match kind {
        Kind::Type { kind } => {
            let expected = match kind {
                TypeKind::Single(kind) => kind.to_string(),
                TypeKind::Multiple(kinds) => {
                    let kinds: Vec<_> = kinds.iter().map(|kind| kind.to_string()).collect();
                    kinds.join(",")
                }
            };
            format!(
                "Invalid type. Expected: {expected}, given: {}",
                type_of(given)
            )
        }
        Kind::AnyOf { .. } => "Must validate at least one schema (anyOf)".into(),
        Kind::OneOfNotValid { .. } | Kind::OneOfMultipleValid { .. } => {
            "Must validate one and only one schema (oneOf)".into()
        }
        Kind::Not { .. } => "Must not validate the schema (not)".into(),
        Kind::Constant { expected_value } => format!("{place} does not match: {expected_value}"),
        Kind::Enum { options } => {
            let options = options.as_array().into_iter().flatten();
            let options: Vec<_> = options.map(ToString::to_string).collect();
            let options = options.join(", ");
            format!("{place} must be one of the following: {options}")
        }
        Kind::AdditionalItems { .. } => "No additional items allowed on array".into(),
        Kind::MinItems { limit } => format!("Array must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("Array must have at most {limit} items"),
        Kind::UniqueItems => "array items must be unique".into(),
        Kind::Contains => "At least one of the items must match".into(),
        Kind::MinProperties { limit } => format!("Must have at least {limit} properties"),
        Kind::MaxProperties { limit } => format!("Must have at most {limit} properties"),
        Kind::PropertyNames { .. } => "Property name does not match".into(),
        Kind::MinLength { limit } => {
            format!("String length must be greater than or equal to {limit}")
        }
        Kind::MaxLength { limit } => format!("String length must be less than or equal to {limit}"),
        Kind::Pattern { pattern } => format!("Does not match pattern '{pattern}'"),
        Kind::Format { format } => format!("Does not match format '{format}'"),
        Kind::MultipleOf { multiple_of } => format!("Must be a multiple of {multiple_of}"),
        Kind::Minimum { limit } => format!("Must be greater than or equal to {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("Must be greater than {limit}"),
        Kind::Maximum { limit } => format!("Must be less than or equal to {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("Must be less than {limit}"),
        kind => format!("Does not match: {}", kind.keyword()),
    }
}

/// `/a/0/b` as `a.0.b`, and the whole as `(root)`.
fn place(pointer: &str) -> String {
    let mut place = String::new();
    for part in pointer.split('/').skip(1) {
        let dot = if place.is_empty() { "" } else { "." };
        let part = part.replace("~1", "/").replace("~0", "~");
        let _ = write!(place, "{dot}{part}"); // Into a text nothing fails.
    }
    if place.is_empty() {
        "(root)".into()
    } else {
        place
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The status and the message of a refusal.
    #[track_caller]
    fn check(schema: Value, body: &str, expected: Option<(u16, &str)>) {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let schema = Schema::new(&schema, status, MOST).expect("a schema");
        let refused = schema.check(body.as_bytes()).err();
        let found = refused
            .as_ref()
            .map(|refused| (refused.status().as_u16(), refused.message()));
        assert_eq!(found, expected, "{body}");
    }

    #[test]
    fn faults_are_told_as_tyk_tells_them() {
        let needs_a = || {
            json!({"type": "object", "required": ["a"], "additionalProperties": false,
            "properties": {"a": {"type": "integer", "minimum": 2}, "b": {"type": "string", "maxLength": 1}}})
        };
        check(needs_a(), r#"{"a": 2}"#, None);
        check(needs_a(), "{}", Some((422, "a: a is required")));
        check(
            needs_a(),
            r#"{"a": "x"}"#,
            Some((422, "a: Invalid type. Expected: integer, given: string")),
        );
        check(
            needs_a(),
            "[]",
            Some((422, "(root): Invalid type. Expected: object, given: array")),
        );
        check(
            needs_a(),
            r#"{"a": 2, "c": 1}"#,
            Some((422, "c: Additional property c is not allowed")),
        );
        check(
            needs_a(),
            r#"{"a": 1, "b": "xy"}"#,
            Some((
                422,
                "a: Must be greater than or equal to 2; \
                 b: String length must be less than or equal to 1",
            )),
        );
        check(
            json!({"properties": {"a": {"items": {"enum": ["x", 1]}}}}),
            r#"{"a": ["x", "y"]}"#,
            Some((422, r#"a.1: a.1 must be one of the following: "x", 1"#)),
        );
        check(
            json!({"type": "string", "format": "date"}),
            r#""soon""#,
            Some((422, "(root): Does not match format 'date'")),
        );
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let refused = |body: &str| {
            let schema = Schema::new(&json!({}), StatusCode::IM_A_TEAPOT, MOST);
            let refused = schema.expect("a schema").check(body.as_bytes());
            refused.expect_err(body).status().as_u16()
        };
        for body in [
            "",
            "{",
            "{} {}",
            r#"{"a": 1, "a": 2}"#,
            r#"[{"b": {"a": 1, "a": 1}}]"#,
        ] {
            assert_eq!(refused(body), 400, "{body}");
        }
    }

    #[test]
    fn a_schema_that_can_not_be_followed_is_told() {
        for schema in [
            json!({"type": "objekt"}),
            json!({"properties": {"a": {"minimum": "1"}}}),
            json!({"$ref": "http://schemas.test/other.json"}),
            json!({"pattern": "("}),
        ] {
            let compiled = Schema::new(&schema, StatusCode::OK, MOST);
            assert!(compiled.is_err(), "{schema}");
        }
    }
}
