//! The worked examples of the specification, and what clients try.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use http::HeaderMap;
use tollgate_core::{
    meta::MetaData,
    rewrite::{
        Destination, Facts, Rewrite, RewriteFailed, RewriteFault, RewriteMatch, RewriteTrigger,
        Rewritten, TargetKind, UrlRewriteEntry,
    },
    variables::{Context, SecretName},
};

/// A request: its URL, headers, metadata and body.
#[derive(Clone, Copy, Default)]
struct Asked<'a> {
    url: &'a str,
    headers: &'a [(&'a str, &'a str)],
    meta: Option<&'a str>,
    body: &'a str,
}

fn url(url: &str) -> Asked<'_> {
    Asked {
        url,
        ..Asked::default()
    }
}

fn rewritten(rewrite: &Rewrite, asked: Asked<'_>) -> Result<Option<Rewritten>, RewriteFailed> {
    let mut headers = HeaderMap::new();
    for (name, value) in asked.headers {
        let name = http::HeaderName::try_from(*name).unwrap();
        headers.append(name, value.parse().unwrap());
    }
    let meta: Option<MetaData> = asked.meta.map(|meta| serde_json::from_str(meta).unwrap());
    rewrite.apply(&Facts {
        url: asked.url,
        headers: &headers,
        meta: meta.as_ref(),
        context: &Fixed,
        payload: asked.body.as_bytes(),
    })
}

/// A context of one client.
struct Fixed;

impl Context for Fixed {
    fn write(&self, name: &str, out: &mut String) {
        match name {
            "k" => out.push_str("bar-baz"),
            "attack" => out.push_str("http$tyk_meta.secret/../x?admin=1"),
            _ => {}
        }
    }
}

fn shown(result: Result<Option<Rewritten>, RewriteFailed>) -> String {
    match result {
        Err(failed) => format!("{failed:?}"),
        Ok(None) => "unchanged".into(),
        Ok(Some(rewritten)) => match rewritten.destination {
            Destination::Path(path) => path.to_string(),
            Destination::Url(url) => url.to_string(),
            Destination::Internal(internal) => {
                let settings = &internal.settings;
                format!(
                    "{}:{} {:?} {:?} {}",
                    internal.api,
                    internal.path,
                    settings.method,
                    settings.limit,
                    settings.check_limits
                )
            }
            other => format!("{other:?}"),
        },
    }
}

#[track_caller]
fn check(pattern: &str, target: &str, asked: &str, expected: &str) {
    let rewrite = Rewrite::new(pattern, target).unwrap().with_tyk_values();
    let got = shown(rewritten(&rewrite, url(asked)));
    assert_eq!(got, expected, "{pattern} → {target} on {asked}");
}

#[track_caller]
fn check_meta(target: &str, meta: &str, tyk: &str, plain: &str) {
    let rewrite = Rewrite::new("/x", target).unwrap();
    let asked = Asked {
        meta: Some(meta),
        ..url("/x")
    };
    assert_eq!(shown(rewritten(&rewrite, asked)), plain, "{target}, plain");
    let rewrite = rewrite.with_tyk_values();
    assert_eq!(shown(rewritten(&rewrite, asked)), tyk, "{target}, as Tyk");
}

#[track_caller]
fn check_trigger(trigger: RewriteTrigger, asked: Asked<'_>, expected: &str) {
    let rewrite = Rewrite::new("", "/ignored").unwrap();
    let rewrite = rewrite.when(trigger).unwrap().with_tyk_values();
    assert_eq!(shown(rewritten(&rewrite, asked)), expected);
}

