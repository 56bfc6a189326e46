//! Definitions as Tyk's control API tells them: members that are not set are there, with their zero value.

use serde_json::{Map, Value};

/// The members of a definition, none of them set. What is inside of versions is told as it is kept.
const NONE_SET: &str = include_str!("definition.json");

/// The definition with all its members; as it is where it is no object.
pub(super) fn written_out(json: &str) -> String {
    let definition = serde_json::from_str(json);
    let (Ok(mut definition), Ok(members)) = (definition, serde_json::from_str(NONE_SET)) else {
        return json.to_owned();
    };
    fill(&mut definition, members);
    Value::from(definition).to_string()
}

fn fill(object: &mut Map<String, Value>, members: Map<String, Value>) {
    for (name, none) in members {
        match (object.get_mut(&name), none) {
            (Some(Value::Object(member)), Value::Object(members)) => fill(member, members),
            (Some(_), _) => {}
            (None, none) => drop(object.insert(name, none)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_set_stays_and_what_is_not_is_told() {
        let kept =
            json!({"name": "a", "proxy": {"listen_path": "/a/"}, "auth_configs": {}, "own": 1});
        let told: Value = serde_json::from_str(&written_out(&kept.to_string())).unwrap();
        assert_eq!(told["name"], "a");
        assert_eq!(told["proxy"]["listen_path"], "/a/");
        assert_eq!(told["proxy"]["enable_load_balancing"], false);
        assert_eq!(told["auth_configs"], json!({}));
        assert_eq!(told["CORS"]["allowed_origins"], Value::Null);
        assert_eq!(told["own"], 1);
        assert_eq!(told.get("version_data"), None);
        assert_eq!(written_out("[]"), "[]");
    }
}
