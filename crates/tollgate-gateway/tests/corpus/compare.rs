//! Whether what was observed is what was recorded.

use regex::Regex;
use serde_json::Value;

/// How far a time may be off, in seconds.
const TOLERANCE: f64 = 3.0;

/// Each difference as a line, with the place where it is.
pub(crate) fn compare(expected: &Value, got: &Value, place: &str, differences: &mut Vec<String>) {
    if is_equal(expected, got) {
        return;
    }
    match (expected, got) {
        (Value::Object(wanted), Value::Object(members)) if !is_pattern(expected) => {
            for (name, wanted) in wanted {
                match members.get(name) {
                    None if wanted.get("$any").is_some() => {}
                    Some(got) => compare(wanted, got, &format!("{place}.{name}"), differences),
                    None => {
                        differences.push(format!("{place}.{name}: expected {wanted}, got nothing"))
                    }
                }
            }
            for (name, got) in members
                .iter()
                .filter(|(name, _)| !wanted.contains_key(*name))
            {
                differences.push(format!("{place}.{name}: expected nothing, got {got}"));
            }
        }
        (Value::Array(wanted), Value::Array(values)) if wanted.len() == values.len() => {
            for (index, (wanted, got)) in wanted.iter().zip(values).enumerate() {
                compare(wanted, got, &format!("{place}[{index}]"), differences);
            }
        }
        _ => differences.push(format!("{place}: expected {expected}, got {got}")),
    }
}

fn is_pattern(expected: &Value) -> bool {
    ["$now_plus", "$any", "$regex"]
        .iter()
        .any(|name| expected.get(name).is_some())
}

fn is_equal(expected: &Value, got: &Value) -> bool {
    if let Some(seconds) = expected.get("$now_plus").and_then(Value::as_f64) {
        let got_seconds = got["$now_plus"].as_f64().unwrap_or(f64::INFINITY);
        return (got_seconds - seconds).abs() <= TOLERANCE && got.get("as") == expected.get("as");
    }
    if expected.get("$any").is_some() {
        return true;
    }
    if let Some(pattern) = expected.get("$regex").and_then(Value::as_str) {
        let pattern = Regex::new(&format!("^(?:{pattern})$")).expect("a case has a pattern");
        return got.as_str().is_some_and(|got| pattern.is_match(got));
    }
    match (expected, got) {
        // 1 and 1.0 are one number, as clients read them.
        (Value::Number(wanted), Value::Number(number)) => {
            wanted == number
                || (wanted.is_f64() != number.is_f64() && wanted.as_f64() == number.as_f64())
        }
        _ => expected == got,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(expected: &Value, got: &Value, differences: &[&str]) {
        let mut found = Vec::new();
        compare(expected, got, "step 0", &mut found);
        assert_eq!(found, differences, "{expected} {got}");
    }

    #[test]
    fn values_are_compared_by_what_they_are() {
        check(&json!({"a": [1, "x"]}), &json!({"a": [1.0, "x"]}), &[]);
        check(
            &json!({"a": 1}),
            &json!({"a": 2}),
            &["step 0.a: expected 1, got 2"],
        );
        check(
            &json!({"a": 1}),
            &json!({}),
            &["step 0.a: expected 1, got nothing"],
        );
        check(
            &json!({}),
            &json!({"a": 1}),
            &["step 0.a: expected nothing, got 1"],
        );
        check(
            &json!([1]),
            &json!([1, 2]),
            &["step 0: expected [1], got [1,2]"],
        );
        check(&json!(true), &json!(1), &["step 0: expected true, got 1"]);
        check(&json!(null), &json!({}), &["step 0: expected null, got {}"]);
    }

    #[test]
    fn patterns_stand_for_what_differs_from_run_to_run() {
        let in_a_minute = json!({"$now_plus": 60});
        check(&in_a_minute, &json!({"$now_plus": 63}), &[]);
        let late = r#"step 0: expected {"$now_plus":60}, got {"$now_plus":64}"#;
        check(&in_a_minute, &json!({"$now_plus": 64}), &[late]);
        let as_text = r#"step 0: expected {"$now_plus":60}, got {"$now_plus":60,"as":"rfc3339"}"#;
        check(
            &in_a_minute,
            &json!({"$now_plus": 60, "as": "rfc3339"}),
            &[as_text],
        );
        check(&json!({"$any": true}), &json!([1]), &[]);
        check(&json!({"$regex": "a|b+"}), &json!("bb"), &[]);
        check(
            &json!({"$regex": "a|b"}),
            &json!("ab"),
            &[r#"step 0: expected {"$regex":"a|b"}, got "ab""#],
        );
    }
}
