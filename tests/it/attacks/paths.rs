//! C. Rights and paths.

use super::*;

const RIGHTS: &str =
    r#"{"access_rights": {"orders": {"allowed_urls": [{"url": "^/open", "methods": ["GET"]}]}}}"#;

#[tokio::test]
async fn attack_22_a_path_that_is_not_clean_is_refused() {
    let paths = [
        "//open",
        "/./open",
        "/x/../open",
        "/open/../admin",
        "/open//admin",
        "/open/.",
    ];
    let attacks = paths.map(|path| ask(path, "joes-key"));
    check(|stack| stack.api("orders"), RIGHTS, 400, attacks).await;
    // Another spelling is another path.
    let others = ["/OPEN", "/admin;x=/open", "/admin/open"].map(|path| ask(path, "joes-key"));
    check(|stack| stack.api("orders"), RIGHTS, 403, others).await;
}

#[tokio::test]
async fn attack_23_a_path_that_hides_something_is_refused() {
    let paths = [
        "/open/%2e%2e/admin",
        "/open/..%2fadmin",
        "/open%2Fadmin",
        "/open%5cadmin",
        "/open/%252e%252e/x",
        "/open/%00",
        "/open/%c0%af",
        "/open/%u002f",
        "/open/%zz",
        "/open/%0d%0ax",
    ];
    let attacks = paths.map(|path| ask(path, "joes-key"));
    check(|stack| stack.api("orders"), RIGHTS, 400, attacks).await;
}

#[tokio::test]
async fn attack_24_other_forms_of_a_target_have_no_other_path() {
    let request = |target: &str, method: Method| {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("authorization", "joes-key");
        request.body(Body::empty()).unwrap()
    };
    let absolute = request("http://other.example/admin", Method::GET);
    check(|stack| stack.api("orders"), RIGHTS, 403, vec![absolute]).await;
    let odd = vec![
        request("*", Method::OPTIONS),
        request("http://x//open", Method::GET),
    ];
    check(|stack| stack.api("orders"), RIGHTS, 400, odd).await;
}

#[tokio::test]
async fn attack_25_a_query_is_no_part_of_the_path() {
    let paths =
        ["/admin?/open", "/admin?x=^/open", "/admin%3f/open"].map(|path| ask(path, "joes-key"));
    check(|stack| stack.api("orders"), RIGHTS, 403, paths).await;
}

#[tokio::test]
async fn attack_26_strict_patterns_match_whole_paths() {
    let rights = r#"{"access_rights": {"orders": {"allowed_urls": [
        {"url": "/open", "methods": ["GET"]}, {"url": "/users/1", "methods": ["GET"]}]}}}"#;
    let strict = Rules {
        paths: PathOptions::strict(),
        ..Rules::default()
    };
    let paths =
        ["/opening", "/x/open", "/users/10", "/users/1/keys"].map(|path| ask(path, "joes-key"));
    check(
        |stack| stack.api("orders").rules(strict),
        rights,
        403,
        paths,
    )
    .await;
}

#[tokio::test]
async fn attack_27_a_pattern_that_does_not_compile_opens_nothing() {
    let rights = r#"{"access_rights": {"orders": {"allowed_urls": [
        {"url": "^/open$", "methods": ["GET"]}, {"url": "(admin", "methods": ["GET"]}, {"url": "^/(?=x)", "methods": ["GET"]}]}}}"#;
    let paths = ["/admin", "/x", "/(admin"].map(|path| ask(path, "joes-key"));
    check(|stack| stack.api("orders"), rights, 403, paths).await;
}

#[tokio::test]
async fn attack_28_patterns_are_bounded_in_size_and_time() {
    let huge = "a".repeat(10 << 20);
    let rights = format!(
        r#"{{"access_rights": {{"orders": {{"allowed_urls": [{{"url": "^/open$", "methods": ["GET"]}},
            {{"url": "{huge}", "methods": ["GET"]}}, {{"url": "((a{{1000}}){{1000}}){{1000}}", "methods": ["GET"]}},
            {{"url": "^/(a+)+$", "methods": ["GET"]}}]}}}}}}"#
    );
    let long = format!("/{}!", "a".repeat(60_000));
    check(
        |stack| stack.api("orders"),
        &rights,
        403,
        vec![ask(&long, "joes-key")],
    )
    .await;
}

#[tokio::test]
async fn attack_29_rights_look_at_the_method_that_is_sent() {
    let method = |method: &str| {
        let request = Request::builder()
            .method(method)
            .uri("/open")
            .header("authorization", "joes-key");
        request
            .header("x-http-method-override", "GET")
            .body(Body::empty())
            .unwrap()
    };
    let methods = ["POST", "get", "TRACE", "CONNECT", "BREW", "HEAD"].map(method);
    check(|stack| stack.api("orders"), RIGHTS, 403, methods).await;
}

#[tokio::test]
async fn attack_30_one_rule_says_which_version_is_called() {
    let rights = r#"{"access_rights": {"orders": {"versions": ["v1"]}}}"#;
    let rule = VersionRule {
        known: vec!["v1".into(), "v2".into()],
        default_version: "v1".into(),
        ..Default::default()
    };
    let attacks = vec![
        with_header("/open?version=v1", "x-version", b"v2"),
        with_header("/v1/open", "x-version", b"v2"),
    ];
    let by_header = |stack: Builder| {
        stack.api("orders").versions(rule, |head| {
            Some(head.headers.get("x-version")?.to_str().ok()?.into())
        })
    };
    check(by_header, rights, 403, attacks).await;
}

#[tokio::test]
async fn attack_31_an_empty_list_of_paths_opens_all_of_the_api_and_no_other() {
    for urls in ["", r#""allowed_urls": null"#, r#""allowed_urls": []"#] {
        let rights = format!(r#"{{"access_rights": {{"orders": {{{urls}}}}}}}"#);
        let service = |api: &str| {
            let store = store(&[("joes-key", &rights)]);
            Tollgate::builder(store)
                .api(api)
                .build()
                .unwrap()
                .layer()
                .layer(ok())
        };
        assert_eq!(
            status(&service("orders"), ask("/any", "joes-key")).await,
            200
        );
        assert_eq!(
            status(&service("users"), ask("/any", "joes-key")).await,
            403
        );
    }
    // No rights at all are no rights, unless master keys are allowed.
    check(
        |stack| stack.api("orders"),
        RIGHTS,
        403,
        vec![ask("/admin", "joes-key")],
    )
    .await;
    let master = store(&[("joes-key", "{}")]);
    let service = Tollgate::builder(master)
        .api("orders")
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 403);
}

#[tokio::test]
async fn attack_33_upgrades_and_streams_pass_the_same_gates() {
    let upgrade = |protocol: &str| {
        let mut request = with_header("/admin", "upgrade", protocol.as_bytes());
        request
            .headers_mut()
            .insert("connection", "upgrade".parse().unwrap());
        request
    };
    let attacks = vec![
        upgrade("websocket"),
        upgrade("h2c"),
        with_header("/admin", "accept", b"text/event-stream"),
    ];
    check(|stack| stack.api("orders"), RIGHTS, 403, attacks).await;
}