#[test]
fn cases_50_to_61_patterns_and_groups() {
    check(
        "/shop/line-items",
        "/new/place",
        "/shop/line%2Ditems",
        "/new/place",
    );
    check(
        "^(.+)%2[Dd](.+)$",
        "/new/place",
        "/shop/line%2Ditems",
        "/new/place",
    );
    check("/a/b/c", "/n", "/a/b/c", "/n");
    check("item/(.*)", "to/$1", "/item/X1", "/to/X1");
    check("item/(.*)", "/item/$1", "/item/X%2C", "/item/X%2C");
    check(
        "item/(.*)",
        "/item/$1",
        "/item/X%2C?a=y%2Cz",
        "/item/X%2C?a=y%2Cz",
    );
    let three = "/v/(.*)/s/(.*)/t/(.*)";
    check(three, "/o/$1/$2/$3", "/v/1/s/2/t/3", "/o/1/2/3");
    check(three, "/o/$3/$2/$1", "/v/1/s/2/t/3", "/o/3/2/1");
    check(
        "(.*)",
        "$1&add=that",
        "/p/q?one=this",
        "/p/q?one=this&add=that",
    );
    check(
        "/v/(.*)/s/(.*)/t(.*)",
        "/o/$2/$1$3",
        "/v/1/s/2/t?k=v",
        "/o/2/1?k=v",
    );
    check("/x", "/y", "/x?k=v", "/y");
    check("/x/(.*)", "/y/$1/$2/$0", "/x/1", "/y/1///x/1");
    check("/a$", "/n", "/a?x=1", "unchanged");
    check(
        "/(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)$",
        "/o/$1/$10",
        "/abcdefghij",
        "/o/a/j",
    );
    check("", "", "/x?q=1", "/");
    check("/x", "?a=1", "/x", "/?a=1");
    check("/x", "/a b/[c]", "/x", "/a%20b/%5Bc%5D");
    check(r"/w/(\w+)$", "/n/$1", "/w/%C3%A9", "unchanged");
}

#[test]
fn case_63_values_are_escaped_for_their_place() {
    let tenant = r#"{"tenant": "a b", "b": true, "l": ["a", "b c"]}"#;
    check_meta("/y/$tyk_meta.tenant", tenant, "/y/a+b", "/y/a%20b");
    check_meta("/y?t=$tyk_meta.tenant", tenant, "/y?t=a+b", "/y?t=a+b");
    check_meta("/y/$tyk_meta.b/e", tenant, "/y//e", "/y/true/e");
    check_meta("/y/$tyk_meta.l", tenant, "/y/a%2Cb%2Bc", "/y/a%2Cb%2Bc");
    check_meta("/y/$tyk_meta.none", tenant, "/y/", "/y/");
    let both = r#"{"a": "1", "ab": "2", "d": "$1"}"#;
    check_meta(
        "/$tyk_meta.a/$tyk_meta.ab/$tyk_meta.d",
        both,
        "/1/2/%241",
        "/1/2/%241",
    );
}

#[test]
fn attack_41_what_the_client_sends_is_never_expanded() {
    check(
        "/p/(.*)",
        "/q/$1",
        "/p/$tyk_meta.secret",
        "/q/$tyk_meta.secret",
    );
    check(
        "/p/(.*)",
        "/q/$1",
        "/p/$secret_env.X?y=$secret_conf.z",
        "/q/$secret_env.X?y=$secret_conf.z",
    );
    check("/s/(.*)/(.*)$", "/o/$1/$2", "/s/$2/zz", "/o/$2/zz");
    check("/nomatch", "/n", "/p/$tyk_meta.secret", "unchanged");
    check(
        "/x",
        "/y/$tyk_context.attack",
        "/x",
        "/y/http%24tyk_meta.secret%2F..%2Fx%3Fadmin%3D1",
    );
}

#[test]
fn attack_47_a_value_writes_no_parameters_and_climbs_nowhere() {
    let meta = r#"{"u": "httpd&admin=1", "t": "..", "s": "../../admin"}"#;
    check_meta(
        "/y?v=$tyk_meta.u",
        meta,
        "/y?v=httpd%26admin%3D1",
        "/y?v=httpd%26admin%3D1",
    );
    check_meta("/y/$tyk_meta.t/z", meta, "ByTarget", "ByTarget");
    check_meta(
        "/y/$tyk_meta.s",
        meta,
        "/y/..%2F..%2Fadmin",
        "/y/..%2F..%2Fadmin",
    );
}

#[test]
fn attack_23_what_matched_decoded_goes_on_encoded() {
    let pattern = "/f/(a .*)$";
    for (asked, expected) in [
        ("/f/a%20b%3Fadmin=1", "/g/a%20b%3Fadmin=1/z"),
        ("/f/a%20b%2Fadmin", "/g/a%20b%2Fadmin/z"),
        ("/f/a%20b%23c", "/g/a%20b%23c/z"),
        ("/f/a%20%C3%A9", "/g/a%20%C3%A9/z"),
        ("/f/a%20%FF", "/g/a%20%FF/z"),
        ("/f/x?q=%zz%20", "unchanged"),
    ] {
        check(pattern, "/g/$1/z", asked, expected);
    }
    check("/go\\?p=(.*)", "/g/$1", "/go?p=../admin", "ByRequest");
    check("/go\\?p=(.*)", "/g/$1", "/go?p=%zz", "ByRequest");
    check("/go\\?p=(.*)", "/g/$1", "/go?p=a\\b", "ByRequest");
    check("/go\\?p=(.*)", "/g/$1", "/go?p=..%2Fadmin", "ByRequest");
}

