//! A URL that is rewritten, beside the regular expression alone.

use std::hint::black_box;

use http::HeaderMap;
use regex::bytes::Regex;
use tollgate::{
    meta::MetaData,
    rewrite::{Facts, Rewrite, RewriteTrigger},
    variables::NoContext,
};
use tollgate_bench::{Variant, run};

use crate::{CALLS, ROUNDS};

const URL: &str = "/v1/items/7?page=2";
const PATTERN: &str = "^/v1/([a-z]+)/(.*)$";

fn meta() -> MetaData {
    serde_json::from_str(r#"{"user": "joe", "plan": "gold"}"#).expect("metadata")
}

fn applied(name: &str, rewrite: Rewrite) -> Variant {
    let meta = meta();
    let mut headers = HeaderMap::new();
    headers.insert("x-tier", "gold-plus".parse().expect("a value"));
    Variant::of_calls(name, move || {
        let facts = Facts {
            url: black_box(URL),
            headers: &headers,
            meta: Some(&meta),
            context: &NoContext,
            payload: b"",
        };
        black_box(rewrite.apply(&facts).is_ok());
    })
}

fn rewrite(pattern: &str, target: &str) -> Rewrite {
    Rewrite::new(pattern, target).expect("a rewrite")
}

pub(crate) async fn print() {
    let regex = Regex::new(PATTERN).expect("compiles");
    let alone = Variant::of_calls("the expression alone, with its groups", move || {
        let mut at = regex.capture_locations();
        black_box(
            regex
                .captures_read(&mut at, black_box(URL).as_bytes())
                .is_some(),
        );
    });
    let regex = Regex::new(PATTERN).expect("compiles");
    let asked = Variant::of_calls("the expression alone, without", move || {
        black_box(regex.is_match(black_box(URL).as_bytes()));
    });
    let trigger = RewriteTrigger::any("/gold/$1").header("x-tier", "^gold");
    let variants = vec![
        asked,
        applied("to a text", rewrite(PATTERN, "/v2/items")),
        alone,
        applied("to two groups", rewrite(PATTERN, "/v2/$1/$2")),
        applied(
            "to two groups and metadata",
            rewrite(PATTERN, "/$tyk_meta.plan/$1/$2"),
        ),
        applied(
            "to another host",
            rewrite(PATTERN, "http://up.example/v2/$1/$2"),
        ),
        applied(
            "to two groups, after a trigger's header",
            rewrite(PATTERN, "/v2/$1/$2")
                .when(trigger)
                .expect("a trigger"),
        ),
        applied("not at all", rewrite("^/v2/(.*)$", "/v3/$1")),
    ];
    let rows = run(variants, ROUNDS, CALLS).await;
    tollgate_bench::print("A URL", &rows, 0);
}
