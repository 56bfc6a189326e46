//! A template, beside minijinja writing the same.

use std::hint::black_box;

use minijinja::{Environment, value::Serde};
use serde_json::{Value, json};
use tollgate_bench::{Variant, run};
use tollgate_template::Template;

use crate::{CALLS, ROUNDS};

/// The same document in both languages.
struct Sample {
    name: &'static str,
    go: &'static str,
    jinja: &'static str,
}

/// The seed documents' `{{ ._tyk_meta.jwt }}`, the template of `docs/transforms.md`, and one with a loop over
/// objects, which is what engines were compared with before one was chosen.
const SAMPLES: [Sample; 3] = [
    Sample {
        name: "metadata in a body",
        go: "{{ ._tyk_meta.jwt }}",
        jinja: "{{ _tyk_meta.jwt }}",
    },
    Sample {
        name: "a customer and items",
        go: r#"{"customer": {{ .name | jsonMarshal }}, "items": [{{ range $i, $item := .items }}{{ if $i }},{{ end }}{{ $item.id }}{{ end }}]}"#,
        jinja: r#"{"customer": {{ name | tojson }}, "items": [{% for item in items %}{% if not loop.first %},{% endif %}{{ item.id }}{% endfor %}]}"#,
    },
    Sample {
        name: "objects in a loop",
        go: r#"{"jwt":"{{ ._tyk_meta.jwt }}","items":[{{ range $i, $e := .items }}{{ if $i }},{{ end }}{"n":"{{ $e.name }}","i":{{ $e.id }}}{{ end }}],"e":"{{ .user.email }}"}"#,
        jinja: r#"{"jwt":"{{ _tyk_meta.jwt }}","items":[{% for e in items %}{% if not loop.first %},{% endif %}{"n":"{{ e.name }}","i":{{ e.id }}}{% endfor %}],"e":"{{ user.email }}"}"#,
    },
];

fn document() -> Value {
    json!({
        "_tyk_meta": {"jwt": "eyJhbGciOiJIUzI1NiJ9.e30.abc", "name": "joe"},
        "name": "Ann Lee",
        "items": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}],
        "user": {"email": "j@s.com"},
    })
}

impl Sample {
    /// minijinja first: with its own values, which it has to be given once a body; ours; and minijinja from
    /// what a body is parsed into.
    fn variants(&self) -> Vec<Variant> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .add_template("t", self.jinja)
            .expect("a template");
        let environment: &'static Environment<'static> = Box::leak(Box::new(environment));
        let theirs = environment.get_template("t").expect("is there");
        let ours = Template::parse("t", self.go).expect("a template");
        let document = document();
        let values = minijinja::Value::from(Serde(&document));
        let text = theirs.render(&values).expect("renders");
        assert_eq!(ours.render(&document).expect("renders"), text.as_bytes());
        let from = document.clone();
        vec![
            Variant::of_calls("minijinja, from its own values", move || {
                black_box(theirs.render(black_box(&values)).is_ok());
            }),
            Variant::of_calls("ours, from a parsed body", move || {
                black_box(ours.render(black_box(&document)).is_ok());
            }),
            Variant::of_calls("minijinja, from a parsed body", move || {
                let theirs = environment.get_template("t").expect("is there");
                let values = minijinja::Value::from(Serde(black_box(&from)));
                black_box(theirs.render(values).is_ok());
            }),
        ]
    }
}

pub(crate) async fn print() {
    for sample in SAMPLES {
        let rows = run(sample.variants(), ROUNDS, CALLS).await;
        tollgate_bench::print(&format!("A template: {}", sample.name), &rows, 0);
    }
}