#[test]
fn the_client_chooses_no_host() {
    check(
        "/go\\?u=(.*)",
        "$1",
        "/go?u=http://evil/x",
        "/http://evil/x",
    );
    check("/go\\?u=(.*)", "/$1", "/go?u=/evil/x", "//evil/x");
    check("/x(.*)", "http://up:1/b$1", "/x/y?z", "http://up:1/b/y?z");
    check("/x(.*)", "http://up$1", "/x/y", "http://up/y");
    check("/x(.*)", "http://up$1", "/x", "http://up/");
    check("/x(.*)", "http://up$1", "/x.evil/", "ByRequest");
    check("/x(.*)", "http://up$1", "/x@evil/", "ByRequest");
    check("/x(.*)", "http://up$1", "/x:99/", "ByRequest");
    for target in [
        "http://$1/",
        "http://$tyk_context.k/",
        "http://up.$tyk_context.k/x",
        "https://$tyk_meta.a$1",
    ] {
        let err = Rewrite::new("/x", target).unwrap_err();
        assert!(
            matches!(err.fault(), RewriteFault::HostFromRequest(_)),
            "{target}: {err}"
        );
    }
    let meta = r#"{"h": "eu.example", "bad": "a@b", "u": "http://up/p?z=1", "p": "/p"}"#;
    check_meta(
        "http://$tyk_meta.h/x",
        meta,
        "http://eu.example/x",
        "http://eu.example/x",
    );
    check_meta(
        "http://api.$tyk_meta.h/x",
        meta,
        "http://api.eu.example/x",
        "http://api.eu.example/x",
    );
    check_meta("http://$tyk_meta.bad/x", meta, "ByTarget", "ByTarget");
    check_meta("http://$tyk_meta.none/x", meta, "ByTarget", "ByTarget");
    check_meta("$tyk_meta.u", meta, "http://up/p?z=1", "http://up/p?z=1");
    check_meta("$tyk_meta.p", meta, "/%2Fp", "/%2Fp");
}

#[test]
fn settings_of_loops_are_read_in_the_text_alone() {
    check("/a", "tyk://self/b", "/a", "self:/b None None false");
    check("/a", "TYK://self/b", "/a", "self:/b None None false");
    check("/a", "tyk://self", "/a", "self:/ None None false");
    check("/a", "tyk://self?x=1", "/a", "self:/?x=1 None None false");
    check(
        "/a",
        "tyk://other api/b?method=POST&foo=bar&loop_limit=3&check_limits=true",
        "/a",
        "other api:/b?foo=bar Some(POST) Some(3) true",
    );
    check(
        "/a",
        "tyk://self/b?loop_limit=-3&check_limits=1",
        "/a",
        "self:/b None None false",
    );
    check(
        "/a(.*)",
        "tyk://self/b$1",
        "/a?method=DELETE",
        "self:/b?method=DELETE None None false",
    );
    check("/a(.*)", "tyk://self$1", "/a/c", "self:/c None None false");
    check("/a", "tyk:///b", "/a", ":/b None None false");
    check("/a(.*)", "tyk://self$1", "/aelse", "ByRequest");
    for (target, wrong) in [
        (
            "tyk://$1/b",
            RewriteFault::HostFromRequest("tyk://$1/b".into()),
        ),
        (
            "tyk://$tyk_meta.a/b",
            RewriteFault::NameNotText("tyk://$tyk_meta.a/b".into()),
        ),
        (
            "tyk://self/?method=$1",
            RewriteFault::SettingNotText("method"),
        ),
        ("tyk://self/?method=a b", RewriteFault::Method("a b".into())),
        ("tyk://self/?loop_limit=101", RewriteFault::TooManyLoops),
    ] {
        let err = Rewrite::new("", target).unwrap_err();
        assert_eq!((err.place(), err.fault()), ("rewrite_to", &wrong));
    }
}

