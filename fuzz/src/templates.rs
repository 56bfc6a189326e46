//! Templates. The first line is a body of JSON, and all behind it the template.

use serde_json::Value;
use tollgate_template::{ErrorKind, Input, Limits, Options, RenderError, Template, json};

/// What an input may take, so that its bounds are met soon.
const LIMITS: Limits = Limits {
    output: 1 << 16,
    memory: 1 << 20,
    document: 1 << 20,
    steps: 20_000,
    depth: 16,
};

/// Above this a body may be looked through and not read, which takes steps.
const LARGE: usize = 16 << 10;

/// Functions whose results are of the moment or of chance.
const RANDOM: [&str; 6] = ["rand", "shuffle", "uuid", "now", "ago", "date"];

/// Checks a template with a body.
pub fn check(data: &[u8]) {
    let line = data.iter().position(|byte| *byte == b'\n');
    let (body, text) = data.split_at(line.unwrap_or(data.len()));
    let text = text.strip_prefix(b"\n").unwrap_or(text);
    let template = match Options::new().with_limits(LIMITS).parse("t", text) {
        Ok(template) => template,
        Err(err) => {
            assert_eq!(err.kind(), ErrorKind::Parse);
            assert!(err.line() > 0 && err.column() > 0, "{err}");
            return;
        }
    };
    let secret = Value::from("$tyk_meta.secret {{ . }}");
    let besides = [
        ("_tyk_meta", Input::Json(&secret)),
        ("_tyk_context", Input::Missing),
    ];
    let rendered = template.render_json(body, &besides, &|_| String::new());
    if let Ok(text) = &rendered {
        assert!(text.len() <= LIMITS.output);
    }
    if !RANDOM.iter().any(|name| template.mentions(name)) {
        check_tree(&template, body, &besides, &rendered);
    }
}

/// A body that is read for the rendering and one that is read into a tree are the same, and stay so.
fn check_tree(
    template: &Template,
    body: &[u8],
    besides: &[(&str, Input<'_>)],
    rendered: &Result<Vec<u8>, RenderError>,
) {
    let Ok(document) = json(body) else {
        assert!(matches!(rendered, Err(RenderError::Input(_))));
        return;
    };
    if body.len() > LARGE || matches!(rendered, Err(RenderError::Input(_))) {
        return; // A tree has no bound.
    }
    let before = document.clone();
    let by_tree = template.render_with(&document, besides);
    assert_eq!(&by_tree.map_err(RenderError::from), rendered);
    assert_eq!(document, before);
}
