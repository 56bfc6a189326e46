//! A place in a JSON body, and what must stand there: `body_field` and `body_value`.

use serde_json::Value;

/// A place, and what must stand there.
#[derive(Debug)]
pub(super) struct Field {
    /// Names of members, or indexes of items, from the outside in.
    steps: Vec<String>,
    value: String,
}

impl Field {
    /// A path as `error.code` or `errors.0.code`; a point in a name has a `\` before it. Without a path or a value
    /// there is nothing to look for, as in Tyk.
    ///
    /// # Errors
    ///
    /// Fails with a path that asks for more than one place.
    pub(super) fn parse(path: &str, value: &str) -> Result<Option<Self>, String> {
        if path.is_empty() || value.is_empty() {
            return Ok(None);
        }
        if path.contains(['#', '*', '?', '|', '@', '{', '[']) {
            return Err(format!(
                "`{path}`: expected names and indexes with points between, as `error.code`"
            ));
        }
        let (mut steps, mut step) = (Vec::new(), String::new());
        let mut chars = path.chars();
        while let Some(char) = chars.next() {
            match char {
                '.' => steps.push(std::mem::take(&mut step)),
                '\\' => step.extend(chars.next()),
                char => step.push(char),
            }
        }
        steps.push(step);
        let value = value.to_owned();
        Ok(Some(Self { steps, value }))
    }

    /// Whether the value stands there. A body that is no JSON has no such place.
    pub(super) fn is_in(&self, body: &[u8]) -> bool {
        let Ok(root) = serde_json::from_slice::<Value>(body) else {
            return false;
        };
        let mut found = &root;
        for step in &self.steps {
            let next = match found {
                Value::Array(items) => step.parse().ok().and_then(|at: usize| items.get(at)),
                value => value.get(step),
            };
            let Some(next) = next else {
                return false;
            };
            found = next;
        }
        let text = match found {
            Value::String(text) => text.clone(),
            Value::Null => return false,
            other => other.to_string(),
        };
        text == self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_by_names_and_indexes() {
        let body = br#"{"error": {"code": "E1", "n": 7, "is": true, "a.b": "x"}, "all": [{"id": 1}], "no": null}"#;
        for (path, value, expected) in [
            ("error.code", "E1", Some(true)),
            ("error.code", "E2", Some(false)),
            ("error.n", "7", Some(true)),
            ("error.is", "true", Some(true)),
            (r"error.a\.b", "x", Some(true)),
            ("error.a.b", "x", Some(false)),
            ("all.0.id", "1", Some(true)),
            ("all.1.id", "1", Some(false)),
            ("all.0", r#"{"id":1}"#, Some(true)),
            ("no", "null", Some(false)),
            ("", "x", None),
            ("error", "", None),
        ] {
            let field = Field::parse(path, value).unwrap();
            let is_there = field.map(|field| field.is_in(body));
            assert_eq!(is_there, expected, "{path} {value}");
        }
        let field = Field::parse("a", "1").unwrap().unwrap();
        assert!(!field.is_in(b"no json") && !field.is_in(b""));
        assert!(Field::parse("all.#.id", "1").is_err());
    }
}