#[test]
fn what_can_never_work_is_refused_when_it_is_read() {
    let fault = |pattern, target| Rewrite::new(pattern, target).unwrap_err().to_string();
    let long = "a".repeat(20_000);
    for pattern in ["(", "/a(?=b)", r"(a)\1", &long, "((a{1000}){1000}){1000}"] {
        assert!(
            fault(pattern, "/x").starts_with("match_pattern: "),
            "{pattern:.20}"
        );
    }
    for target in [
        "/a%zz",
        "a:b/c",
        "/a/../b",
        "http://",
        "http://a@b/",
        "/\n",
        "http://h h/",
    ] {
        assert!(fault("", target).starts_with("rewrite_to: "), "{target}");
    }
    assert_eq!(
        fault("", "$secret_env.X"),
        "rewrite_to: names a secret, and there are none here"
    );
    let place = |trigger| {
        let rewrite = Rewrite::new("", "/").unwrap();
        rewrite.when(trigger).unwrap_err().place().to_owned()
    };
    let member = "triggers[0].options";
    assert_eq!(
        place(RewriteTrigger::any("/").header("x", "(")),
        format!("{member}.header_matches.x.match_rx")
    );
    assert_eq!(
        place(RewriteTrigger::any("/").header("x y", "a")),
        format!("{member}.header_matches.x y")
    );
    assert_eq!(
        place(RewriteTrigger::any("/").payload("(")),
        format!("{member}.payload_matches.match_rx")
    );
    assert_eq!(place(RewriteTrigger::any("a:b")), "triggers[0].rewrite_to");
    check("", "ftp://h/x", "/", "ByTarget");
    check("", "//127.0.0.1:1/y", "/", "/y");
}

#[test]
fn secrets_are_part_of_the_text() {
    let entry = UrlRewriteEntry {
        match_pattern: "/x".into(),
        rewrite_to: "/y?k=$secret_conf.tok&n=$secret_conf.none".into(),
        ..UrlRewriteEntry::default()
    };
    let secret = |name: SecretName<'_>| (name.name == "tok").then(|| "t$1$tyk_meta.a".to_owned());
    let rewrite = Rewrite::of_entry(&entry, secret).unwrap();
    assert_eq!(
        shown(rewritten(&rewrite, url("/x"))),
        "/y?k=t$1$tyk_meta.a&n="
    );
}

#[test]
fn cases_66_to_77_headers_and_queries_trigger() {
    let tier = |target: &str| RewriteTrigger::any(target).header("x-tier", "gold");
    let gold = Asked {
        headers: &[("x-tier", "marigold-plus")],
        ..url("/x")
    };
    check_trigger(
        tier("/to/$tyk_context.trigger-0-X-Tier-0"),
        gold,
        "/to/gold",
    );
    check_trigger(tier("/to"), url("/x"), "/ignored");
    let group = RewriteTrigger::any(
        "/to/$tyk_context.trigger-0-X-Tier-0-0/$tyk_context.trigger-0-X-Tier-0",
    );
    check_trigger(
        group.header("x-tier", r"gold-(\w+)"),
        gold,
        "/to/plus/gold-plus",
    );
    let two = |on: fn(&'static str) -> RewriteTrigger| {
        on("/to/$tyk_context.trigger-0-X-Zone-0")
            .header("x-tier", "gold")
            .header("x-zone", "bar")
    };
    let zone = Asked {
        headers: &[("x-zone", "bar")],
        ..url("/x")
    };
    check_trigger(two(RewriteTrigger::any), zone, "/to/bar");
    check_trigger(two(RewriteTrigger::all), zone, "/ignored");
    let both = Asked {
        headers: &[("x-zone", "bar"), ("x-tier", "gold")],
        ..url("/x")
    };
    check_trigger(two(RewriteTrigger::all), both, "/to/bar");
    let twice = Asked {
        headers: &[("x-zone", "bar"), ("x-zone", "bar")],
        ..url("/x")
    };
    check_trigger(two(RewriteTrigger::all), twice, "/ignored");
    let not = RewriteTrigger::any("/to/[$tyk_context.trigger-0-X-A-0]")
        .header("x-a", RewriteMatch::not("^1$"));
    for (headers, expected) in [
        (&[("x-a", "2")][..], "/to/%5B%5D"),
        (&[("x-a", "1")], "/ignored"),
        (&[], "/ignored"),
        (&[("x-a", "1"), ("x-a", "2")], "/to/%5B%5D"),
    ] {
        check_trigger(
            not.clone(),
            Asked {
                headers,
                ..url("/x")
            },
            expected,
        );
    }
    let query = RewriteTrigger::any("/to/[$tyk_context.trigger-0-a-0][$tyk_context.trigger-0-a-1]")
        .query("a", "2");
    check_trigger(query, url("/x?a=1&a=2"), "/to/%5B%5D%5B2%5D");
    let all = RewriteTrigger::all("/to/$tyk_context.trigger-0-b-0")
        .query("a", "foo")
        .query("b", "bar");
    check_trigger(all, url("/x?a=foo&b=bar"), "/to/bar");
}

