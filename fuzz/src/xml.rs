//! Documents of XML.

use serde_json::Value;
use tollgate_template::{MixedContent, Template, xml};

/// Checks a document.
pub fn check(data: &[u8]) {
    let joined = xml(data, MixedContent::Joined);
    let as_tyk = xml(data, MixedContent::Tyk);
    assert_eq!(joined.is_ok(), as_tyk.is_ok());
    for document in [joined, as_tyk].into_iter().flatten() {
        check_shape(&document, 0);
        check_written(&document);
    }
}

/// Values are texts, and lists are of what came more than once.
fn check_shape(value: &Value, depth: usize) {
    assert!(depth <= 300, "nested without end");
    match value {
        Value::Object(members) => members
            .values()
            .for_each(|value| check_shape(value, depth + 1)),
        Value::Array(items) => {
            assert!(items.len() > 1, "a list of {}", items.len());
            items.iter().for_each(|item| {
                assert!(!item.is_array(), "a list in a list");
                check_shape(item, depth + 1);
            });
        }
        value => assert!(value.is_string(), "{value}"),
    }
}

/// What is written of a document is read as the same.
fn check_written(document: &Value) {
    let template = Template::parse("t", "{{ . | xmlMarshal }}").expect("a template");
    if let Ok(written) = template.render(document) {
        let read = xml(&written, MixedContent::Joined);
        let shown = String::from_utf8_lossy(&written);
        assert_eq!(read.as_ref(), Ok(document), "{shown}");
    }
}