#[test]
fn cases_78_to_89_bodies_segments_and_sessions_trigger() {
    let body = Asked {
        body: r#"{"p":"sku12","q":"sku34"}"#,
        ..url("/x")
    };
    let payload = |target: &str, pattern: &str| RewriteTrigger::any(target).payload(pattern);
    let names = "/to/$tyk_context.trigger-0-payload/$tyk_context.trigger-0-payload-1";
    check_trigger(payload(names, r"sku\w*"), body, "/to/sku12/sku34");
    let groups = "/to/$tyk_context.trigger-0-payload-0-0/$tyk_context.trigger-0-payload-1-0/[$tyk_context.trigger-0-payload-2-0]";
    check_trigger(payload(groups, r"sku(\w*)"), body, "/to/12/34/%5B%5D");
    check_trigger(
        RewriteTrigger::any("/to").payload(RewriteMatch::not("bar")),
        url("/x"),
        "/to",
    );
    let parts = RewriteTrigger::any(
        "/to/$tyk_context.trigger-0-pp-0-0/$tyk_context.trigger-0-pp-0/[$tyk_context.trigger-0-pp-1]",
    );
    check_trigger(
        parts.path_part("pp", "foo(.?)"),
        url("/t/foo1/r/foo2"),
        "/to/1/foo1/%5Bfoo2%5D",
    );
    let labels = RewriteTrigger::all("/to")
        .path_part("a", "^foo$")
        .path_part("b", "^bar$");
    check_trigger(labels.clone(), url("/t/foo/bar"), "/to");
    check_trigger(labels, url("/t/foo/foo"), "/ignored");
    let route = RewriteTrigger::any(
        "/to/$tyk_context.trigger-0-route-0/$tyk_context.trigger-0-route/$tyk_meta.v",
    );
    let route = route.session_meta("route", r"bar-(\w+)");
    let meta = |meta| Asked {
        meta: Some(meta),
        ..url("/x")
    };
    check_trigger(
        route.clone(),
        meta(r#"{"route": "bar-baz", "v": "val"}"#),
        "/to/baz/bar-baz/val",
    );
    check_trigger(route.clone(), meta(r#"{"route": 5}"#), "/ignored");
    check_trigger(route, url("/x"), "/ignored");
    let context = RewriteTrigger::any("/to/$tyk_context.trigger-0-k").context("k", "bar");
    check_trigger(context, url("/x"), "/to/bar");
    check_trigger(RewriteTrigger::all("/to"), url("/x"), "/to");
    check_trigger(RewriteTrigger::any("/to"), url("/x"), "/ignored");
}

#[test]
fn the_first_trigger_that_fires_decides_and_tells_its_variables() {
    let rewrite = Rewrite::new("/x", "/base")
        .and_then(|it| it.when(RewriteTrigger::any("/one").header("x-a", "1")))
        .and_then(|it| {
            it.when(RewriteTrigger::any("/two/$tyk_context.trigger-1-X-B-0").header("x-b", "(2)"))
        })
        .unwrap()
        .telling(["trigger-1-X-B-0-0", "trigger-0-X-A-0"]);
    let got = |headers| {
        rewritten(
            &rewrite,
            Asked {
                headers,
                ..url("/x")
            },
        )
        .unwrap()
        .unwrap()
    };
    let both = got(&[("x-a", "1"), ("x-b", "2")]);
    assert_eq!(
        (both.target, shown(Ok(Some(both.clone())))),
        (1, "/one".into())
    );
    let two = got(&[("x-b", "2")]);
    assert_eq!(
        (two.target, shown(Ok(Some(two.clone())))),
        (2, "/two/2".into())
    );
    let mut told = String::new();
    two.variables.write("trigger-1-X-B-0-0", &mut told);
    assert_eq!(told, "2");
    assert_eq!(
        rewritten(
            &rewrite,
            Asked {
                headers: &[("x-a", "1")],
                ..url("/y")
            }
        ),
        Ok(None)
    );
    let kinds: Vec<_> = rewrite.target_kinds().collect();
    assert_eq!(kinds, [TargetKind::Path; 3]);
}
